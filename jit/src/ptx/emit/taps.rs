//! The taps of a product.
//!
//! In: the terms of a sum of products, as offsets of the operands. Out: the code of each term: in loops where they step
//! through a window, else one after the other.

use super::code::Code;
use crate::fuse::Tap;
use crate::ptx::inst::{BinaryOp, Operand, Reg, Type};

/// The code that `tap` gives for each tap. It is given the addresses of the operands' matrices, which are at `from` and
/// have elements of so many bytes.
pub(super) fn each_tap(code: &mut Code, taps: &[Tap], size: usize, from: [Reg; 2], tap: &dyn Fn(&mut Code, [Reg; 2])) {
    let moved = |code: &mut Code, by: Tap| {
        let bytes = in_bytes(by, size);
        [0, 1].map(|i| match bytes[i] {
            0 => from[i],
            bytes => code.binary(BinaryOp::Add, Type::S64, from[i], Operand::Imm(bytes)),
        })
    };
    match loops(taps) {
        Some(loops) => {
            let first = moved(code, taps[0]);
            nest(code, &loops, size, first, tap);
        }
        None => {
            for &by in taps {
                let from = moved(code, by);
                tap(code, from);
            }
        }
    }
}

/// The code of a tap in these loops; `from` are the addresses of the first one.
fn nest(code: &mut Code, loops: &[TapLoop], size: usize, from: [Reg; 2], tap: &dyn Fn(&mut Code, [Reg; 2])) {
    let [TapLoop { count, step }, inner @ ..] = loops else { return tap(code, from) };
    let at = from.map(|from| code.mov(Type::U64, from));
    code.counted(0, *count as u32, 1, |code, _| {
        nest(code, inner, size, at, tap);
        for (at, bytes) in at.into_iter().zip(in_bytes(*step, size)) {
            code.binary_to(at, BinaryOp::Add, Type::S64, at, Operand::Imm(bytes));
        }
    });
}

fn in_bytes(by: Tap, size: usize) -> [u64; 2] {
    [by.a, by.b].map(|elements| (elements * size as isize) as i64 as u64)
}

/// A loop over taps: how many, and from one to the next.
struct TapLoop {
    count: usize,
    step: Tap,
}

/// The loops, outermost first, whose iterations are the taps in their order; `None` if there are none. A window has one
/// for each axis.
fn loops(taps: &[Tap]) -> Option<Vec<TapLoop>> {
    let [first, second, ..] = *taps else { return Some(vec![]) };
    let between = |from: Tap, to: Tap| Tap { a: to.a - from.a, b: to.b - from.b };
    let step = between(first, second);
    let is_next = |pair: &[Tap]| between(pair[0], pair[1]) == step;
    let count = 1 + taps.windows(2).take_while(|pair| is_next(pair)).count();
    let is_line = |line: &[Tap]| line.len() == count && line.windows(2).all(is_next);
    if !taps.chunks(count).all(is_line) {
        return None;
    }
    let firsts: Vec<Tap> = taps.iter().copied().step_by(count).collect();
    let mut outer = loops(&firsts)?;
    outer.push(TapLoop { count, step });
    Some(outer)
}
