//! What the lanes of a warp do together: shuffles, votes and barriers of the warp.

use super::alu::Lanes;
use super::context::Context;
use super::warp::{Run, Warp, fault, lanes};
use crate::ptx::inst::{Shuffle, Vote};

/// The masks of the lanes that run: each lane of a mask must run the instruction now, with the same mask.
///
/// A barrier, as PTX has it; shuffles and votes count as barriers too.
fn together(warp: &mut Warp, ctx: &mut Context<'_>, mask: u32, exec: u32) -> Run<Lanes> {
    let masks = *warp.row(ctx.code, mask, exec)?;
    let mut done = 0;
    for lane in lanes(exec) {
        if done >> lane & 1 == 1 {
            continue;
        }
        let mask = masks[lane] as u32;
        if mask >> lane & 1 == 0 {
            return fault(1 << lane, format!("the mask {mask:#010x} does not name the thread itself"));
        }
        if let missing @ 1.. = mask & !exec {
            let what = if missing & !warp.exists != 0 {
                "lanes that are no threads"
            } else if missing & warp.exited != 0 {
                "threads that have ended"
            } else {
                "threads that do not run it together with this one"
            };
            let first = warp.threads(missing);
            return fault(1 << lane, format!("the mask {mask:#010x} names {what}: {first}"));
        }
        if let Some(other) = lanes(mask).find(|&other| masks[other] as u32 != mask) {
            let theirs = masks[other] as u32;
            return fault(1 << lane, format!("the mask is {mask:#010x}, and that of lane {other} is {theirs:#010x}"));
        }
        done |= mask;
        ctx.order(warp, mask)?;
    }
    Ok(masks)
}

/// `bar.warp.sync`.
pub(super) fn barrier(warp: &mut Warp, ctx: &mut Context<'_>, mask: u32, exec: u32) -> Run<()> {
    together(warp, ctx, mask, exec)?;
    ctx.counts.barriers += 1;
    Ok(())
}

/// `shfl.sync`, as rows `[d, a, b, c, mask]`.
pub(super) fn shuffle(warp: &mut Warp, ctx: &mut Context<'_>, mode: Shuffle, rows: [u32; 5], exec: u32) -> Run<()> {
    let [d, a, b, c, mask] = rows;
    let masks = together(warp, ctx, mask, exec)?;
    let a = *warp.row(ctx.code, a, exec)?;
    let b = *warp.row(ctx.code, b, exec)?;
    let c = *warp.row(ctx.code, c, exec)?;
    ctx.counts.shuffles += 1;
    let mut result = [0; 32];
    for lane in lanes(exec) {
        let (distance, clamp) = ((b[lane] & 31) as i32, (c[lane] & 31) as i32);
        let (segment, lane) = ((c[lane] >> 8 & 31) as i32, lane as i32);
        let first = lane & segment;
        let last = first | (clamp & !segment);
        let (from, inside) = match mode {
            Shuffle::Up => (lane - distance, lane - distance >= last),
            Shuffle::Down => (lane + distance, lane + distance <= last),
            Shuffle::Bfly => (lane ^ distance, lane ^ distance <= last),
            Shuffle::Idx => {
                let from = first | (distance & !segment);
                (from, from <= last)
            }
        };
        let from = if inside { from } else { lane };
        if !(0..32).contains(&from) || masks[lane as usize] >> from & 1 == 0 {
            return fault(1 << lane, format!("it reads lane {from}, which is not in its mask"));
        }
        result[lane as usize] = a[from as usize];
    }
    warp.set(d, &result, exec);
    Ok(())
}

/// `vote.sync`, as rows or numbers `[d, p, mask]`.
pub(super) fn vote(
    warp: &mut Warp,
    ctx: &mut Context<'_>,
    (mode, negate): (Vote, bool),
    [d, p, mask]: [u32; 3],
    exec: u32,
) -> Run<()> {
    let masks = together(warp, ctx, mask, exec)?;
    let p = warp.predicate(p, exec)? ^ if negate { !0 } else { 0 };
    ctx.counts.shuffles += 1;
    if mode == Vote::Ballot {
        warp.set(d, &masks.map(|mask| mask & u64::from(p)), exec);
        return Ok(());
    }
    let mut result = 0;
    for lane in lanes(exec) {
        let mask = masks[lane] as u32;
        let holds = if mode == Vote::All { p & mask == mask } else { p & mask != 0 };
        result |= u32::from(holds) << lane;
    }
    warp.set_predicate(d, result, exec);
    Ok(())
}
