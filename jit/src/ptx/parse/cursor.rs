//! The tokens of a text, from which the parser takes what it expects next.

use std::str::FromStr;

use super::lexer::{Token, TokenKind, line_error, tokens};
use crate::error::{Error, Result};
use crate::ptx::inst::Type;
use crate::ptx::names::Kind;

/// A place in the tokens.
pub(super) struct Cursor<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Cursor<'a> {
    /// The start of a text.
    pub(super) fn new(text: &'a str) -> Result<Self> {
        Ok(Cursor { tokens: tokens(text)?, next: 0 })
    }

    /// The next token, which is no comment: those between tokens of one statement are dropped.
    fn peek(&mut self) -> Option<TokenKind<'a>> {
        while self.comment().is_some() {}
        self.tokens.get(self.next).map(|token| token.kind)
    }

    /// The line of the next token, or of the last.
    pub(super) fn line(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    /// The error of expecting something else than what comes next.
    pub(super) fn expected(&mut self, what: impl std::fmt::Display) -> Error {
        let found = match self.peek() {
            Some(TokenKind::Word(word)) => format!("`{word}`"),
            Some(TokenKind::Mark(mark)) => format!("`{mark}`"),
            Some(TokenKind::Comment(_)) | None => "the end of the text".into(),
        };
        line_error(self.line(), format!("expected {what}, found {found}"))
    }

    /// The error of expecting something else than the word that was taken last.
    pub(super) fn expected_before(&mut self, what: impl std::fmt::Display) -> Error {
        self.back();
        self.expected(what)
    }

    /// Returns the word that was taken last.
    pub(super) fn back(&mut self) {
        self.next = self.next.saturating_sub(1);
    }

    /// The comment that comes next.
    pub(super) fn comment(&mut self) -> Option<&'a str> {
        match self.tokens.get(self.next)?.kind {
            TokenKind::Comment(text) => {
                self.next += 1;
                Some(text)
            }
            TokenKind::Word(_) | TokenKind::Mark(_) => None,
        }
    }

    /// Is this the next character?
    pub(super) fn at_mark(&mut self, mark: char) -> bool {
        self.peek() == Some(TokenKind::Mark(mark))
    }

    /// Takes a character, if it is the next.
    pub(super) fn eat(&mut self, mark: char) -> bool {
        let found = self.at_mark(mark);
        self.next += usize::from(found);
        found
    }

    /// Takes a word, if it is the next.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(TokenKind::Word(word));
        self.next += usize::from(found);
        found
    }

    /// Takes a character, which has to be the next.
    pub(super) fn expect(&mut self, mark: char) -> Result<()> {
        if self.eat(mark) { Ok(()) } else { Err(self.expected(format!("`{mark}`"))) }
    }

    /// Takes a word, which has to be the next.
    pub(super) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.expected(format!("`{word}`"))) }
    }

    /// Takes a word.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Some(TokenKind::Word(word)) => {
                self.next += 1;
                Ok(word)
            }
            Some(TokenKind::Mark(_) | TokenKind::Comment(_)) | None => Err(self.expected(what)),
        }
    }

    /// Is the text at its end?
    pub(super) fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Takes a decimal number without a sign.
    pub(super) fn number<T: FromStr>(&mut self, what: &str) -> Result<T> {
        let word = self.word(what)?;
        digits(word).ok_or_else(|| self.expected_before(what))
    }

    /// Takes the offset of an address, if there is one.
    pub(super) fn offset(&mut self) -> Result<i32> {
        let what = "an offset of 32 bits";
        if !self.eat('+') {
            return Ok(0);
        }
        let negative = self.eat('-');
        let size: i64 = self.number(what)?;
        i32::try_from(if negative { -size } else { size }).map_err(|_| self.expected_before(what))
    }

    /// Takes a constant: the bits of a value of the type.
    pub(super) fn immediate(&mut self, ty: Type) -> Result<u64> {
        let what = format!("a value of {ty}");
        let negative = self.eat('-');
        let word = self.word(&what)?;
        let bits = match (ty, ty.kind()) {
            (Type::F32, _) if !negative => float(word, 'f', 8),
            (Type::F64, _) if !negative => float(word, 'd', 16),
            // PTX has no constants of smaller floats.
            (_, Kind::Float) => None,
            (_, Kind::Bits | Kind::Unsigned | Kind::Signed) => integer(negative, word, ty),
        };
        bits.ok_or_else(|| self.expected_before(what))
    }
}

/// A decimal number as it is printed: without a leading zero, which makes it octal in PTX.
pub(super) fn digits<T: FromStr>(word: &str) -> Option<T> {
    let canonical = word.bytes().all(|b| b.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if canonical { word.parse().ok() } else { None }
}

/// The bits of a float in hexadecimal: `0f3F800000`.
fn float(word: &str, letter: char, len: usize) -> Option<u64> {
    let hex = word.strip_prefix('0')?;
    let hex = hex.strip_prefix(letter).or_else(|| hex.strip_prefix(letter.to_ascii_uppercase()))?;
    if hex.len() == len { hexadecimal(hex) } else { None }
}

fn hexadecimal(hex: &str) -> Option<u64> {
    if hex.bytes().all(|b| b.is_ascii_hexdigit()) { u64::from_str_radix(hex, 16).ok() } else { None }
}

/// The bits of an integer that the type's width holds, with or without a sign.
fn integer(negative: bool, word: &str, ty: Type) -> Option<u64> {
    let size = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => hexadecimal(hex)?,
        None => digits(word)?,
    };
    let max = u64::MAX >> (64 - ty.bits());
    let fits = if negative { size <= max / 2 + 1 } else { size <= max };
    let value = if negative { size.wrapping_neg() } else { size };
    if fits { Some(value & max) } else { None }
}
