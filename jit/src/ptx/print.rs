//! Writes a module as the text that `ptxas` and the driver read.
//!
//! A module comes in, text goes out: a line for each instruction. Every rounding is written, also where it is the
//! default: without one, `ptxas` makes a multiplication and an addition into one `fma`. What the data says is written
//! whether or not PTX has it; `parse` and `ptxas` reject what it has not.

use std::fmt::{self, Display, Formatter, Write};

use super::inst::{
    Address, BinaryOp, Cache, Entry, Inst, InstOp, Label, Operand, PtxModule, Reg, RegClass, Type, Vote,
};
use super::names::Kind;

impl Display for PtxModule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, ".version {}.{}", self.version / 10, self.version % 10)?;
        writeln!(f, ".target sm_{}", self.target)?;
        writeln!(f, ".address_size 64")?;
        for entry in &self.entries {
            write!(f, "\n{entry}")?;
        }
        Ok(())
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        write!(f, ".visible .entry {name}(")?;
        for (i, ty) in self.params.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}\n  .param .{ty} {name}_p{i}")?;
        }
        writeln!(f, "{})", if self.params.is_empty() { "" } else { "\n" })?;
        writeln!(f, ".maxntid {}, 1, 1", self.max_threads)?;
        if self.min_blocks > 0 {
            writeln!(f, ".minnctapersm {}", self.min_blocks)?;
        }
        writeln!(f, "{{")?;
        for (&class, &count) in RegClass::ALL.iter().zip(&self.registers) {
            if count > 0 {
                writeln!(f, "  .reg .{} {class}<{count}>;", class.declared())?;
            }
        }
        if self.shared > 0 {
            writeln!(f, "  .shared .align 16 .b8 shared[{}];", self.shared)?;
        }
        if self.local > 0 {
            writeln!(f, "  .local .align 16 .b8 local[{}];", self.local)?;
        }
        for inst in &self.body {
            let indent = if matches!(inst.op, InstOp::Label(_)) { "" } else { "  " };
            writeln!(f, "{indent}{}", InEntry(inst, Some(name)))?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Reg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.class, self.id)
    }
}

impl Display for Label {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

/// An instruction outside of an entry: as in one, but a parameter is `p0`, without the entry's name.
impl Display for Inst {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        InEntry(self, None).fmt(f)
    }
}

/// An instruction of the entry of a name.
struct InEntry<'a>(&'a Inst, Option<&'a str>);

impl Display for InEntry<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let InEntry(inst, entry) = self;
        if let InstOp::Label(label) = &inst.op {
            return write!(f, "{label}:");
        }
        if let InstOp::Comment(text) = &inst.op {
            return comment(f, text);
        }
        if let Some((p, value)) = inst.guard {
            write!(f, "@{}{p} ", if value { "" } else { "!" })?;
        }
        f.write_str(&mnemonic(&inst.op))?;
        operands(f, &inst.op, *entry)?;
        f.write_str(";")
    }
}

/// A comment of one line. `ptxas` wants ASCII, and reads a line that ends in a backslash on.
fn comment(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(if text.is_empty() { "//" } else { "// " })?;
    for c in text.chars() {
        f.write_char(if c == ' ' || c.is_ascii_graphic() { c } else { '?' })?;
    }
    if text.ends_with('\\') { f.write_str(".") } else { Ok(()) }
}

/// An instruction's name with all of its suffixes, as `ld.global.nc.v4.f32`. Empty for labels and comments.
pub(super) fn mnemonic(op: &InstOp) -> String {
    match op {
        InstOp::Label(_) | InstOp::Comment(_) => String::new(),
        InstOp::NoUnroll => ".pragma".into(),
        InstOp::Mov { ty, .. } => format!("mov.{ty}"),
        InstOp::Pack { .. } | InstOp::Unpack { .. } => "mov.b64".into(),
        InstOp::Unary { op, ty, flush, .. } => format!("{op}{}.{ty}", ftz(*flush, &[*ty])),
        InstOp::Binary { op, ty, flush, .. } => format!("{op}{}{}.{ty}", binary_suffix(*op, *ty), ftz(*flush, &[*ty])),
        InstOp::Ternary { op, ty, flush, .. } => format!("{op}{}.{ty}", ftz(*flush, &[*ty])),
        InstOp::Setp { cmp, ty, flush, .. } => format!("setp.{cmp}{}.{ty}", ftz(*flush, &[*ty])),
        InstOp::Selp { ty, .. } => format!("selp.{ty}"),
        InstOp::Cvt { to, from, rounding, flush, .. } => {
            format!("cvt{}{}.{to}.{from}", suffix(rounding.name()), ftz(*flush, &[*to, *from]))
        }
        InstOp::CvtPair { to, .. } => format!("cvt.rn.{to}.f32"),
        InstOp::Ld { space, cache, ty, d, .. } => {
            let (before, after) = cached(*cache);
            format!("ld{before}.{space}{after}{}.{ty}", vector(d.len()))
        }
        InstOp::St { space, cache, ty, a, .. } => {
            let (before, after) = cached(*cache);
            format!("st{before}.{space}{after}{}.{ty}", vector(a.len()))
        }
        InstOp::ToGlobal { .. } => "cvta.to.global.u64".into(),
        InstOp::Bra { .. } => "bra".into(),
        InstOp::Bar => "bar.sync".into(),
        InstOp::BarWarp { .. } => "bar.warp.sync".into(),
        InstOp::MembarGl => "membar.gl".into(),
        InstOp::Shfl { mode, .. } => format!("shfl.sync.{mode}.b32"),
        InstOp::Vote { mode: Vote::Ballot, .. } => "vote.sync.ballot.b32".into(),
        InstOp::Vote { mode, .. } => format!("vote.sync.{mode}.pred"),
        InstOp::Atom { op, space, ty, .. } => format!("atom.{space}.{op}.{ty}"),
        InstOp::CpAsync { bytes, .. } => {
            format!("cp.async.{}.shared.global", if *bytes == 16 { "cg" } else { "ca" })
        }
        InstOp::CpAsyncCommit => "cp.async.commit_group".into(),
        InstOp::CpAsyncWait { .. } => "cp.async.wait_group".into(),
        InstOp::LdMatrix { transposed, d, .. } => {
            format!("ldmatrix.sync.aligned.m8n8.x{}{}.shared.b16", d.len(), if *transposed { ".trans" } else { "" })
        }
        InstOp::Mma { shape, ty, .. } => format!("mma.sync.aligned.{shape}.row.col.f32.{ty}.{ty}.f32"),
        InstOp::Ret => "ret".into(),
    }
}

/// `.ftz`, if one of the types is f32: other types keep their subnormals, whatever `flush` says.
fn ftz(flush: bool, types: &[Type]) -> &'static str {
    if flush && types.contains(&Type::F32) { ".ftz" } else { "" }
}

/// The half of the product, or the rounding.
fn binary_suffix(op: BinaryOp, ty: Type) -> &'static str {
    let float = ty.kind() == Kind::Float;
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div if float => ".rn",
        BinaryOp::Mul => ".lo",
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Div | BinaryOp::MulHi | BinaryOp::MulWide | BinaryOp::Rem => "",
        BinaryOp::Min | BinaryOp::Max | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => "",
        BinaryOp::Shl | BinaryOp::Shr => "",
    }
}

fn suffix(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(".{name}") }
}

/// What stands before and after the space.
fn cached(cache: Cache) -> (&'static str, &'static str) {
    match cache {
        Cache::Default => ("", ""),
        Cache::NonCoherent => ("", ".nc"),
        Cache::Volatile => (".volatile", ""),
    }
}

fn vector(len: usize) -> String {
    if len == 1 { String::new() } else { format!(".v{len}") }
}

/// What follows the name of an instruction, with a space before it.
fn operands(f: &mut Formatter<'_>, op: &InstOp, entry: Option<&str>) -> fmt::Result {
    let at = |address: &Address| InSquare(*address, entry);
    match op {
        InstOp::Label(_) | InstOp::Comment(_) => Ok(()),
        InstOp::NoUnroll => f.write_str(" \"nounroll\""),
        InstOp::Mov { ty, d, a } => write!(f, " {d}, {}", As(a, *ty)),
        InstOp::Pack { d, a, b } => write!(f, " {d}, {{{a}, {b}}}"),
        InstOp::Unpack { d, e, a } => write!(f, " {{{d}, {e}}}, {a}"),
        InstOp::Unary { ty, d, a, .. } => write!(f, " {d}, {}", As(a, *ty)),
        InstOp::Binary { op, ty, d, a, b, .. } => write!(f, " {d}, {}, {}", As(a, *ty), As(b, op.second(*ty))),
        InstOp::Ternary { op, ty, d, a, b, c, .. } => {
            write!(f, " {d}, {}, {}, {}", As(a, *ty), As(b, *ty), As(c, op.third(*ty)))
        }
        InstOp::Setp { ty, d, a, b, .. } => write!(f, " {d}, {}, {}", As(a, *ty), As(b, *ty)),
        InstOp::Selp { ty, d, a, b, p } => write!(f, " {d}, {}, {}, {p}", As(a, *ty), As(b, *ty)),
        InstOp::Cvt { d, a, .. } | InstOp::ToGlobal { d, a } => write!(f, " {d}, {a}"),
        InstOp::CvtPair { d, a, b, .. } => write!(f, " {d}, {a}, {b}"),
        InstOp::Ld { d, address, .. } => match d.as_slice() {
            [d] => write!(f, " {d}, {}", at(address)),
            d => write!(f, " {}, {}", Braces(d), at(address)),
        },
        InstOp::St { ty, address, a, .. } => match a.as_slice() {
            [a] => write!(f, " {}, {}", at(address), As(a, *ty)),
            a => {
                let a: Vec<_> = a.iter().map(|a| As(a, *ty)).collect();
                write!(f, " {}, {}", at(address), Braces(&a))
            }
        },
        InstOp::Bra { target } => write!(f, " {target}"),
        InstOp::Bar => write!(f, " 0"),
        InstOp::BarWarp { mask } => write!(f, " {}", As(mask, Type::B32)),
        InstOp::MembarGl | InstOp::CpAsyncCommit | InstOp::Ret => Ok(()),
        InstOp::Shfl { d, a, b, c, mask, .. } => {
            let (a, b) = (As(a, Type::B32), As(b, Type::U32));
            write!(f, " {d}, {a}, {b}, {}, {}", As(c, Type::U32), As(mask, Type::B32))
        }
        InstOp::Vote { d, p, negate, mask, .. } => {
            write!(f, " {d}, {}{p}, {}", if *negate { "!" } else { "" }, As(mask, Type::B32))
        }
        InstOp::Atom { ty, d, address, b, c, .. } => {
            write!(f, " {d}, {}, {}", at(address), As(b, *ty))?;
            c.as_ref().map_or(Ok(()), |c| write!(f, ", {}", As(c, *ty)))
        }
        InstOp::CpAsync { bytes, d, a, from } => {
            write!(f, " {}, {}, {bytes}", at(d), at(a))?;
            from.as_ref().map_or(Ok(()), |from| write!(f, ", {}", As(from, Type::U32)))
        }
        InstOp::CpAsyncWait { groups } => write!(f, " {groups}"),
        InstOp::LdMatrix { d, address, .. } => write!(f, " {}, {}", Braces(d), at(address)),
        InstOp::Mma { d, a, b, c, .. } => {
            write!(f, " {}, {}, {}, {}", Braces(d), Braces(a), Braces(b), Braces(c))
        }
    }
}

/// A list in braces.
struct Braces<'a, T>(&'a [T]);

impl<T: Display> Display for Braces<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}

/// An operand where an instruction reads this type.
struct As<'a>(&'a Operand, Type);

impl Display for As<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operand::Reg(reg) => reg.fmt(f),
            Operand::Imm(bits) => immediate(f, *bits, self.1),
            Operand::Special(special) => special.fmt(f),
            Operand::Shared => f.write_str("shared"),
            Operand::Local => f.write_str("local"),
        }
    }
}

/// The constant of a type with these bits; bits beyond the type's are dropped.
fn immediate(f: &mut Formatter<'_>, bits: u64, ty: Type) -> fmt::Result {
    let beyond = 64 - ty.bits();
    let bits = bits << beyond >> beyond;
    match (ty, ty.kind()) {
        (Type::F32, _) => write!(f, "0f{bits:08X}"),
        (Type::F64, _) => write!(f, "0d{bits:016X}"),
        (Type::Pred, _) | (_, Kind::Unsigned) => write!(f, "{bits}"),
        (_, Kind::Signed) => write!(f, "{}", (bits << beyond) as i64 >> beyond),
        (_, Kind::Bits | Kind::Float) => write!(f, "0x{bits:x}"),
    }
}

/// An address in an entry of a name.
struct InSquare<'a>(Address, Option<&'a str>);

impl Display for InSquare<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        let offset = match (self.0, self.1) {
            (Address::Reg(reg, offset), _) => {
                reg.fmt(f)?;
                offset
            }
            (Address::Param(i), Some(entry)) => {
                write!(f, "{entry}_p{i}")?;
                0
            }
            (Address::Param(i), None) => {
                write!(f, "p{i}")?;
                0
            }
            (Address::Shared(offset), _) => {
                f.write_str("shared")?;
                offset
            }
            (Address::Local(offset), _) => {
                f.write_str("local")?;
                offset
            }
        };
        if offset == 0 { f.write_str("]") } else { write!(f, "+{offset}]") }
    }
}
