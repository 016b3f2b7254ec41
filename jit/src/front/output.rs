//! Results of traced functions: a tree, or a `Result` of one.

use super::tree::Tree;
use crate::error::Result;

/// The result type of a traced function. If it is a `Result`, `?` works inside the function, and the call returns one
/// `Result`: with the first error of an op, or else with the function's error.
#[diagnostic::on_unimplemented(
    message = "a traced function gives a tree of tensors or a `fulgurite::Result` of one, not `{Self}`",
    label = "neither a tree nor a `Result<_, fulgurite::Error>` of one",
    note = "a plain value that goes with the tensors is `Static(value)`; an error of another kind becomes one of ours by \
            `Error::new(e.to_string())`"
)]
pub trait Output {
    /// The tree.
    type Tree: Tree;

    /// Converts to a `Result`.
    ///
    /// # Errors
    /// The error of the function.
    fn into_result(self) -> Result<Self::Tree>;
}

impl<T: Tree> Output for T {
    type Tree = T;

    fn into_result(self) -> Result<T> {
        Ok(self)
    }
}

impl<T: Tree> Output for Result<T> {
    type Tree = T;

    fn into_result(self) -> Result<T> {
        self
    }
}
