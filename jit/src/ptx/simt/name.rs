//! Names of instructions, for messages.

use crate::ptx::inst::{InstOp, Reg, RegClass, Space, Type};

/// A type as its suffix.
fn suffix(ty: Type) -> String {
    format!("{ty:?}").to_lowercase()
}

fn space(space: Space) -> String {
    format!("{space:?}").to_lowercase()
}

/// The instruction without its operands.
pub(super) fn instruction(op: &InstOp) -> String {
    let lower = |x: &dyn std::fmt::Debug| format!("{x:?}").to_lowercase();
    match op {
        InstOp::Label(label) => format!("L{}", label.0),
        InstOp::Comment(_) => "comment".to_owned(),
        InstOp::NoUnroll => "pragma".to_owned(),
        InstOp::Mov { ty, .. } => format!("mov.{}", suffix(*ty)),
        InstOp::Pack { .. } | InstOp::Unpack { .. } => "mov.b64".to_owned(),
        InstOp::Unary { op, ty, .. } => format!("{}.{}", lower(op), suffix(*ty)),
        InstOp::Binary { op, ty, .. } => format!("{}.{}", lower(op), suffix(*ty)),
        InstOp::Ternary { op, ty, .. } => format!("{}.{}", lower(op), suffix(*ty)),
        InstOp::Setp { cmp, ty, .. } => format!("setp.{}.{}", lower(cmp), suffix(*ty)),
        InstOp::Selp { ty, .. } => format!("selp.{}", suffix(*ty)),
        InstOp::Cvt { to, from, .. } => format!("cvt.{}.{}", suffix(*to), suffix(*from)),
        InstOp::CvtPair { to, .. } => format!("cvt.{}.f32", suffix(*to)),
        InstOp::Ld { space: s, ty, .. } => format!("ld.{}.{}", space(*s), suffix(*ty)),
        InstOp::St { space: s, ty, .. } => format!("st.{}.{}", space(*s), suffix(*ty)),
        InstOp::ToGlobal { .. } => "cvta.to.global.u64".to_owned(),
        InstOp::Bra { .. } => "bra".to_owned(),
        InstOp::Bar => "bar.sync".to_owned(),
        InstOp::BarWarp { .. } => "bar.warp.sync".to_owned(),
        InstOp::MembarGl => "membar.gl".to_owned(),
        InstOp::Shfl { mode, .. } => format!("shfl.sync.{}.b32", lower(mode)),
        InstOp::Vote { mode, .. } => format!("vote.sync.{}", lower(mode)),
        InstOp::Atom { op, space: s, ty, .. } => format!("atom.{}.{}.{}", space(*s), lower(op), suffix(*ty)),
        InstOp::CpAsync { .. } => "cp.async".to_owned(),
        InstOp::CpAsyncCommit => "cp.async.commit_group".to_owned(),
        InstOp::CpAsyncWait { .. } => "cp.async.wait_group".to_owned(),
        InstOp::LdMatrix { .. } => "ldmatrix".to_owned(),
        InstOp::Mma { shape, ty, .. } => format!("mma.sync.{}.{}", lower(shape), suffix(*ty)),
        InstOp::Ret => "ret".to_owned(),
    }
}

/// The register.
pub(super) fn register(reg: Reg) -> String {
    let class = match reg.class {
        RegClass::Pred => "p",
        RegClass::B16 => "h",
        RegClass::B32 => "r",
        RegClass::B64 => "rd",
        RegClass::F32 => "f",
        RegClass::F64 => "fd",
    };
    format!("%{class}{}", reg.id)
}
