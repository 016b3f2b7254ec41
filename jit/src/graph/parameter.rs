//! The parameters of ops as text: `[shape=4,5, axis=0, body=@f1]`.
//!
//! Each type that a parameter may have prints itself and reads itself; graphs are printed as further functions,
//! which `@` names.

use std::fmt::Display;
use std::sync::Arc;

use smallvec::{Array, SmallVec};

use super::Graph;
use super::conv::ConvDims;
use super::dims::{GatherDims, ScatterOp};
use super::precision::Precision;
use crate::error::{Error, Result};
use crate::types::DType;

/// What a parameter may be.
pub(super) trait Parameter {
    /// As text. `functions` gives graphs their names.
    fn text(&self, functions: &mut Functions) -> String;

    /// From the pieces between commas; an error says what is wrong with the parameter called `key`.
    fn read(key: &str, values: &[&str], functions: &Functions) -> std::result::Result<Self, String>
    where
        Self: Sized;
}

/// A field of an op as named parameters: one of the field's name, or several.
pub(super) trait Named: Sized {
    /// Calls `each` with every name and parameter.
    fn each(&self, key: &'static str, each: &mut dyn FnMut(&'static str, &dyn Parameter));

    /// Takes them from those of an op.
    fn take(key: &str, from: &mut Parameters<'_>) -> Result<Self>;
}

impl<P: Parameter> Named for P {
    fn each(&self, key: &'static str, each: &mut dyn FnMut(&'static str, &dyn Parameter)) {
        each(key, self);
    }

    fn take(key: &str, from: &mut Parameters<'_>) -> Result<Self> {
        from.read(key)
    }
}

/// Left out where there is none.
impl<P: Parameter> Named for Option<P> {
    fn each(&self, key: &'static str, each: &mut dyn FnMut(&'static str, &dyn Parameter)) {
        if let Some(parameter) = self {
            each(key, parameter);
        }
    }

    fn take(key: &str, from: &mut Parameters<'_>) -> Result<Self> {
        if from.has(key) { from.read(key).map(Some) } else { Ok(None) }
    }
}

impl Named for Box<GatherDims> {
    fn each(&self, _: &'static str, each: &mut dyn FnMut(&'static str, &dyn Parameter)) {
        each("offset_dims", &self.offset_dims);
        each("collapsed_slice_dims", &self.collapsed_slice_dims);
        each("start_index_map", &self.start_index_map);
        each("operand_batching_dims", &self.operand_batching_dims);
        each("start_indices_batching_dims", &self.start_indices_batching_dims);
    }

    fn take(_: &str, from: &mut Parameters<'_>) -> Result<Self> {
        Ok(Box::new(GatherDims {
            offset_dims: from.read("offset_dims")?,
            collapsed_slice_dims: from.read("collapsed_slice_dims")?,
            start_index_map: from.read("start_index_map")?,
            operand_batching_dims: from.read("operand_batching_dims")?,
            start_indices_batching_dims: from.read("start_indices_batching_dims")?,
        }))
    }
}

impl Named for Box<ConvDims> {
    fn each(&self, _: &'static str, each: &mut dyn FnMut(&'static str, &dyn Parameter)) {
        each("lhs_spec", &self.lhs_spec);
        each("rhs_spec", &self.rhs_spec);
        each("out_spec", &self.out_spec);
        each("strides", &self.strides);
        each("low", &self.low);
        each("high", &self.high);
        each("lhs_dilation", &self.lhs_dilation);
        each("rhs_dilation", &self.rhs_dilation);
        each("feature_groups", &self.feature_groups);
        each("batch_groups", &self.batch_groups);
    }

    fn take(_: &str, from: &mut Parameters<'_>) -> Result<Self> {
        Ok(Box::new(ConvDims {
            lhs_spec: from.read("lhs_spec")?,
            rhs_spec: from.read("rhs_spec")?,
            out_spec: from.read("out_spec")?,
            strides: from.read("strides")?,
            low: from.read("low")?,
            high: from.read("high")?,
            lhs_dilation: from.read("lhs_dilation")?,
            rhs_dilation: from.read("rhs_dilation")?,
            feature_groups: from.read("feature_groups")?,
            batch_groups: from.read("batch_groups")?,
        }))
    }
}

/// An item of a list.
trait Item: Sized {
    const WHAT: &'static str;
    fn text(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// A whole number within ±2³¹, so that no arithmetic on a few extents can overflow.
pub(super) fn bounded<T: TryFrom<i64>>(text: &str) -> Option<T> {
    text.parse::<i32>().ok().and_then(|n| T::try_from(i64::from(n)).ok())
}

macro_rules! numbers {
    ($($ty:ty),*) => {
        $(impl Item for $ty {
            const WHAT: &'static str = "such number";
            fn text(&self) -> String {
                self.to_string()
            }
            fn read(text: &str) -> Option<Self> {
                bounded(text)
            }
        })*
    };
}

numbers!(usize, isize, u32);

/// `1:0`
impl Item for (usize, usize) {
    const WHAT: &'static str = "pair such as `1:0`";

    fn text(&self) -> String {
        format!("{}:{}", self.0, self.1)
    }

    fn read(text: &str) -> Option<Self> {
        text.split_once(':').and_then(|(a, b)| Some((bounded(a)?, bounded(b)?)))
    }
}

impl<A: Array<Item: Item>> Parameter for SmallVec<A> {
    fn text(&self, _: &mut Functions) -> String {
        self.iter().map(Item::text).collect::<Vec<_>>().join(",")
    }

    fn read(key: &str, values: &[&str], _: &Functions) -> std::result::Result<Self, String> {
        let item =
            |value: &&str| A::Item::read(value).ok_or_else(|| format!("`{key}={value}` is no {}", A::Item::WHAT));
        values.iter().map(item).collect()
    }
}

/// A parameter that is one piece.
macro_rules! single {
    ($($ty:ty: $what:literal, $text:expr, $read:expr;)*) => {
        $(impl Parameter for $ty {
            fn text(&self, functions: &mut Functions) -> String {
                let text: fn(&$ty, &mut Functions) -> String = $text;
                text(self, functions)
            }

            fn read(key: &str, values: &[&str], functions: &Functions) -> std::result::Result<Self, String> {
                let read: fn(&str, &Functions) -> Option<$ty> = $read;
                let value = if let [value] = values { read(value, functions) } else { None };
                value.ok_or_else(|| format!("`{key}={}` is no {}", values.join(","), $what))
            }
        })*
    };
}

single! {
    usize: "such number", |x, _| x.to_string(), |text, _| bounded(text);
    u32: "such number", |x, _| x.to_string(), |text, _| bounded(text);
    bool: "truth value", |x, _| x.to_string(), |text, _| text.parse().ok();
    ScatterOp: "way to combine", |x, _| x.name().into(), |text, _| ScatterOp::parse(text);
    Precision: "precision", |x, _| x.name().into(), |text, _| Precision::parse(text);
    DType: "element type", |x, _| x.to_string(), |text, _| DType::parse(text);
    Arc<Graph>: "function", |x, functions| functions.name(x), |text, functions| functions.find(text);
}

/// The functions of a text: the graphs that ops have as parameters, by name.
#[derive(Default)]
pub(super) struct Functions(Vec<(String, Arc<Graph>)>);

impl Functions {
    /// The name of a graph; equal graphs have one.
    fn name(&mut self, graph: &Arc<Graph>) -> String {
        let known = self.0.iter().find(|(_, known)| Arc::ptr_eq(known, graph) || known == graph);
        match known {
            Some((name, _)) => format!("@{name}"),
            None => {
                let name = format!("f{}", self.0.len() + 1);
                self.0.push((name.clone(), graph.clone()));
                format!("@{name}")
            }
        }
    }

    fn find(&self, text: &str) -> Option<Arc<Graph>> {
        let name = text.strip_prefix('@')?;
        self.0.iter().find(|(known, _)| known == name).map(|(_, graph)| graph.clone())
    }

    /// The function that was named at this position.
    pub(super) fn get(&self, i: usize) -> Option<(String, Arc<Graph>)> {
        self.0.get(i).cloned()
    }

    /// Adds a function; `false` if there is one of that name.
    pub(super) fn define(&mut self, name: &str, graph: Graph) -> bool {
        let is_new = self.0.iter().all(|(known, _)| known != name);
        self.0.push((name.into(), Arc::new(graph)));
        is_new
    }
}

/// An error at a line of the text.
pub(super) fn line_error(line: usize, why: impl Display) -> Error {
    Error::new(format!("graph text, line {line}: {why}"))
}

/// The parameters of an op by name; reading one removes it.
pub(super) struct Parameters<'a> {
    line: usize,
    functions: &'a Functions,
    items: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(line: usize, functions: &'a Functions) -> Self {
        Parameters { line, functions, items: Vec::new() }
    }

    /// Splits `shape=4,5, dims=`; `false` if it does not begin with a name.
    pub(super) fn split(&mut self, inside: &'a str) -> bool {
        for piece in inside.split(',') {
            let value = match piece.split_once('=') {
                Some((key, value)) => {
                    self.items.push((key.trim(), Vec::new()));
                    value.trim()
                }
                None => piece.trim(),
            };
            match self.items.last_mut() {
                Some((_, values)) if !value.is_empty() => values.push(value),
                Some(_) => {}
                None => return false,
            }
        }
        true
    }

    pub(super) fn error(&self, why: impl Display) -> Error {
        line_error(self.line, why)
    }

    fn has(&self, key: &str) -> bool {
        self.items.iter().any(|(name, _)| *name == key)
    }

    pub(super) fn read<P: Parameter>(&mut self, key: &str) -> Result<P> {
        let Some(i) = self.items.iter().position(|(name, _)| *name == key) else {
            return Err(self.error(format!("parameter `{key}` is missing")));
        };
        let (_, values) = self.items.remove(i);
        P::read(key, &values, self.functions).map_err(|why| self.error(why))
    }

    pub(super) fn none_left(&self) -> Result<()> {
        match self.items.first() {
            Some((key, _)) => Err(self.error(format!("there is no parameter `{key}`, or it is named twice"))),
            None => Ok(()),
        }
    }
}
