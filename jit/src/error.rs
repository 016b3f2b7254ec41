//! The error type. A user error names the op, the operand types and the source location; a compiler error names the
//! pass and the value. Nothing here panics.

use std::fmt;
use std::panic::Location;

/// The result type of the fallible functions of fulgurite.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: a message and, for an op, its source location.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
    location: Option<&'static Location<'static>>,
}

impl Error {
    /// An error without a source location.
    pub fn new(message: impl Into<String>) -> Self {
        Error { message: message.into(), location: None }
    }

    /// An error of `op` at a source location: `op: message, at file:line`.
    pub fn op(op: &str, message: impl fmt::Display, location: &'static Location<'static>) -> Self {
        Error { message: format!("{op}: {message}"), location: Some(location) }
    }

    /// A compiler error that the verifier found after `pass`.
    pub fn compiler(pass: &str, message: impl fmt::Display) -> Self {
        Error {
            message: format!("compiler error after {pass}: {message} (this is a bug of fulgurite)"),
            location: None,
        }
    }

    /// An internal panic, caught during `doing`.
    pub(crate) fn panicked(doing: &str, message: impl fmt::Display) -> Self {
        Error { message: format!("compiler error in {doing}: {message} (this is a bug of fulgurite)"), location: None }
    }

    /// Prepends `context` to the message: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The same error at the source location of the user's call.
    pub(crate) fn at(self, location: &'static Location<'static>) -> Self {
        Error { location: Some(location), ..self }
    }

    /// The message without the source location.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The source location in user code, if there is one.
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
    /// As `Display`: `fn main() -> Result<()>` prints errors with `Debug`.
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
