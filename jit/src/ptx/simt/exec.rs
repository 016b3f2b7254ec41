//! One instruction of a warp.

use super::access::{AtomicOf, atomic, begin_copy, load, store, wait_copies};
use super::code::{Logic, Op};
use super::context::Context;
use super::warp::{Run, Warp, fault, lanes};
use super::{matrix, sync};

/// Runs the instruction at which the warp is.
pub(super) fn step(warp: &mut Warp, ctx: &mut Context<'_>) -> Run<()> {
    let code = ctx.code;
    let step = &code.steps[warp.pc as usize];
    ctx.counts.instructions += 1;
    ctx.counts.thread_instructions += u64::from(warp.active.count_ones());
    let exec = match step.guard {
        None => warp.active,
        Some((p, value)) => {
            let p = warp.predicate(p, warp.active)?;
            warp.active & if value { p } else { !p }
        }
    };
    if exec == 0 {
        warp.next();
        return Ok(());
    }
    let mut out = [0; 32];
    match step.op {
        Op::Map1 { f, d, a } => {
            f(warp.row(code, a, exec)?, &mut out);
            warp.set(d, &out, exec);
        }
        Op::Map2 { f, d, a, b } => {
            f(warp.row(code, a, exec)?, warp.row(code, b, exec)?, &mut out);
            warp.set(d, &out, exec);
        }
        Op::Map3 { f, d, a, b, c } => {
            f(warp.row(code, a, exec)?, warp.row(code, b, exec)?, warp.row(code, c, exec)?, &mut out);
            warp.set(d, &out, exec);
        }
        Op::Compare { f, d, a, b } => {
            let values = f(warp.row(code, a, exec)?, warp.row(code, b, exec)?);
            warp.set_predicate(d, values, exec);
        }
        Op::Copy { d, a } => {
            out = *warp.row(code, a, exec)?;
            warp.set(d, &out, exec);
        }
        Op::Select { d, a, b, p } => {
            let p = warp.predicate(p, exec)?;
            let (a, b) = (warp.row(code, a, exec)?, warp.row(code, b, exec)?);
            for (lane, (out, (&a, &b))) in out.iter_mut().zip(a.iter().zip(b)).enumerate() {
                *out = if p >> lane & 1 == 1 { a } else { b };
            }
            warp.set(d, &out, exec);
        }
        Op::Load(ref access) => load(warp, ctx, access, exec)?,
        Op::Store(ref access) => store(warp, ctx, access, exec)?,
        Op::Branch { target } => {
            if exec != warp.active {
                ctx.counts.divergent_branches += 1;
            }
            warp.branch(exec, target);
            return Ok(());
        }
        Op::CopyPredicate { d, a } => {
            let values = warp.predicate(a, exec)?;
            warp.set_predicate(d, values, exec);
        }
        Op::SetPredicate { d, value } => warp.set_predicate(d, if value { !0 } else { 0 }, exec),
        Op::NotPredicate { d, a } => {
            let values = warp.predicate(a, exec)?;
            warp.set_predicate(d, !values, exec);
        }
        Op::Predicates { logic, d, a, b } => {
            let (a, b) = (warp.predicate(a, exec)?, warp.predicate(b, exec)?);
            let values = match logic {
                Logic::And => a & b,
                Logic::Or => a | b,
                Logic::Xor => a ^ b,
            };
            warp.set_predicate(d, values, exec);
        }
        Op::Pack { d, a, b } => {
            let (a, b) = (warp.row(code, a, exec)?, warp.row(code, b, exec)?);
            for (out, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
                *out = a | b << 32;
            }
            warp.set(d, &out, exec);
        }
        Op::Unpack { d, e, a } => {
            let a = *warp.row(code, a, exec)?;
            warp.set(d, &a.map(|a| a & 0xffff_ffff), exec);
            warp.set(e, &a.map(|a| a >> 32), exec);
        }
        Op::Divide { f, bits, signed, d, a, b } => {
            let (a, b) = (warp.row(code, a, exec)?, warp.row(code, b, exec)?);
            for lane in lanes(exec) {
                if b[lane] == 0 {
                    return fault(1 << lane, "integer division by zero, which PTX does not specify");
                }
                if signed && a[lane] == 1 << (bits - 1) && b[lane] == u64::MAX >> (64 - bits) {
                    return fault(1 << lane, "the least integer divided by -1, which PTX does not specify");
                }
            }
            f(a, b, &mut out);
            warp.set(d, &out, exec);
        }
        Op::Convert { conversion, d, a } => {
            let a = warp.row(code, a, exec)?;
            for lane in lanes(exec) {
                out[lane] = conversion.apply(a[lane]);
            }
            warp.set(d, &out, exec);
        }
        Op::Atom { op, shared, ty, size, place, d, b, c } => {
            atomic(warp, ctx, AtomicOf { op, shared, ty, size, place, d, b, c }, exec)?;
        }
        Op::Barrier => {
            ctx.counts.barriers += 1;
            if warp.waiting != 0 && warp.waiting_at != warp.pc {
                let at = code.steps[warp.waiting_at as usize].at;
                let others = warp.threads(warp.waiting);
                let message = format!("divergent barrier: of its warp, {others} wait at that of instruction {at}");
                return fault(exec, message);
            }
            if warp.exited != 0 {
                let others = warp.threads(warp.exited);
                return fault(exec, format!("divergent barrier: of its warp, {others} cannot come: ended"));
            }
            warp.wait(exec);
            return Ok(());
        }
        Op::BarrierOfWarp { mask } => sync::barrier(warp, ctx, mask, exec)?,
        Op::Fence => ctx.fence(warp.index, exec),
        Op::Shuffle { mode, d, a, b, c, mask } => sync::shuffle(warp, ctx, mode, [d, a, b, c, mask], exec)?,
        Op::Vote { mode, d, p, negate, mask } => sync::vote(warp, ctx, (mode, negate), [d, p, mask], exec)?,
        Op::BeginCopy { bytes, to, from, kept } => begin_copy(warp, ctx, (bytes, to, from, kept), exec)?,
        Op::CommitCopies => lanes(exec).for_each(|lane| warp.groups[lane] += 1),
        Op::WaitCopies { groups } => wait_copies(warp, ctx, groups, exec)?,
        Op::LoadMatrix { transposed, count, ref rows, place } => {
            matrix::load(warp, ctx, place, (&rows[..count], transposed), exec)?;
        }
        Op::Mma { shape, ty, ref d, ref a, ref b, ref c } => {
            matrix::multiply(warp, ctx, (shape, ty), (d, a, b, c), exec)?;
        }
        Op::Exit => {
            if warp.waiting != 0 {
                let others = warp.threads(warp.waiting);
                return fault(exec, format!("divergent barrier: it ends, and of its warp {others} wait at a barrier"));
            }
            warp.exit(exec);
            return Ok(());
        }
    }
    warp.next();
    Ok(())
}
