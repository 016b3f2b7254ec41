//! Cuts text into tokens.
//!
//! Text comes in, tokens with their lines go out. A word is a run of letters, digits and `_`, `$`, `%` and `.`: an
//! instruction with its suffixes is one word, and so is a register.

use crate::error::{Error, Result};

/// A token and its line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// The line, from 1 on.
    pub(super) line: usize,
    /// What it is.
    pub(super) kind: TokenKind<'a>,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TokenKind<'a> {
    /// A name or a number.
    Word(&'a str),
    /// A character on its own.
    Mark(char),
    /// A comment that is alone on its line, without the slashes and the space after them.
    Comment(&'a str),
}

/// The characters that stand on their own.
const MARKS: &str = ",;:[](){}<>@!+-\"";

/// The error of a line.
pub(super) fn line_error(line: usize, why: impl std::fmt::Display) -> Error {
    Error::new(format!("PTX text, line {line}: {why}"))
}

/// The tokens of a text. Comments that end a line of something else are dropped.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    for (i, full) in text.split('\n').enumerate() {
        let line = i + 1;
        let full = full.strip_suffix('\r').unwrap_or(full);
        let (code, comment) = match full.split_once("//") {
            Some((code, comment)) => (code, Some(comment)),
            None => (full, None),
        };
        let mut rest = code.trim_ascii_start();
        if let (true, Some(comment)) = (rest.is_empty(), comment) {
            let kind = TokenKind::Comment(comment.strip_prefix(' ').unwrap_or(comment));
            tokens.push(Token { line, kind });
        }
        while let Some(first) = rest.chars().next() {
            let len = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
            let (kind, len) = match first {
                _ if len > 0 => (TokenKind::Word(&rest[..len]), len),
                mark if MARKS.contains(mark) => (TokenKind::Mark(mark), mark.len_utf8()),
                other => return Err(line_error(line, format!("expected PTX, found {other:?}"))),
            };
            tokens.push(Token { line, kind });
            rest = rest[len..].trim_ascii_start();
        }
    }
    Ok(tokens)
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%' | '.')
}
