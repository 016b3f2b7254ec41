//! The state of a run as hooks see it: leaves by name, read when a hook asks for them, and changed where the module
//! allows it.
//!
//! Between steps the state stays in the arrays of the bound training step. The first access in a moment lists the
//! leaves; a moment in which no hook looks costs nothing. Changes are kept here, and written back by the fit loop.

use fulgurite_jit::{Error, Result, Tensor, named_leaves};

use super::programs::Training;
use crate::callback::HookState;
use crate::module::LightningModule;
use crate::optim::Optimizer;

pub(super) struct LiveState<'a, M: LightningModule, O: Optimizer> {
    training: &'a Training<M, O>,
    optimizer: &'a O,
    changeable: &'a [&'a str],
    /// The leaves with the changes of this moment, once a hook has looked.
    leaves: Option<Vec<(String, Tensor)>>,
    is_changed: bool,
}

impl<'a, M: LightningModule, O: Optimizer> LiveState<'a, M, O> {
    pub(super) fn new(training: &'a Training<M, O>, optimizer: &'a O, changeable: &'a [&'a str]) -> Self {
        LiveState { training, optimizer, changeable, leaves: None, is_changed: false }
    }

    /// All leaves in order, if a hook has changed one.
    pub(super) fn into_changed(self) -> Option<Vec<Tensor>> {
        let leaves = self.leaves.filter(|_| self.is_changed)?;
        Some(leaves.into_iter().map(|(_, leaf)| leaf).collect())
    }
}

impl<M: LightningModule, O: Optimizer> HookState for LiveState<'_, M, O> {
    fn leaves(&mut self) -> &mut [(String, Tensor)] {
        self.leaves.get_or_insert_with(|| named_leaves(&self.training.state()))
    }

    fn set(&mut self, name: &str, value: Tensor) -> Result<()> {
        let changeable = self.changeable;
        let Some((_, leaf)) = self.leaves().iter_mut().find(|(leaf, _)| leaf == name) else {
            return Err(Error::new(format!("the state has no leaf `{name}`")));
        };
        if is_the_trainers(name) {
            return Err(Error::new(format!("`{name}` cannot be set: it is the trainer's")));
        }
        if !changeable.iter().any(|pattern| matches(pattern, name)) {
            return Err(Error::new(format!(
                "`{name}` cannot be set: the module declares {changeable:?} changeable (`LightningModule::changeable`)"
            )));
        }
        if value.ty() != leaf.ty() {
            return Err(Error::new(format!("`{name}` is {}, and cannot be set to {}", leaf.ty(), value.ty())));
        }
        value.array().map_err(|e| e.context(format!("`{name}` cannot be set")))?;
        *leaf = value;
        self.is_changed = true;
        Ok(())
    }

    fn learning_rate(&self) -> Option<Tensor> {
        self.optimizer.learning_rate(&self.training.state().opt_state)
    }
}

/// The step count and the key, without which a run could not be resumed exactly.
fn is_the_trainers(name: &str) -> bool {
    matches!(name.split('.').next(), Some("step" | "key"))
}

/// Does a pattern match a leaf? It is the name of the leaf or of a part of the state that holds it; `*` stands for any
/// one component.
fn matches(pattern: &str, name: &str) -> bool {
    let mut components = name.split('.');
    pattern.split('.').all(|wanted| components.next().is_some_and(|component| wanted == "*" || wanted == component))
}

/// Checks that each pattern of `changeable` matches a leaf that can be changed.
pub(super) fn check_changeable(changeable: &[&str], leaves: &[(String, Tensor)]) -> Result<()> {
    let unmatched = |pattern: &&&str| !leaves.iter().any(|(name, _)| !is_the_trainers(name) && matches(pattern, name));
    match changeable.iter().find(unmatched) {
        None => Ok(()),
        Some(pattern) => {
            let names: Vec<&str> = leaves.iter().map(|(name, _)| name.as_str()).collect();
            Err(Error::new(format!(
                "the module declares `{pattern}` changeable, which is no part of the model or of the optimizer's state: {}",
                names.join(", ")
            )))
        }
    }
}
