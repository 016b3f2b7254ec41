//! The state of a warp: registers, which lanes run where, which wait and which have ended.
//!
//! Each lane has a program counter; those with the least one run together. So lanes that a branch separated run
//! together again at the first instruction that all of them reach.

use super::alu::Lanes;
use super::code::{Code, Constant};
use super::memory::Span;
use super::race::Order;
use crate::ptx::inst::Type;

/// What a lane did wrong.
#[derive(Debug)]
pub(super) struct Fault {
    /// The lane.
    pub(super) lane: u32,
    /// What is wrong.
    pub(super) message: String,
}

/// A result, or what a lane did wrong.
pub(super) type Run<T> = Result<T, Box<Fault>>;

/// A fault of the first of some lanes.
pub(super) fn fault<T>(lanes: u32, message: impl Into<String>) -> Run<T> {
    Err(Box::new(Fault { lane: lanes.trailing_zeros().min(31), message: message.into() }))
}

/// The lanes of a mask.
pub(super) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        (lane < 32).then_some(lane)
    })
}

/// A `cp.async` that has not arrived.
#[derive(Debug)]
pub(super) struct Copy {
    /// The lane that waits for it.
    pub(super) lane: u32,
    /// The group of the lane that it is in.
    pub(super) group: u32,
    /// What it reads: an address, and how many bytes.
    pub(super) from: (u64, usize),
    /// Where in shared memory it arrives.
    pub(super) to: Span,
    /// What arrives.
    pub(super) data: [u8; 16],
}

/// A warp.
#[derive(Debug)]
pub(super) struct Warp {
    /// Which one of its block.
    pub(super) index: u32,
    /// The lanes that are threads of the block.
    pub(super) exists: u32,
    /// The lanes that run at `pc`; none if the warp waits or has ended.
    pub(super) active: u32,
    /// Where they run.
    pub(super) pc: u32,
    /// Lanes that run at later instructions.
    others: Vec<(u32, u32)>,
    /// The least instruction of those.
    next_other: u32,
    /// The lanes that wait at a barrier of the block.
    pub(super) waiting: u32,
    /// Where they wait.
    pub(super) waiting_at: u32,
    /// The lanes that have ended.
    pub(super) exited: u32,
    /// Whether other warps and blocks run before it goes on.
    pub(super) yields: bool,
    /// Rows: registers, then constants.
    pub(super) rows: Vec<Lanes>,
    /// The lanes of each row that have a value.
    written: Vec<u32>,
    predicates: Vec<u32>,
    predicates_written: Vec<u32>,
    /// The time of its last barrier.
    pub(super) barrier: u32,
    /// What barriers of parts of it ordered.
    pub(super) order: Option<Box<Order>>,
    /// Copies that have not arrived.
    pub(super) copies: Vec<Copy>,
    /// The group of each lane's next copy.
    pub(super) groups: [u32; 32],
    register_rows: usize,
}

/// The numbers of a launch that registers are set to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dims<'a> {
    /// Threads of a block.
    pub(super) threads: u32,
    /// Blocks.
    pub(super) blocks: u32,
    /// The values of the parameters.
    pub(super) params: &'a [u64],
}

impl Warp {
    /// A warp of a launch.
    pub(super) fn new(code: &Code, index: u32, dims: &Dims<'_>) -> Warp {
        let register_rows = code.register_rows();
        let present = dims.threads.saturating_sub(index * 32);
        let exists = if present >= 32 { !0 } else { (1 << present) - 1 };
        let predicates = code.registers[0] as usize;
        let mut rows = vec![[0; 32]; register_rows];
        rows.extend(code.constants.iter().map(|&constant| constant_row(constant, index, dims)));
        Warp {
            index,
            exists,
            active: 0,
            pc: 0,
            others: Vec::new(),
            next_other: u32::MAX,
            waiting: 0,
            waiting_at: 0,
            exited: 0,
            yields: false,
            written: vec![!0; rows.len()],
            rows,
            predicates: vec![0; predicates],
            predicates_written: vec![0; predicates],
            barrier: 0,
            order: None,
            copies: Vec::new(),
            groups: [0; 32],
            register_rows,
        }
    }

    /// Begins a block.
    pub(super) fn begin(&mut self, code: &Code, block: u32) {
        self.active = self.exists;
        self.pc = 0;
        self.others.clear();
        self.next_other = u32::MAX;
        (self.waiting, self.waiting_at, self.exited, self.barrier) = (0, 0, 0, 0);
        self.yields = false;
        self.order = None;
        self.copies.clear();
        self.groups = [0; 32];
        self.written[..self.register_rows].fill(0);
        self.predicates_written.fill(0);
        for (row, &constant) in self.rows[self.register_rows..].iter_mut().zip(&code.constants) {
            if constant == Constant::Ctaid {
                *row = [u64::from(block); 32];
            }
        }
    }

    /// A row that `lanes` read.
    pub(super) fn row(&self, code: &Code, row: u32, lanes: u32) -> Run<&Lanes> {
        let missing = lanes & !self.written[row as usize];
        if missing != 0 {
            return fault(missing, format!("it reads {}, which has no value", code.register(row)));
        }
        Ok(&self.rows[row as usize])
    }

    /// Sets a row for some lanes.
    pub(super) fn set(&mut self, row: u32, values: &Lanes, lanes: u32) {
        let to = &mut self.rows[row as usize];
        if lanes == !0 {
            *to = *values;
        } else {
            for (lane, (to, &value)) in to.iter_mut().zip(values).enumerate() {
                *to = if lanes >> lane & 1 == 1 { value } else { *to };
            }
        }
        self.written[row as usize] |= lanes;
    }

    /// A predicate that `lanes` read.
    pub(super) fn predicate(&self, p: u32, lanes: u32) -> Run<u32> {
        let missing = lanes & !self.predicates_written[p as usize];
        if missing != 0 {
            return fault(missing, format!("it reads %p{p}, which has no value"));
        }
        Ok(self.predicates[p as usize])
    }

    /// Sets a predicate for some lanes.
    pub(super) fn set_predicate(&mut self, p: u32, values: u32, lanes: u32) {
        let to = &mut self.predicates[p as usize];
        *to = (*to & !lanes) | (values & lanes);
        self.predicates_written[p as usize] |= lanes;
    }

    /// The running lanes go on at the next instruction.
    pub(super) fn next(&mut self) {
        self.pc += 1;
        if self.pc >= self.next_other {
            self.join();
        }
    }

    /// Some of the running lanes go on at `target`, the rest at the next instruction.
    pub(super) fn branch(&mut self, taken: u32, target: u32) {
        if taken == self.active {
            self.pc = target;
        } else {
            self.others.push((target, taken));
            self.active &= !taken;
            self.pc += 1;
        }
        if !self.others.is_empty() {
            self.join();
        }
    }

    /// Some of the running lanes do not go on, the rest do at the next instruction.
    fn stop(&mut self, lanes: u32) {
        self.active &= !lanes;
        self.pc += 1;
        if !self.others.is_empty() {
            self.join();
        }
    }

    /// Some of the running lanes end.
    pub(super) fn exit(&mut self, lanes: u32) {
        self.exited |= lanes;
        self.stop(lanes);
    }

    /// Some of the running lanes wait at a barrier of the block.
    pub(super) fn wait(&mut self, lanes: u32) {
        self.waiting |= lanes;
        self.waiting_at = self.pc;
        self.stop(lanes);
    }

    /// The barrier is complete: the lanes that wait go on.
    pub(super) fn release(&mut self) {
        self.active = self.waiting;
        self.pc = self.waiting_at + 1;
        self.waiting = 0;
    }

    /// Of all lanes, those with the least program counter become the running ones.
    fn join(&mut self) {
        if self.active != 0 {
            self.others.push((self.pc, self.active));
        }
        let Some(pc) = self.others.iter().map(|&(pc, _)| pc).min() else {
            self.next_other = u32::MAX;
            return;
        };
        self.pc = pc;
        self.active = 0;
        self.next_other = u32::MAX;
        let (active, next_other) = (&mut self.active, &mut self.next_other);
        self.others.retain(|&(at, lanes)| {
            if at == pc {
                *active |= lanes;
            } else {
                *next_other = at.min(*next_other);
            }
            at != pc
        });
    }

    /// The threads of a mask, for a message.
    pub(super) fn threads(&self, mask: u32) -> String {
        let first = self.index * 32 + mask.trailing_zeros().min(31);
        match mask.count_ones() {
            1 => format!("thread {first}"),
            n => format!("{n} threads from {first} on"),
        }
    }
}

/// A row that no instruction sets. The block's number is set when the block begins.
fn constant_row(constant: Constant, warp: u32, dims: &Dims<'_>) -> Lanes {
    match constant {
        Constant::Bits(bits) => [bits; 32],
        Constant::Tid => std::array::from_fn(|lane| u64::from(warp) * 32 + lane as u64),
        Constant::Ntid => [u64::from(dims.threads); 32],
        Constant::Ctaid => [0; 32],
        Constant::Nctaid => [u64::from(dims.blocks); 32],
        Constant::Laneid => std::array::from_fn(|lane| lane as u64),
        Constant::Param(n, ty, bits) => {
            let value = dims.params.get(n as usize).copied().unwrap_or(0);
            let extended = match ty {
                Type::S8 => value as i8 as u64,
                Type::S16 => value as i16 as u64,
                Type::S32 => value as i32 as u64,
                Type::Pred
                | Type::B8
                | Type::U8
                | Type::B16
                | Type::U16
                | Type::F16
                | Type::Bf16
                | Type::B32
                | Type::U32
                | Type::F32
                | Type::F16x2
                | Type::Bf16x2
                | Type::Tf32
                | Type::B64
                | Type::U64
                | Type::S64
                | Type::F64 => value,
            };
            [extended << (64 - bits) >> (64 - bits); 32]
        }
    }
}
