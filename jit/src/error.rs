//! The one error type. A user's error names the op, the operand types and the user's source line; a compiler's error
//! (ours) names the pass and the value. Both are values: nothing here panics.

use std::fmt;
use std::panic::Location;

/// What every fallible function of fulgurite returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Something that could not be done, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
    location: Option<&'static Location<'static>>,
}

impl Error {
    /// An error with a message only.
    pub fn new(message: impl Into<String>) -> Self {
        Error { message: message.into(), location: None }
    }

    /// An error about `op`, at the caller's line: `op: message, at file:line`.
    pub fn op(op: &str, message: impl fmt::Display, location: &'static Location<'static>) -> Self {
        Error { message: format!("{op}: {message}"), location: Some(location) }
    }

    /// A fault of the compiler itself, found by the verifier after `pass`.
    pub fn compiler(pass: &str, message: impl fmt::Display) -> Self {
        Error {
            message: format!("compiler error after {pass}: {message} (this is a bug of fulgurite)"),
            location: None,
        }
    }

    /// A panic of the compiler's, caught while it was `doing` something.
    pub(crate) fn panicked(doing: &str, message: impl fmt::Display) -> Self {
        Error { message: format!("compiler error in {doing}: {message} (this is a bug of fulgurite)"), location: None }
    }

    /// Puts what was being done before the message: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The same error at another source line: that of the user's call, where it happened within.
    pub(crate) fn at(self, location: &'static Location<'static>) -> Self {
        Error { location: Some(location), ..self }
    }

    /// The message without the source line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The user's source line, where one is known.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.location
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.location {
            Some(at) => write!(f, ", at {}:{}", at.file(), at.line()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    /// As it displays: this is what `fn main() -> Result<()>` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::new(e.to_string())
    }
}
