//! Register assignment of straight-line code, while it is emitted.

use smallvec::{SmallVec, smallvec};

use super::width::{MASK, Width};
use crate::lower::lane::{LaneBinary, LaneId, LaneOp, LaneProgram, LaneType};

/// The allocatable mask registers: not `k0` (which encodes no mask), `k1` (the tail mask), `k7` (a scratch register).
pub(super) const MASKS: std::ops::Range<usize> = 2..7;

/// Where a value is, apart from its register.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ValueLocation {
    Nowhere,
    Constant(u64),
    Row(u32),
    /// An accumulator of a reduction.
    Accumulator(usize),
    /// A spill slot.
    SpillSlot(usize),
    /// A fixed register, for programs of register operands.
    Fixed(usize),
}

/// The register assignment of a block.
pub(super) struct Registers<'p> {
    pub(super) program: &'p LaneProgram,
    pub(super) width: Width,
    /// The remaining uses of each value, as positions in descending order.
    pub(super) uses: Vec<Vec<usize>>,
    pub(super) register: Vec<Option<usize>>,
    pub(super) location: Vec<ValueLocation>,
    /// The values in the vector registers and in the mask registers.
    pub(super) banks: [Vec<Option<LaneId>>; 2],
    /// The number of spill slots in use.
    pub(super) spill_slots: usize,
}

/// Marks a register that is not allocatable.
const RESERVED: LaneId = LaneId(u32::MAX);

impl<'p> Registers<'p> {
    pub(super) fn new(program: &'p LaneProgram, roots: &[LaneId], width: Width, pool: usize) -> Self {
        let n = program.insts.len();
        // Backwards, so that each list is in descending order.
        let mut uses: Vec<Vec<usize>> = vec![Vec::new(); n];
        for (k, root) in roots.iter().enumerate().rev() {
            uses[root.index()].push(n + k);
        }
        for i in (0..n).rev() {
            if !uses[i].is_empty() {
                for x in operands(program, LaneId(i as u32), width) {
                    if uses[x.index()].last() != Some(&i) {
                        uses[x.index()].push(i);
                    }
                }
            }
        }
        let masks = (0..MASK.len()).map(|k| (!MASKS.contains(&k)).then_some(RESERVED)).collect();
        Registers {
            program,
            width,
            uses,
            register: vec![None; n],
            location: vec![ValueLocation::Nowhere; n],
            banks: [vec![None; pool], masks],
            spill_slots: 0,
        }
    }

    /// Makes the first `count` vector registers not allocatable.
    pub(super) fn reserve(&mut self, count: usize) {
        self.banks[0][..count].fill(Some(RESERVED));
    }

    /// The register bank of a value: 0 for vectors, 1 for masks.
    pub(super) fn bank(&self, id: LaneId) -> usize {
        usize::from(self.width == Width::Zmm && self.program.ty(id) == LaneType::Bool)
    }

    /// A free register.
    pub(super) fn free(&self, bank: usize) -> Option<usize> {
        self.banks[bank].iter().position(Option::is_none)
    }

    /// The positions of the live instructions.
    pub(super) fn live_positions(&self) -> Vec<usize> {
        (0..self.uses.len()).filter(|&i| !self.uses[i].is_empty()).collect()
    }

    /// The register pressure: the maximum number of live vectors and of live masks.
    pub(super) fn pressure(&self) -> (usize, usize) {
        let end = self.uses.iter().filter_map(|uses| uses.first()).max().map_or(0, |last| last + 1);
        // The live ranges that begin less those that end, at each position.
        let mut begun = vec![[0isize; 2]; end + 1];
        for i in self.live_positions() {
            let inst = self.program.insts[i];
            if !matches!(inst.op, LaneOp::Const(_)) {
                let bank = self.bank(LaneId(i as u32));
                begun[i][bank] += 1;
                begun[self.uses[i][0]][bank] -= 1;
            }
        }
        let (mut live, mut max) = ([0; 2], [0; 2]);
        for begun in begun {
            for bank in 0..2 {
                live[bank] += begun[bank];
                max[bank] = max[bank].max(live[bank]);
            }
        }
        (max[0] as usize, max[1] as usize)
    }

    /// Assigns a register to a value.
    pub(super) fn assign(&mut self, id: LaneId, register: usize) {
        let bank = self.bank(id);
        self.banks[bank][register] = Some(id);
        self.register[id.index()] = Some(register);
    }

    /// Whether the value is in a register and `at` is its last use.
    pub(super) fn is_last_use(&self, id: LaneId, at: usize) -> bool {
        self.register[id.index()].is_some() && self.uses[id.index()].first() == Some(&at)
    }

    /// Reassigns the register of `from` to `to`, which overwrites it.
    pub(super) fn reuse(&mut self, from: LaneId, to: LaneId, operands: &[LaneId], at: usize) {
        let register = self.register[from.index()].expect("it was just put in a register");
        self.release(operands, at);
        self.assign(to, register);
    }

    /// Records the use of `operands` at `at` and frees the registers of dead values.
    pub(super) fn release(&mut self, operands: &[LaneId], at: usize) {
        for &x in operands {
            let uses = &mut self.uses[x.index()];
            while uses.last().is_some_and(|&u| u <= at) {
                uses.pop();
            }
            if uses.is_empty()
                && let Some(register) = self.register[x.index()].take()
            {
                let bank = self.bank(x);
                self.banks[bank][register] = None;
            }
        }
    }

    /// The register to evict: the one whose value has the farthest next use. Locked values are not evicted.
    pub(super) fn eviction_candidate(&self, bank: usize, locked: &[LaneId]) -> usize {
        let next_use = |id: LaneId| self.uses[id.index()].last().copied().unwrap_or(usize::MAX);
        self.banks[bank]
            .iter()
            .enumerate()
            .filter_map(|(register, id)| id.map(|id| (register, id)))
            .filter(|(_, id)| *id != RESERVED && !locked.contains(id))
            .max_by_key(|(_, id)| next_use(*id))
            .map(|(register, _)| register)
            .expect("an instruction has fewer operands than there are registers")
    }
}

/// The `a` and `n` of a left rotation `a << n | a >> (32 - n)`, if the instruction set has it.
pub(super) fn rotation(program: &LaneProgram, id: LaneId, width: Width) -> Option<(LaneId, i32)> {
    let LaneOp::Binary(LaneBinary::Or, x, y) = program.insts[id.index()].op else { return None };
    if width != Width::Zmm || program.ty(id) != LaneType::I32 {
        return None;
    }
    let shifted = |v: LaneId| match program.insts[v.index()].op {
        LaneOp::Binary(op, from, by) => program.constant(by).map(|by| (op, from, by)),
        _ => None,
    };
    match (shifted(x)?, shifted(y)?) {
        ((LaneBinary::Shl, a, n), (LaneBinary::Shr, b, m)) if a == b && n + m == 32 => Some((a, n as i32)),
        _ => None,
    }
}

/// The operands that an instruction reads as emitted.
fn operands(program: &LaneProgram, id: LaneId, width: Width) -> SmallVec<[LaneId; 4]> {
    match rotation(program, id, width) {
        Some((from, _)) => smallvec![from],
        None => program.insts[id.index()].op.operands(),
    }
}
