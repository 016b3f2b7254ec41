//! Which value is in which register, while straight-line code is emitted.

use smallvec::{SmallVec, smallvec};

use super::width::{MASK, Width};
use crate::lower::lane::{LaneBinary, LaneId, LaneOp, LaneProgram, LaneType};

/// Mask registers that are given out: not `k0` (which means none), `k1` (the remainder), `k7` (passing use).
pub(super) const MASKS: std::ops::Range<usize> = 2..7;

/// Where else a value can be had.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Home {
    Nowhere,
    Constant(u64),
    Row(u32),
    /// Partial results of a reduction, in their own register.
    Accumulator(usize),
    /// A spill slot.
    Spill(usize),
    /// The first or the second register, for code between registers.
    Given(usize),
}

/// The registers, while a block is emitted.
pub(super) struct Registers<'p> {
    pub(super) program: &'p LaneProgram,
    pub(super) width: Width,
    /// Positions at which a value is still to be used, last first.
    pub(super) uses: Vec<Vec<usize>>,
    pub(super) register: Vec<Option<usize>>,
    pub(super) home: Vec<Home>,
    /// What the vector registers hold, and what the mask registers do.
    pub(super) banks: [Vec<Option<LaneId>>; 2],
    pub(super) spills: usize,
}

/// What a register holds that is not given out.
const RESERVED: LaneId = LaneId(u32::MAX);

impl<'p> Registers<'p> {
    pub(super) fn new(program: &'p LaneProgram, roots: &[LaneId], width: Width, pool: usize) -> Self {
        let n = program.insts.len();
        // Backwards, so that the last use is noted first.
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
            home: vec![Home::Nowhere; n],
            banks: [vec![None; pool], masks],
            spills: 0,
        }
    }

    /// Registers below this number are not given out.
    pub(super) fn reserve(&mut self, count: usize) {
        self.banks[0][..count].fill(Some(RESERVED));
    }

    /// Which registers a value is kept in: 1 for masks.
    pub(super) fn bank(&self, id: LaneId) -> usize {
        usize::from(self.width == Width::Zmm && self.program.ty(id) == LaneType::Bool)
    }

    /// A register that holds nothing.
    pub(super) fn free(&self, bank: usize) -> Option<usize> {
        self.banks[bank].iter().position(Option::is_none)
    }

    /// The instructions that are needed.
    pub(super) fn live_positions(&self) -> Vec<usize> {
        (0..self.uses.len()).filter(|&i| !self.uses[i].is_empty()).collect()
    }

    /// How many vectors and how many masks are wanted at once, at most.
    pub(super) fn pressure(&self) -> (usize, usize) {
        let end = self.uses.iter().filter_map(|uses| uses.first()).max().map_or(0, |last| last + 1);
        // What begins and ends at each position.
        let mut begun = vec![[0isize; 2]; end + 1];
        for i in self.live_positions() {
            let inst = self.program.insts[i];
            if !matches!(inst.op, LaneOp::Const(_)) {
                let bank = self.bank(LaneId(i as u32));
                begun[i][bank] += 1;
                begun[self.uses[i][0]][bank] -= 1;
            }
        }
        let (mut now, mut most) = ([0; 2], [0; 2]);
        for begun in begun {
            for bank in 0..2 {
                now[bank] += begun[bank];
                most[bank] = most[bank].max(now[bank]);
            }
        }
        (most[0] as usize, most[1] as usize)
    }

    pub(super) fn give(&mut self, id: LaneId, register: usize) {
        let bank = self.bank(id);
        self.banks[bank][register] = Some(id);
        self.register[id.index()] = Some(register);
    }

    /// Is the value in a register, and used for the last time at `at`?
    pub(super) fn ends(&self, id: LaneId, at: usize) -> bool {
        self.register[id.index()].is_some() && self.uses[id.index()].first() == Some(&at)
    }

    /// The register of `from` becomes that of `to`, which overwrites it.
    pub(super) fn pass_on(&mut self, from: LaneId, to: LaneId, operands: &[LaneId], at: usize) {
        let register = self.register[from.index()].expect("it was just put in a register");
        self.release(operands, at);
        self.give(to, register);
    }

    /// Notes the use of `operands` at `at` and frees those that are used no more.
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

    /// The register whose value is used again last; pinned values keep theirs.
    pub(super) fn farthest(&self, bank: usize, pinned: &[LaneId]) -> usize {
        let next = |id: LaneId| self.uses[id.index()].last().copied().unwrap_or(usize::MAX);
        self.banks[bank]
            .iter()
            .enumerate()
            .filter_map(|(register, id)| id.map(|id| (register, id)))
            .filter(|(_, id)| *id != RESERVED && !pinned.contains(id))
            .max_by_key(|(_, id)| next(*id))
            .map(|(register, _)| register)
            .expect("an instruction has fewer operands than there are registers")
    }
}

/// For `a << n | a >> (32 - n)`: the `a` and `n` of a rotation to the left, where there is an instruction for it.
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

/// The values that an instruction reads as it is emitted here.
fn operands(program: &LaneProgram, id: LaneId, width: Width) -> SmallVec<[LaneId; 4]> {
    match rotation(program, id, width) {
        Some((from, _)) => smallvec![from],
        None => program.insts[id.index()].op.operands(),
    }
}
