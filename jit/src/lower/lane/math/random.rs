//! Threefry, the counter-based random number generator.

use super::{LaneBinary, LaneId, LaneProgram};

/// The rotations of the second word, in two alternating sequences of four rounds.
const ROTATIONS: [[i32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];

/// Threefry 2x32 with 20 rounds: two words from a key `k0, k1` and a counter `c0, c1`, all `I32`. Exact; JAX's
/// `threefry2x32` is the same function.
///
/// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011); rotations and parity as in Random123. A
/// rotation is always `Or(Shl(x, r), Shr(x, 32 - r))`, for emitters that have one to find it.
pub fn threefry2x32(p: &mut LaneProgram, k0: LaneId, k1: LaneId, c0: LaneId, c1: LaneId) -> (LaneId, LaneId) {
    let parity = p.i32(0x1bd1_1bda);
    let k2 = p.binary(LaneBinary::Xor, k0, k1);
    let k2 = p.binary(LaneBinary::Xor, k2, parity);
    let keys = [k0, k1, k2];
    let mut x = p.add(c0, k0);
    let mut y = p.add(c1, k1);
    for group in 0..5 {
        for r in ROTATIONS[group % 2] {
            x = p.add(x, y);
            y = rotate_left(p, y, r);
            y = p.binary(LaneBinary::Xor, x, y);
        }
        // The key is added again after every four rounds, starting one word later each time, with the count.
        let count = p.i32(group as i32 + 1);
        x = p.add(x, keys[(group + 1) % 3]);
        // The key and the round number are added first: that sum is loop-invariant and is hoisted.
        let key = p.add(keys[(group + 2) % 3], count);
        y = p.add(y, key);
    }
    (x, y)
}

fn rotate_left(p: &mut LaneProgram, x: LaneId, r: i32) -> LaneId {
    let (left, right) = (p.i32(r), p.i32(32 - r));
    let high = p.binary(LaneBinary::Shl, x, left);
    let low = p.binary(LaneBinary::Shr, x, right);
    p.binary(LaneBinary::Or, high, low)
}
