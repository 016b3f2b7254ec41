//! The words of PTX: what each type, operation and modifier is called in text.
//!
//! Values of `inst` come in, words go out. Words that depend on more than one value (`mul.lo` of integers, `mul.rn` of
//! floats) are not made here but in `print`.

use std::fmt;

use super::inst::{
    Atomic, BinaryOp, Cache, Cmp, MmaShape, RegClass, Rounding, Shuffle, Space, Special, TernaryOp, Type, UnaryOp, Vote,
};

/// For each type: all of its values, and the word of each.
macro_rules! names {
    ($($t:ident { $($value:ident = $name:literal),* $(,)? })*) => {$(
        impl $t {
            /// All values.
            pub const ALL: &'static [$t] = &[$($t::$value),*];

            /// The word in text.
            pub fn name(self) -> &'static str {
                match self {
                    $($t::$value => $name),*
                }
            }
        }

        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    )*};
}

names! {
    Type {
        Pred = "pred", B8 = "b8", U8 = "u8", S8 = "s8", B16 = "b16", U16 = "u16", S16 = "s16", F16 = "f16",
        Bf16 = "bf16", B32 = "b32", U32 = "u32", S32 = "s32", F32 = "f32", F16x2 = "f16x2", Bf16x2 = "bf16x2",
        Tf32 = "tf32", B64 = "b64", U64 = "u64", S64 = "s64", F64 = "f64",
    }
    RegClass { Pred = "%p", B16 = "%h", B32 = "%r", B64 = "%rd", F32 = "%f", F64 = "%fd" }
    Special {
        Tid = "%tid.x", Ntid = "%ntid.x", Ctaid = "%ctaid.x", Nctaid = "%nctaid.x", Laneid = "%laneid",
    }
    Space { Global = "global", Shared = "shared", Local = "local", Param = "param" }
    Cache { Default = "", NonCoherent = "nc", Volatile = "volatile" }
    BinaryOp {
        Add = "add", Sub = "sub", Mul = "mul", MulHi = "mul.hi", MulWide = "mul.wide", Div = "div", Rem = "rem",
        Min = "min", Max = "max", And = "and", Or = "or", Xor = "xor", Shl = "shl", Shr = "shr",
    }
    UnaryOp {
        Neg = "neg", Abs = "abs", Not = "not", Sqrt = "sqrt.rn", Rcp = "rcp.rn", Clz = "clz", Popc = "popc",
        Brev = "brev",
    }
    TernaryOp { Fma = "fma.rn", Mad = "mad.lo", MadWide = "mad.wide" }
    Cmp {
        Eq = "eq", Ne = "ne", Lt = "lt", Le = "le", Gt = "gt", Ge = "ge", Equ = "equ", Neu = "neu", Ltu = "ltu",
        Leu = "leu", Gtu = "gtu", Geu = "geu", Num = "num", Nan = "nan",
    }
    Rounding { None = "", Rn = "rn", Rz = "rz", Rna = "rna", Rni = "rni", Rzi = "rzi", Rmi = "rmi", Rpi = "rpi" }
    Shuffle { Up = "up", Down = "down", Bfly = "bfly", Idx = "idx" }
    Vote { All = "all", Any = "any", Ballot = "ballot" }
    Atomic {
        Add = "add", Min = "min", Max = "max", And = "and", Or = "or", Xor = "xor", Exch = "exch", Cas = "cas",
    }
    MmaShape { M16N8K8 = "m16n8k8", M16N8K16 = "m16n8k16" }
}

impl RegClass {
    /// The type that registers of the class are declared with.
    pub fn declared(self) -> Type {
        match self {
            RegClass::Pred => Type::Pred,
            RegClass::B16 => Type::B16,
            RegClass::B32 => Type::B32,
            RegClass::B64 => Type::B64,
            RegClass::F32 => Type::F32,
            RegClass::F64 => Type::F64,
        }
    }
}

/// What the bits of a type are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bits without a meaning, among them predicates.
    Bits,
    /// An integer without a sign.
    Unsigned,
    /// An integer in two's complement.
    Signed,
    /// A float, or two.
    Float,
}

impl Type {
    /// The width in bits; that of a predicate is 1.
    pub fn bits(self) -> u32 {
        match self {
            Type::Pred => 1,
            Type::B8 | Type::U8 | Type::S8 => 8,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 16,
            Type::B32 | Type::U32 | Type::S32 | Type::F32 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 => 32,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 64,
        }
    }

    /// What the bits are.
    pub fn kind(self) -> Kind {
        match self {
            Type::Pred | Type::B8 | Type::B16 | Type::B32 | Type::B64 => Kind::Bits,
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => Kind::Unsigned,
            Type::S8 | Type::S16 | Type::S32 | Type::S64 => Kind::Signed,
            Type::F16 | Type::Bf16 | Type::F32 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 | Type::F64 => Kind::Float,
        }
    }

    /// The type with twice the bits that `mul.wide` and `mad.wide` of this type give. Others than integers of 16 and 32
    /// bits have none, and give themselves.
    pub fn wide(self) -> Type {
        match self {
            Type::U16 => Type::U32,
            Type::S16 => Type::S32,
            Type::U32 => Type::U64,
            Type::S32 => Type::S64,
            Type::Pred | Type::B8 | Type::U8 | Type::S8 | Type::B16 | Type::F16 | Type::Bf16 | Type::B32 => self,
            Type::F32 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 | Type::B64 | Type::U64 | Type::S64 | Type::F64 => self,
        }
    }
}

impl RegClass {
    /// Do instructions take a register of the class as an operand of a type? The widths are equal, and a float register
    /// is for its own type and for bits. Loads, stores and conversions (`wide`) also take a register of bits that is
    /// wider than an integer.
    pub fn holds(self, ty: Type, wide: bool) -> bool {
        let declared = self.declared();
        let of_bits = declared.kind() == Kind::Bits && declared != Type::Pred;
        if declared == Type::Pred || ty == Type::Pred {
            declared == ty
        } else if declared.bits() == ty.bits() {
            of_bits || ty.kind() == Kind::Bits || ty == declared
        } else {
            wide && of_bits && declared.bits() > ty.bits() && ty.kind() != Kind::Float
        }
    }
}

impl UnaryOp {
    /// The type of the result of an instruction of this type.
    pub fn result(self, ty: Type) -> Type {
        match self {
            UnaryOp::Clz | UnaryOp::Popc => Type::U32,
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::Sqrt | UnaryOp::Rcp | UnaryOp::Brev => ty,
        }
    }
}

impl BinaryOp {
    /// The type of the result of an instruction of this type.
    pub fn result(self, ty: Type) -> Type {
        match self {
            BinaryOp::MulWide => ty.wide(),
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::MulHi | BinaryOp::Div | BinaryOp::Rem => ty,
            BinaryOp::Min | BinaryOp::Max | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => ty,
            BinaryOp::Shl | BinaryOp::Shr => ty,
        }
    }

    /// The type of the second operand of an instruction of this type.
    pub fn second(self, ty: Type) -> Type {
        match self {
            BinaryOp::Shl | BinaryOp::Shr => Type::U32,
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::MulHi | BinaryOp::MulWide => ty,
            BinaryOp::Div | BinaryOp::Rem | BinaryOp::Min | BinaryOp::Max => ty,
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => ty,
        }
    }
}

impl TernaryOp {
    /// The type of the third operand, and of the result, of an instruction of this type.
    pub fn third(self, ty: Type) -> Type {
        match self {
            TernaryOp::MadWide => ty.wide(),
            TernaryOp::Fma | TernaryOp::Mad => ty,
        }
    }
}
