//! The graph: a program over tensors, in the order of evaluation.
//!
//! A value is an op applied to earlier values; there are no cycles, no names and no effects. Inputs are
//! [`Op::Param`] values, results are listed in `outputs`. An op with several results is a node that only
//! [`Op::Result`] nodes use, each of which is one of its results.
//!
//! **Invariant:** an operand is always an earlier value. **Invariant:** a value's type is what [`Graph::infer`] says.
//! **Invariant:** a node with several results is the operand of projections alone. [`verify`] checks these (and more)
//! before the first pass, and in debug builds after every one.

mod conv;
mod conv_samples;
mod dims;
mod env;
mod family;
pub(crate) mod fourier;
pub mod infer;
mod literal;
mod op;
mod parameter;
mod parse;
mod precision;
mod print;
mod samples;
mod verify;

use std::hash::{Hash, Hasher};
use std::panic::Location;

use smallvec::{SmallVec, smallvec};

pub use conv::{ConvDims, dilated};
pub use dims::{Coordinate, GatherDims, ScatterOp};
pub use env::Env;
pub use family::{ArgOp, BinaryOp, Class, CompareOp, CumulativeOp, ReduceOp, UnaryOp};
pub use infer::{Results, infer, results};
pub use literal::{Constant, Literal};
pub use op::{DotAxes, Op, OpClass, Sample, Triangular};
pub use parse::{parse, parse_unchecked};
pub use precision::Precision;
#[cfg(any(test, feature = "testing"))]
pub(crate) use samples::kinds;
pub use samples::samples;
pub use verify::verify;

use crate::types::TensorType;

/// A value of a graph, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The position as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for ValueId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// The operands of a value.
pub type Operands = SmallVec<[ValueId; 4]>;

/// A value: an op, its operands, and what it gives.
#[derive(Debug)]
pub struct Node {
    /// What is done.
    pub op: Op,
    /// To what.
    pub operands: Operands,
    /// The type of the result; of the first where there are several.
    pub ty: TensorType,
    /// The user's line that asked for it, where known.
    pub location: Option<&'static Location<'static>>,
}

impl Clone for Node {
    // A derived clone pushes the operands one by one.
    fn clone(&self) -> Self {
        let operands = Operands::from_slice(&self.operands);
        Node { op: self.op.clone(), operands, ty: self.ty.clone(), location: self.location }
    }
}

impl Node {
    /// The user's line, or that of the caller where it is not known.
    #[track_caller]
    pub fn location_or_caller(&self) -> &'static Location<'static> {
        match self.location {
            Some(location) => location,
            None => Location::caller(),
        }
    }

    /// How many results it has.
    pub fn results(&self) -> usize {
        self.op.results(self.operands.len())
    }
}

// The user's line is no part of what a node is.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.operands == other.operands && self.ty == other.ty
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.op, &self.operands, &self.ty).hash(state);
    }
}

/// A program over tensors. Two are equal when they have the same values in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Graph {
    /// The values; operands come earlier.
    pub nodes: Vec<Node>,
    /// The inputs in order: values that are [`Op::Param`].
    pub params: Vec<ValueId>,
    /// The results in order.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value at `id`.
    pub fn node(&self, id: ValueId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The type of `id`.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.nodes[id.index()].ty
    }

    /// All values in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = ValueId> + use<> {
        (0..self.nodes.len() as u32).map(ValueId)
    }

    /// Adds an input.
    pub fn param(&mut self, ty: TensorType) -> ValueId {
        let id = self.push(Node { op: Op::Param(self.params.len()), operands: Operands::new(), ty, location: None });
        self.params.push(id);
        id
    }

    /// Adds a value whose type has been inferred.
    pub fn push(&mut self, node: Node) -> ValueId {
        let id = ValueId(self.nodes.len() as u32);
        self.nodes.push(node);
        id
    }

    /// The type of `op` on these operands; of its first result where it has several.
    ///
    /// # Errors
    /// Why the op cannot be applied to them.
    pub fn infer(&self, op: &Op, operands: &[ValueId]) -> Result<TensorType, String> {
        if let (Op::Result(index), [of]) = (op, operands) {
            let of = self.node(*of);
            let types: SmallVec<[&TensorType; 4]> = of.operands.iter().map(|&x| self.ty(x)).collect();
            let count = of.results();
            if count == 1 {
                return Err(format!("{} has one result, which is itself", of.op.name()));
            }
            let result = results(&of.op, &types)?.into_iter().nth(*index as usize);
            return result.ok_or_else(|| format!("{} has {count} results, not a number {index}", of.op.name()));
        }
        let types: SmallVec<[&TensorType; 4]> = operands.iter().map(|&x| self.ty(x)).collect();
        infer(op, &types)
    }

    /// Adds a projection for each of the results of `of`, which have these types.
    pub fn project(&mut self, of: ValueId, types: Results) -> Vec<ValueId> {
        let location = self.node(of).location;
        let project = |(i, ty)| self.push(Node { op: Op::Result(i), operands: smallvec![of], ty, location });
        (0..).zip(types).map(project).collect()
    }

    /// The types of the inputs.
    pub fn param_types(&self) -> Vec<TensorType> {
        self.params.iter().map(|&p| self.ty(p).clone()).collect()
    }

    /// The types of the results.
    pub fn output_types(&self) -> Vec<TensorType> {
        self.outputs.iter().map(|&p| self.ty(p).clone()).collect()
    }

    /// How often each value is used, as an operand or a result.
    pub fn uses(&self) -> Vec<u32> {
        let mut uses = vec![0; self.nodes.len()];
        for x in self.nodes.iter().flat_map(|n| &n.operands).chain(&self.outputs) {
            uses[x.index()] += 1;
        }
        uses
    }
}
