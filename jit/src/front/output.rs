//! What a traced function may give: a tree, or a `Result` of one.

use super::tree::Tree;
use crate::error::Result;

/// What a traced function gives. With a `Result`, `?` works inside, and the call returns one `Result`: the first
/// mistake of an op, or else the function's own error.
#[diagnostic::on_unimplemented(
    message = "a traced function gives a tree of tensors or a `fulgurite::Result` of one, not `{Self}`",
    label = "neither a tree nor a `Result<_, fulgurite::Error>` of one",
    note = "a plain value that goes with the tensors is `Static(value)`; an error of another kind becomes one of ours by \
            `Error::new(e.to_string())`"
)]
pub trait Output {
    /// The tree.
    type Tree: Tree;

    /// The tree, or why there is none.
    ///
    /// # Errors
    /// The function's own.
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
