//! Reads the operands of an instruction.
//!
//! An instruction whose operands mean nothing comes in, as `mnemonics` has it, and goes out with those of the text.

use super::cursor::{Cursor, digits};
use crate::error::Result;
use crate::ptx::inst::{Address, InstOp, Label, Operand, Reg, RegClass, Space, Special, Type, Vote};

/// What an entry declares.
pub(super) struct Scope<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The number of its parameters.
    pub(super) params: usize,
    /// The number of registers of each class.
    pub(super) registers: [u32; 6],
    /// Bytes of shared memory.
    pub(super) shared: u32,
    /// Bytes of local memory.
    pub(super) local: u32,
}

impl Scope<'_> {
    /// The instruction with the operands that come next.
    pub(super) fn operands(&self, cursor: &mut Cursor<'_>, op: &InstOp) -> Result<InstOp> {
        let wide = matches!(op, InstOp::Ld { .. } | InstOp::St { .. } | InstOp::Cvt { .. });
        let mut next = Operands { scope: self, cursor, first: true, wide };
        Ok(match op {
            // They have no name of an instruction.
            InstOp::Label(_) | InstOp::Comment(_) => op.clone(),
            InstOp::NoUnroll => {
                next.cursor.expect('"')?;
                next.cursor.expect_word("nounroll")?;
                next.cursor.expect('"')?;
                InstOp::NoUnroll
            }
            InstOp::Mov { ty: Type::B64, .. } if next.cursor.at_mark('{') => {
                let [d, e] = next.registers(Type::B32)?;
                InstOp::Unpack { d, e, a: next.register(Type::B64)? }
            }
            InstOp::Mov { ty, .. } => {
                let d = next.register(*ty)?;
                next.separator()?;
                if *ty == Type::B64 && next.cursor.at_mark('{') {
                    next.first = true;
                    let [a, b] = next.registers(Type::B32)?;
                    InstOp::Pack { d, a, b }
                } else {
                    InstOp::Mov { ty: *ty, d, a: next.source(*ty)? }
                }
            }
            // They are read as the `mov.b64` that they are.
            InstOp::Pack { .. } | InstOp::Unpack { .. } => op.clone(),
            &InstOp::Unary { op, ty, flush, .. } => {
                InstOp::Unary { op, ty, flush, d: next.register(op.result(ty))?, a: next.operand(ty)? }
            }
            &InstOp::Binary { op, ty, flush, .. } => {
                let (d, a) = (next.register(op.result(ty))?, next.operand(ty)?);
                InstOp::Binary { op, ty, flush, d, a, b: next.operand(op.second(ty))? }
            }
            &InstOp::Ternary { op, ty, flush, .. } => {
                let (d, a, b) = (next.register(op.third(ty))?, next.operand(ty)?, next.operand(ty)?);
                InstOp::Ternary { op, ty, flush, d, a, b, c: next.operand(op.third(ty))? }
            }
            &InstOp::Setp { cmp, ty, flush, .. } => {
                let d = next.predicate()?;
                InstOp::Setp { cmp, ty, flush, d, a: next.operand(ty)?, b: next.operand(ty)? }
            }
            &InstOp::Selp { ty, .. } => {
                let (d, a, b) = (next.register(ty)?, next.operand(ty)?, next.operand(ty)?);
                InstOp::Selp { ty, d, a, b, p: next.predicate()? }
            }
            &InstOp::Cvt { to, from, rounding, flush, .. } => {
                InstOp::Cvt { to, from, rounding, flush, d: next.register(to)?, a: next.register(from)? }
            }
            &InstOp::CvtPair { to, .. } => {
                let (d, a) = (next.register(to)?, next.register(Type::F32)?);
                InstOp::CvtPair { to, d, a, b: next.register(Type::F32)? }
            }
            InstOp::Ld { space, cache, ty, d, .. } => {
                let d = match d.len() {
                    1 => vec![next.register(*ty)?],
                    len => next.list_of_registers(len, *ty)?,
                };
                InstOp::Ld { space: *space, cache: *cache, ty: *ty, d, address: next.address(*space)? }
            }
            InstOp::St { space, cache, ty, a, .. } => {
                let address = next.address(*space)?;
                let a = match a.len() {
                    1 => vec![next.operand(*ty)?],
                    len => next.list_of_operands(len, *ty)?,
                };
                InstOp::St { space: *space, cache: *cache, ty: *ty, address, a }
            }
            InstOp::ToGlobal { .. } => InstOp::ToGlobal { d: next.register(Type::U64)?, a: next.register(Type::U64)? },
            InstOp::Bra { .. } => InstOp::Bra { target: next.label()? },
            InstOp::Bar => {
                next.cursor.expect_word("0")?;
                InstOp::Bar
            }
            InstOp::BarWarp { .. } => InstOp::BarWarp { mask: next.operand(Type::B32)? },
            InstOp::MembarGl | InstOp::CpAsyncCommit | InstOp::Ret => op.clone(),
            &InstOp::Shfl { mode, .. } => {
                let (d, a, b) = (next.register(Type::B32)?, next.operand(Type::B32)?, next.operand(Type::U32)?);
                InstOp::Shfl { mode, d, a, b, c: next.operand(Type::U32)?, mask: next.operand(Type::B32)? }
            }
            &InstOp::Vote { mode, .. } => {
                let d = next.register(if mode == Vote::Ballot { Type::B32 } else { Type::Pred })?;
                next.separator()?;
                let negate = next.cursor.eat('!');
                let p = self.predicate(next.cursor)?;
                InstOp::Vote { mode, d, p, negate, mask: next.operand(Type::B32)? }
            }
            &InstOp::Atom { op, space, ty, c, .. } => {
                let (d, address, b) = (next.register(ty)?, next.address(space)?, next.operand(ty)?);
                let c = if c.is_some() { Some(next.operand(ty)?) } else { None };
                InstOp::Atom { op, space, ty, d, address, b, c }
            }
            &InstOp::CpAsync { bytes, .. } => {
                let (d, a) = (next.address(Space::Shared)?, next.address(Space::Global)?);
                next.separator()?;
                let sizes: &[u32] = if bytes == 16 { &[16] } else { &[4, 8] };
                let what = if bytes == 16 { "16 bytes" } else { "4 or 8 bytes" };
                let bytes = next.cursor.number(what)?;
                if !sizes.contains(&bytes) {
                    return Err(next.cursor.expected_before(what));
                }
                let more = next.cursor.at_mark(',');
                let from = if more { Some(next.operand(Type::U32)?) } else { None };
                InstOp::CpAsync { bytes, d, a, from }
            }
            InstOp::CpAsyncWait { .. } => InstOp::CpAsyncWait { groups: next.cursor.number("a number of groups")? },
            InstOp::LdMatrix { transposed, d, .. } => {
                let d = next.list_of_registers(d.len(), Type::B32)?;
                InstOp::LdMatrix { transposed: *transposed, d, address: next.address(Space::Shared)? }
            }
            &InstOp::Mma { shape, ty, .. } => {
                let (d, a, b) = (next.registers(Type::F32)?, next.registers(Type::B32)?, next.registers(Type::B32)?);
                InstOp::Mma { shape, ty, d, a, b, c: next.registers(Type::F32)? }
            }
        })
    }

    /// Takes a predicate.
    pub(super) fn predicate(&self, cursor: &mut Cursor<'_>) -> Result<Reg> {
        let what = "a declared predicate";
        let word = cursor.word(what)?;
        match self.find(word) {
            Some(reg) if reg.class == RegClass::Pred => Ok(reg),
            _ => Err(cursor.expected_before(what)),
        }
    }

    /// The register of a name, if it is declared.
    fn find(&self, word: &str) -> Option<Reg> {
        let (name, id) = word.split_at(word.find(|c: char| c.is_ascii_digit())?);
        let (&class, &count) = RegClass::ALL.iter().zip(&self.registers).find(|(class, _)| class.name() == name)?;
        digits(id).filter(|&id| id < count).map(|id| Reg { class, id })
    }
}

/// The operands of an instruction, with a comma before each but the first.
struct Operands<'s, 'c, 't> {
    scope: &'s Scope<'s>,
    cursor: &'c mut Cursor<'t>,
    first: bool,
    /// May a register be wider than the type?
    wide: bool,
}

impl Operands<'_, '_, '_> {
    fn separator(&mut self) -> Result<()> {
        if std::mem::take(&mut self.first) { Ok(()) } else { self.cursor.expect(',') }
    }

    fn register(&mut self, ty: Type) -> Result<Reg> {
        self.separator()?;
        self.plain_register(ty)
    }

    fn plain_register(&mut self, ty: Type) -> Result<Reg> {
        let what = format!("a declared register of {ty}");
        let word = self.cursor.word(&what)?;
        self.find(word, ty).ok_or_else(|| self.cursor.expected_before(what))
    }

    /// The register of a name, if it is declared and holds the type.
    fn find(&self, word: &str, ty: Type) -> Option<Reg> {
        self.scope.find(word).filter(|reg| reg.class.holds(ty, self.wide))
    }

    fn predicate(&mut self) -> Result<Reg> {
        self.separator()?;
        self.scope.predicate(self.cursor)
    }

    fn operand(&mut self, ty: Type) -> Result<Operand> {
        self.separator()?;
        self.plain_operand(ty)
    }

    /// A register or a constant.
    fn plain_operand(&mut self, ty: Type) -> Result<Operand> {
        let what = format!("a declared register or a value of {ty}");
        if self.cursor.at_mark('-') {
            return Ok(Operand::Imm(self.cursor.immediate(ty)?));
        }
        let word = self.cursor.word(&what)?;
        if let Some(reg) = self.find(word, ty) {
            return Ok(Operand::Reg(reg));
        }
        self.cursor.back();
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Operand::Imm(self.cursor.immediate(ty)?));
        }
        Err(self.cursor.expected(what))
    }

    /// What `mov` reads: also a special register or the address of a variable, which other instructions do not take.
    fn source(&mut self, ty: Type) -> Result<Operand> {
        if matches!(ty, Type::B32 | Type::U32 | Type::S32)
            && let Some(special) = Special::ALL.iter().find(|special| self.cursor.eat_word(special.name()))
        {
            return Ok(Operand::Special(*special));
        }
        if matches!(ty, Type::B32 | Type::U32 | Type::B64 | Type::U64) {
            if self.scope.shared > 0 && self.cursor.eat_word("shared") {
                return Ok(Operand::Shared);
            }
            if self.scope.local > 0 && self.cursor.eat_word("local") {
                return Ok(Operand::Local);
            }
        }
        self.plain_operand(ty)
    }

    /// An address in a space.
    fn address(&mut self, space: Space) -> Result<Address> {
        self.separator()?;
        self.cursor.expect('[')?;
        let what = format!("an address in {space} memory");
        let word = self.cursor.word(&what)?;
        let param = word.strip_prefix(self.scope.name).and_then(|rest| rest.strip_prefix("_p")).and_then(digits);
        let param = param.filter(|&i: &u32| (i as usize) < self.scope.params);
        let address = match (space, self.scope.find(word)) {
            (Space::Param, _) => param.map(Address::Param),
            (_, Some(reg)) if matches!(reg.class, RegClass::B32 | RegClass::B64) => {
                Some(Address::Reg(reg, self.cursor.offset()?))
            }
            (Space::Shared, None) if self.scope.shared > 0 && word == "shared" => {
                Some(Address::Shared(self.cursor.offset()?))
            }
            (Space::Local, None) if self.scope.local > 0 && word == "local" => {
                Some(Address::Local(self.cursor.offset()?))
            }
            (Space::Global | Space::Shared | Space::Local, _) => None,
        };
        let address = address.ok_or_else(|| self.cursor.expected_before(what))?;
        self.cursor.expect(']')?;
        Ok(address)
    }

    fn label(&mut self) -> Result<Label> {
        let what = "a label, as `L0`";
        let word = self.cursor.word(what)?;
        word.strip_prefix('L').and_then(digits).map(Label).ok_or_else(|| self.cursor.expected_before(what))
    }

    /// So many operands in braces. Registers have one width, also where they may be wider than the type.
    fn list<T>(
        &mut self,
        len: usize,
        item: impl Fn(&mut Self) -> Result<T>,
        reg: fn(&T) -> Option<Reg>,
    ) -> Result<Vec<T>> {
        self.separator()?;
        self.cursor.expect('{')?;
        let mut items = Vec::with_capacity(len);
        let mut width = None;
        for i in 0..len {
            if i > 0 {
                self.cursor.expect(',')?;
            }
            let next = item(self)?;
            if let Some(bits) = reg(&next).map(|reg| reg.class.declared().bits())
                && *width.get_or_insert(bits) != bits
            {
                return Err(self.cursor.expected_before("registers of one width"));
            }
            items.push(next);
        }
        self.cursor.expect('}')?;
        Ok(items)
    }

    /// So many registers in braces.
    fn list_of_registers(&mut self, len: usize, ty: Type) -> Result<Vec<Reg>> {
        self.list(len, |next| next.plain_register(ty), |&reg| Some(reg))
    }

    /// So many operands in braces.
    fn list_of_operands(&mut self, len: usize, ty: Type) -> Result<Vec<Operand>> {
        self.list(
            len,
            |next| next.plain_operand(ty),
            |operand| match *operand {
                Operand::Reg(reg) => Some(reg),
                Operand::Imm(_) | Operand::Special(_) | Operand::Shared | Operand::Local => None,
            },
        )
    }

    /// Registers in braces.
    fn registers<const N: usize>(&mut self, ty: Type) -> Result<[Reg; N]> {
        let list = self.list_of_registers(N, ty)?;
        let what = "as many registers as the instruction has";
        <[Reg; N]>::try_from(list).map_err(|_| self.cursor.expected(what))
    }
}
