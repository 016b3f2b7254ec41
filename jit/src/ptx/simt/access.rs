//! Loads, stores, atomics and asynchronous copies.

use super::alu::Lanes;
use super::code::{Access, LOCAL, Place, SHARED};
use super::context::Context;
use super::float::{f32_of, flushed, from_f32, from_f64};
use super::memory::Region;
use super::race::Mode;
use super::warp::{Copy, Run, Warp, fault, lanes};
use crate::ptx::inst::{Atomic, Space, Type};

/// What no lane has: an address in no sector.
const NONE: u64 = u64::MAX;

/// How many sectors of 32 bytes the lanes' addresses are in.
fn sectors(addresses: &Lanes, exec: u32) -> u64 {
    let (mut seen, mut n) = ([NONE; 32], 0);
    for lane in lanes(exec) {
        let sector = addresses[lane] / 32;
        if (n == 0 || seen[n - 1] != sector) && !seen[..n].contains(&sector) {
            seen[n] = sector;
            n += 1;
        }
    }
    n as u64
}

/// The cycles that an access of shared memory takes because its lanes' words are in the same banks.
///
/// There are 32 banks of 4 bytes. Lanes that access `size` bytes run together as many as make 128 bytes.
pub(super) fn bank_conflicts(addresses: &Lanes, exec: u32, size: usize) -> u64 {
    let together = (128 / size.max(4)).min(32) as u32;
    let words = (size / 4).max(1);
    let mut extra = 0;
    for first in (0..32).step_by(together as usize) {
        let group = exec & (u32::MAX >> (32 - together)) << first;
        // The words of each bank: mostly one, which needs no search.
        let mut first_of_bank = [NONE; 32];
        let mut of_bank = [1_u64; 32];
        let (mut seen, mut n) = ([NONE; 32], 0);
        for lane in lanes(group) {
            for i in 0..words as u64 {
                let word = addresses[lane] / 4 + i;
                let bank = (word % 32) as usize;
                if first_of_bank[bank] == NONE {
                    first_of_bank[bank] = word;
                } else if first_of_bank[bank] != word && !seen[..n].contains(&word) {
                    seen[n] = word;
                    n += 1;
                    of_bank[bank] += 1;
                }
            }
        }
        extra += of_bank.iter().max().map_or(0, |&most| most - 1);
    }
    extra
}

/// The addresses of an access; each must be a multiple of its length.
pub(super) fn addresses(warp: &Warp, ctx: &Context<'_>, place: Place, len: usize, exec: u32) -> Run<Lanes> {
    let mut to = *warp.row(ctx.code, place.row, exec)?;
    let mut low = 0;
    for (lane, address) in to.iter_mut().enumerate() {
        *address = address.wrapping_add_signed(place.offset);
        low |= if exec >> lane & 1 == 1 { *address } else { 0 };
    }
    if low & (len as u64 - 1) != 0 {
        for lane in lanes(exec) {
            if to[lane] & (len as u64 - 1) != 0 {
                return fault(1 << lane, format!("the address {:#x} is not a multiple of {len}", to[lane]));
            }
        }
    }
    Ok(to)
}

/// That an access is outside of memory.
fn outside<T>(lane: usize, space: &str, address: u64, len: usize) -> Run<T> {
    fault(1 << lane, format!("{len} bytes at {address:#x} are not inside of {space} memory"))
}

/// Loads and stores: runs `each` on the region, the offset and the lane of each access.
fn each_access(
    warp: &mut Warp,
    ctx: &mut Context<'_>,
    access: &Access,
    mode: Mode,
    exec: u32,
    mut each: impl FnMut(&mut Region, usize, usize),
) -> Run<()> {
    let len = access.size * access.count;
    let at = addresses(warp, ctx, access.place, len, exec)?;
    let bytes = len as u64 * u64::from(exec.count_ones());
    let order = warp.order.take();
    let now = ctx.now(warp.index, warp.barrier, order.as_deref(), access.space == Space::Shared);
    let stores = matches!(mode, Mode::Write(_));
    let is_strong =
        access.space == Space::Global && matches!(mode, Mode::Read(true) | Mode::Write(true) | Mode::Atomic);
    let (counts, name) = (&mut ctx.counts, access.space);
    match access.space {
        Space::Global if stores => {
            counts.global_stores += 1;
            counts.store_bytes += bytes;
            counts.store_sectors += sectors(&at, exec);
        }
        Space::Global => {
            counts.global_loads += 1;
            counts.load_bytes += bytes;
            counts.load_sectors += sectors(&at, exec);
        }
        Space::Shared => {
            counts.shared += 1;
            counts.bank_conflicts += bank_conflicts(&at, exec, len);
        }
        Space::Local | Space::Param => {}
    }
    for lane in lanes(exec) {
        let address = at[lane];
        let found = match access.space {
            Space::Global => ctx.memory.find(address, len),
            Space::Shared => ctx.block.shared.span(address, len).map(|span| (&mut ctx.block.shared, span)),
            Space::Local | Space::Param => ctx
                .block
                .local
                .get_mut(warp.index as usize * 32 + lane)
                .and_then(|region| region.span(address, len).map(|span| (region, span))),
        };
        let Some((region, span)) = found else {
            return outside(
                lane,
                if name == Space::Global { "an allocation of global" } else { space_name(name) },
                address,
                len,
            );
        };
        let now = if access.space == Space::Local { None } else { now.as_ref() };
        match region.access(span, now, 1 << lane, mode) {
            Ok(()) => each(region, span.at, lane),
            Err(mistake) => return fault(1 << lane, ctx.explain(address, mistake)),
        }
        if is_strong {
            ctx.strong(warp.index * 32 + lane as u32, address, mode);
        }
    }
    // Others go on: what it waits for may be theirs.
    warp.yields |= is_strong && !stores;
    warp.order = order;
    Ok(())
}

fn space_name(space: Space) -> &'static str {
    match space {
        Space::Global => "global",
        Space::Shared => "shared",
        Space::Local => "local",
        Space::Param => "parameter",
    }
}

/// `ld`.
pub(super) fn load(warp: &mut Warp, ctx: &mut Context<'_>, access: &Access, exec: u32) -> Run<()> {
    let mode =
        if access.non_coherent { Mode::ReadOnly } else { Mode::Read(access.volatile && access.space == Space::Global) };
    let mut values = [[0; 32]; 4];
    let size = access.size;
    let unused = 64 - 8 * size as u32;
    each_access(warp, ctx, access, mode, exec, |region, at, lane| {
        for (i, values) in values[..access.count].iter_mut().enumerate() {
            let bits = region.value(at + i * size, size);
            values[lane] = if access.sign_to == 0 {
                bits
            } else {
                let extended = ((bits << unused) as i64 >> unused) as u64;
                extended << (64 - access.sign_to) >> (64 - access.sign_to)
            };
        }
    })?;
    for (row, values) in access.rows.iter().zip(&values[..access.count]) {
        warp.set(*row, values, exec);
    }
    Ok(())
}

/// `st`.
pub(super) fn store(warp: &mut Warp, ctx: &mut Context<'_>, access: &Access, exec: u32) -> Run<()> {
    let mut values = [[0; 32]; 4];
    for (values, &row) in values.iter_mut().zip(&access.rows[..access.count]) {
        *values = *warp.row(ctx.code, row, exec)?;
    }
    let mode = Mode::Write(access.volatile && access.space == Space::Global);
    let size = access.size;
    each_access(warp, ctx, access, mode, exec, |region, at, lane| {
        for (i, values) in values[..access.count].iter().enumerate() {
            region.set_value(at + i * size, size, values[lane]);
        }
    })
}

/// What an atomic does, and on what.
#[derive(Clone, Copy)]
pub(super) struct AtomicOf {
    /// What it computes.
    pub(super) op: Atomic,
    /// Of shared memory, else of global memory.
    pub(super) shared: bool,
    /// The type.
    pub(super) ty: Type,
    /// Bytes of the type.
    pub(super) size: usize,
    /// Where.
    pub(super) place: Place,
    /// The row of the old value.
    pub(super) d: u32,
    /// The row of the operand.
    pub(super) b: u32,
    /// The row of the value that a compare and swap stores.
    pub(super) c: Option<u32>,
}

/// `atom`. The lanes run in order.
pub(super) fn atomic(warp: &mut Warp, ctx: &mut Context<'_>, atomic: AtomicOf, exec: u32) -> Run<()> {
    let AtomicOf { op, shared, ty, size, place, d, b, c } = atomic;
    let b = *warp.row(ctx.code, b, exec)?;
    let c = match c {
        Some(c) => *warp.row(ctx.code, c, exec)?,
        None => [0; 32],
    };
    let space = if shared { Space::Shared } else { Space::Global };
    let access =
        Access { space, volatile: false, non_coherent: false, place, size, count: 1, rows: [0; 4], sign_to: 0 };
    let mut old = [0; 32];
    each_access(warp, ctx, &access, Mode::Atomic, exec, |region, at, lane| {
        old[lane] = region.value(at, size);
        region.set_value(at, size, updated(op, ty, shared, old[lane], b[lane], c[lane]));
    })?;
    if !shared {
        ctx.counts.global_stores += 1;
    }
    warp.set(d, &old, exec);
    Ok(())
}

/// What an atomic stores.
fn updated(op: Atomic, ty: Type, shared: bool, a: u64, b: u64, c: u64) -> u64 {
    let signed = |x: u64| if ty == Type::S32 { i64::from(x as i32) } else { x as i64 };
    let is_signed = matches!(ty, Type::S32 | Type::S64);
    let less = if is_signed { signed(a) < signed(b) } else { a < b };
    match op {
        // Of f32 in global memory, `atom.add` flushes subnormals; in shared memory it does not.
        Atomic::Add if ty == Type::F32 && shared => from_f32(f32_of(a) + f32_of(b)),
        Atomic::Add if ty == Type::F32 => from_f32(flushed(flushed(f32_of(a)) + flushed(f32_of(b)))),
        Atomic::Add if ty == Type::F64 => from_f64(f64::from_bits(a) + f64::from_bits(b)),
        Atomic::Add => a.wrapping_add(b),
        Atomic::Min => {
            if less {
                a
            } else {
                b
            }
        }
        Atomic::Max => {
            if less {
                b
            } else {
                a
            }
        }
        Atomic::And => a & b,
        Atomic::Or => a | b,
        Atomic::Xor => a ^ b,
        Atomic::Exch => b,
        Atomic::Cas => {
            if a == b {
                c
            } else {
                a
            }
        }
    }
}

/// `cp.async`: the bytes are read now, and arrive when they are waited for.
pub(super) fn begin_copy(
    warp: &mut Warp,
    ctx: &mut Context<'_>,
    (bytes, to, from, kept): (usize, Place, Place, Option<u32>),
    exec: u32,
) -> Run<()> {
    let to = addresses(warp, ctx, to, bytes, exec)?;
    let from = addresses(warp, ctx, from, bytes, exec)?;
    let kept = match kept {
        Some(kept) => *warp.row(ctx.code, kept, exec)?,
        None => [bytes as u64; 32],
    };
    let order = warp.order.take();
    let now = ctx.now(warp.index, warp.barrier, order.as_deref(), false);
    let now_shared = ctx.now(warp.index, warp.barrier, order.as_deref(), true);
    let mut reading = 0;
    for lane in lanes(exec) {
        let mut data = [0; 16];
        let len = kept[lane] as usize;
        if len > bytes {
            return fault(1 << lane, format!("cp.async keeps {len} of {bytes} bytes"));
        }
        if len > 0 {
            reading |= 1 << lane;
            let Some((region, span)) = ctx.memory.find(from[lane], len) else {
                return outside(lane, "an allocation of global", from[lane], len);
            };
            match region.access(span, now.as_ref(), 1 << lane, Mode::Read(false)) {
                Ok(()) => data[..len].copy_from_slice(region.bytes(span)),
                Err(mistake) => return fault(1 << lane, ctx.explain(from[lane], mistake)),
            }
            if now.is_some() {
                region.begin_copy(span);
            }
        }
        let Some(span) = ctx.block.shared.span(to[lane], bytes) else {
            return outside(lane, "shared", to[lane], bytes);
        };
        if let Err(mistake) = ctx.block.shared.access(span, now_shared.as_ref(), 1 << lane, Mode::Write(false)) {
            return fault(1 << lane, ctx.explain(to[lane], mistake));
        }
        ctx.block.shared.expect_copy(span);
        let group = warp.groups[lane];
        warp.copies.push(Copy { lane: lane as u32, group, from: (from[lane], len), to: span, data });
        ctx.counts.load_bytes += len as u64;
    }
    warp.order = order;
    ctx.counts.global_loads += 1;
    ctx.counts.load_sectors += sectors(&from, reading);
    ctx.counts.shared += 1;
    ctx.counts.bank_conflicts += bank_conflicts(&to, exec, bytes);
    Ok(())
}

/// `cp.async.wait_group`: all but the last `groups` groups of each lane arrive.
pub(super) fn wait_copies(warp: &mut Warp, ctx: &mut Context<'_>, groups: u32, exec: u32) -> Run<()> {
    let mut copies = std::mem::take(&mut warp.copies);
    let now = ctx.now(warp.index, warp.barrier, warp.order.as_deref(), true);
    let mut first = Ok(());
    copies.retain(|copy| {
        let arrives = exec >> copy.lane & 1 == 1
            && u64::from(copy.group) + u64::from(groups) < u64::from(warp.groups[copy.lane as usize]);
        if !arrives || first.is_err() {
            return true;
        }
        end_reading(ctx, copy);
        ctx.block.shared.set(copy.to.at, &copy.data[..copy.to.len]);
        if let Err(mistake) = ctx.block.shared.access(copy.to, now.as_ref(), 1 << copy.lane, Mode::Write(false)) {
            first = fault(1 << copy.lane, ctx.explain(SHARED + copy.to.at as u64, mistake));
        }
        false
    });
    warp.copies = copies;
    first
}

/// A copy no longer reads global memory.
pub(super) fn end_reading(ctx: &mut Context<'_>, copy: &Copy) {
    let (address, len) = copy.from;
    if ctx.races
        && len > 0
        && let Some((region, span)) = ctx.memory.find(address, len)
    {
        region.end_copy(span);
    }
}

/// That local memory lies where addresses of shared memory are not.
const _: () = assert!(LOCAL > SHARED + (1 << 20));
