//! Reads the text that a module prints as.
//!
//! Text comes in, a module goes out, or an error with the number of the line and what is expected there. White space
//! and blank lines are free, and so are comments after `//`; those in the code of an entry that are alone on a line are
//! kept. Whatever `print` does not write is an error, although PTX may have it.

mod cursor;
mod lexer;
pub(super) mod mnemonics;
mod operands;

use hashbrown::HashSet;

use cursor::{Cursor, digits};
use lexer::line_error;
use operands::Scope;

use super::inst::{Entry, Inst, InstOp, Label, PtxModule, RegClass, Type};
use crate::error::Result;

/// The module that a text describes.
///
/// # Errors
/// Text that is no module of the subset: with the line and what is expected. It never panics.
pub fn parse(text: &str) -> Result<PtxModule> {
    let mut cursor = Cursor::new(text)?;
    let mut module = head(&mut cursor)?;
    let mut names = HashSet::new();
    while !cursor.at_end() {
        let line = cursor.line();
        let entry = entry(&mut cursor)?;
        if !names.insert(entry.name.clone()) {
            return Err(line_error(line, format!("expected a new name, found a second entry `{}`", entry.name)));
        }
        module.entries.push(entry);
    }
    Ok(module)
}

/// The directives before the entries.
fn head(cursor: &mut Cursor<'_>) -> Result<PtxModule> {
    cursor.expect_word(".version")?;
    let what = "a version, as `7.0`";
    let version = cursor.word(what)?;
    let version = version.split_once('.').and_then(|(major, minor)| {
        let (major, minor): (u32, u32) = (digits(major)?, digits(minor)?);
        if minor < 10 { major.checked_mul(10)?.checked_add(minor) } else { None }
    });
    let version = version.ok_or_else(|| cursor.expected_before(what))?;
    cursor.expect_word(".target")?;
    let what = "an architecture, as `sm_70`";
    let target = cursor.word(what)?.strip_prefix("sm_").and_then(digits);
    let target = target.ok_or_else(|| cursor.expected_before(what))?;
    cursor.expect_word(".address_size")?;
    cursor.expect_word("64")?;
    Ok(PtxModule { version, target, entries: Vec::new() })
}

fn entry(cursor: &mut Cursor<'_>) -> Result<Entry> {
    cursor.expect_word(".visible")?;
    cursor.expect_word(".entry")?;
    let what = "the name of an entry";
    let name = cursor.word(what)?;
    if !is_name(name) {
        return Err(cursor.expected_before(what));
    }
    let params = parameters(cursor, name)?;
    cursor.expect_word(".maxntid")?;
    let max_threads = cursor.number("a number of threads")?;
    for _ in 0..2 {
        cursor.expect(',')?;
        cursor.expect_word("1")?;
    }
    let min_blocks = match cursor.eat_word(".minnctapersm") {
        true => count(cursor, "a number of blocks, at least 1")?,
        false => 0,
    };
    cursor.expect('{')?;
    let mut scope = Scope { name, params: params.len(), registers: [0; 6], shared: 0, local: 0 };
    let body = body(cursor, &mut scope)?;
    let Scope { registers, shared, local, .. } = scope;
    Ok(Entry { name: name.into(), params, max_threads, min_blocks, shared, local, registers, body })
}

fn parameters(cursor: &mut Cursor<'_>, entry: &str) -> Result<Vec<Type>> {
    let mut params = Vec::new();
    cursor.expect('(')?;
    if cursor.eat(')') {
        return Ok(params);
    }
    loop {
        cursor.expect_word(".param")?;
        let what = "the type of a parameter";
        let ty = cursor.word(what)?.strip_prefix('.').and_then(|word| {
            let named = |ty: &&Type| ty.name() == word && mnemonics::is_stored(**ty);
            Type::ALL.iter().find(named).copied()
        });
        params.push(ty.ok_or_else(|| cursor.expected_before(what))?);
        cursor.expect_word(&format!("{entry}_p{}", params.len() - 1))?;
        if cursor.eat(')') {
            return Ok(params);
        }
        cursor.expect(',')?;
    }
}

/// The names that an entry can have.
fn is_name(word: &str) -> bool {
    let first = word.starts_with(|c: char| c.is_ascii_alphabetic()) || (word.starts_with(['_', '$']) && word.len() > 1);
    first && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
}

/// A number of things that are declared only where there are some.
fn count(cursor: &mut Cursor<'_>, what: &str) -> Result<u32> {
    let count = cursor.number(what)?;
    if count > 0 { Ok(count) } else { Err(cursor.expected_before(what)) }
}

/// Declarations and code, up to the brace.
fn body(cursor: &mut Cursor<'_>, scope: &mut Scope<'_>) -> Result<Vec<Inst>> {
    let mut body = Vec::new();
    let mut code = false;
    let mut labels = HashSet::new();
    let mut targets = Vec::new();
    loop {
        if let Some(text) = cursor.comment() {
            body.push(InstOp::Comment(text.into()).into());
            continue;
        }
        if cursor.eat('}') {
            break;
        }
        if !code && declaration(cursor, scope)? {
            continue;
        }
        code = true;
        let line = cursor.line();
        let guard = match cursor.eat('@') {
            true => {
                let negated = cursor.eat('!');
                Some((scope.predicate(cursor)?, !negated))
            }
            false => None,
        };
        let word = cursor.word("an instruction or `}`")?;
        if guard.is_none()
            && let Some(label) = label(word)
            && cursor.eat(':')
        {
            if !labels.insert(label) {
                return Err(line_error(line, format!("expected a new label, found a second `{label}`")));
            }
            body.push(InstOp::Label(label).into());
            continue;
        }
        let op = match mnemonics::BY_NAME.get(word) {
            Some(InstOp::NoUnroll) if guard.is_some() => return Err(cursor.expected_before("an instruction")),
            Some(op) => scope.operands(cursor, op)?,
            None => return Err(cursor.expected_before("an instruction")),
        };
        cursor.expect(';')?;
        if let InstOp::Bra { target } = op {
            targets.push((target, line));
        }
        body.push(Inst { guard, op });
    }
    match targets.iter().find(|(target, _)| !labels.contains(target)) {
        Some((target, line)) => Err(line_error(*line, format!("expected a label of the entry, found `{target}`"))),
        None => Ok(body),
    }
}

/// The label of a word.
fn label(word: &str) -> Option<Label> {
    word.strip_prefix('L').and_then(digits).map(Label)
}

/// Takes a declaration, if one comes next.
fn declaration(cursor: &mut Cursor<'_>, scope: &mut Scope<'_>) -> Result<bool> {
    if cursor.eat_word(".reg") {
        let ty = cursor.word("the type of registers")?;
        let classes = RegClass::ALL.iter().zip(&mut scope.registers);
        let class = classes.into_iter().find(|(class, _)| ty.strip_prefix('.') == Some(class.declared().name()));
        let Some((class, declared)) = class else {
            return Err(cursor.expected_before("the type of registers"));
        };
        if *declared > 0 {
            return Err(cursor.expected_before("a type that is not declared before"));
        }
        cursor.expect_word(class.name())?;
        cursor.expect('<')?;
        *declared = count(cursor, "a number of registers, at least 1")?;
        cursor.expect('>')?;
    } else if cursor.eat_word(".shared") {
        scope.shared = variable(cursor, "shared", scope.shared)?;
    } else if cursor.eat_word(".local") {
        scope.local = variable(cursor, "local", scope.local)?;
    } else {
        return Ok(false);
    }
    cursor.expect(';')?;
    Ok(true)
}

/// The bytes of a variable, which is declared once.
fn variable(cursor: &mut Cursor<'_>, name: &str, declared: u32) -> Result<u32> {
    if declared > 0 {
        return Err(cursor.expected_before(format!("one variable `{name}`")));
    }
    for word in [".align", "16", ".b8", name] {
        cursor.expect_word(word)?;
    }
    cursor.expect('[')?;
    let bytes = count(cursor, "a number of bytes, at least 1")?;
    cursor.expect(']')?;
    Ok(bytes)
}
