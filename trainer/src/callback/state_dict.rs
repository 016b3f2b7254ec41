//! What a callback saves with a checkpoint.

use fulgurite_jit::{Error, Result, Tensor};
use serde_json::Value;

/// The state of a callback: a JSON value, and tensors under names that the callback chooses.
///
/// The tensors are leaves of the checkpoint's file (`callbacks.0.NAME`), bit for bit. Neither part should hold times or
/// absolute paths: equal runs save equal bytes.
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    /// Counters, names, and other small things.
    pub value: Value,
    /// Tensors under their names.
    pub tensors: Vec<(String, Tensor)>,
}

impl StateDict {
    /// Is there nothing to save?
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.value.as_object().map_or(self.value.is_null(), serde_json::Map::is_empty)
    }

    /// The field `name` of the JSON value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.value.get(name)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let found = self.tensors.iter().find(|(tensor, _)| tensor == name);
        found
            .map(|(_, tensor)| tensor)
            .ok_or_else(|| Error::new(format!("the callback's state has no tensor `{name}`")))
    }
}

impl From<Value> for StateDict {
    fn from(value: Value) -> Self {
        StateDict { value, tensors: Vec::new() }
    }
}
