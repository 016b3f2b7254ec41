//! Makes a random program: its inputs, then op after op until it is long enough, then its results.
//!
//! Which op is drawn is in `draw`.

use smallvec::{SmallVec, smallvec};

use super::bound::{Bound, bound, exact_only};
use super::random::Random;
use crate::array::Array;
use crate::front::Tensor;
use crate::front::trace::trace;
use crate::graph::{Constant, DotAxes, Env, Graph, Literal, Node, Op, Sample, ValueId};
use crate::interp::interpret;
use crate::types::{Axes, DType, Shape, TensorType};

/// The interpreter computes every product of a contraction on its own.
const PRODUCTS: usize = 3_000_000;
/// How deep graphs lie in each other.
const DEPTH: usize = 2;

/// What programs are made of.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The most elements that a value has, in most programs.
    pub elements: usize,
    /// The same in the few programs of large values, whose products are blocked and whose work is partitioned. Without
    /// them, 0.
    pub large: usize,
    /// The most axes that a value has.
    pub rank: usize,
    /// The largest extent, in most programs.
    pub extent: usize,
    /// The least ops that a program is to have, and how many more there may be.
    pub ops: (usize, usize),
    /// Are there infinities and NaN, in one program of 16?
    pub wild: bool,
    /// How far a result may be from that of the interpreter; `None` where nothing useful can be said.
    pub bound: Bound,
}

impl Config {
    /// Programs to be compiled.
    pub const COMPILED: Config =
        Config { elements: 4096, large: 1_000_000, rank: 8, extent: 20, ops: (5, 36), wild: true, bound };

    /// Programs for graph passes: small ones, whose extents and elements are those that rules match, and whose floats
    /// are exact in every order of evaluation.
    pub const PASSES: Config =
        Config { elements: 200, large: 0, rank: 5, extent: 3, ops: (10, 8), wild: false, bound: exact_only };
}

/// The program of `seed`, and its inputs.
pub fn program(seed: u64, config: &Config) -> (Graph, Vec<Array>) {
    let mut maker = Maker::new(Random(seed), *config);
    maker.make();
    let inputs = maker.graph.params.iter().map(|id| maker.values[id.index()][0].clone()).collect();
    (maker.graph, inputs)
}

/// A program that is being made.
pub(super) struct Maker {
    pub(super) random: Random,
    pub(super) graph: Graph,
    config: Config,
    /// Of each node: its results, and how far a correct one may be from them.
    values: Vec<SmallVec<[Array; 1]>>,
    bounds: Vec<f64>,
    /// The extents that shapes are made of, so that values have axes in common.
    extents: [usize; 4],
    pub(super) dtypes: Vec<DType>,
    /// Are there infinities and NaNs among the inputs?
    wild: bool,
    /// The most elements that a value of this program has.
    elements: usize,
    /// In how many graphs this one lies.
    depth: usize,
}

impl Maker {
    fn new(random: Random, config: Config) -> Maker {
        Maker {
            random,
            graph: Graph::new(),
            config,
            values: vec![],
            bounds: vec![],
            extents: [1; 4],
            dtypes: vec![],
            wild: false,
            elements: config.elements,
            depth: 0,
        }
    }

    fn make(&mut self) {
        let large = self.config.large > 0 && self.random.one_in(24);
        let extent = self.config.extent;
        let most = if large {
            self.elements = self.config.large;
            self.random.one_of(&[64, 130, 300])
        } else if self.config.large > 0 && self.random.one_in(16) {
            self.random.one_of(&[33, 64, 100, 257])
        } else {
            extent
        };
        self.extents = std::array::from_fn(|_| 1 + self.random.below(most));
        // Arrays without elements, in one program of eight: they make all that is computed from them empty.
        if self.random.one_in(8) {
            self.extents[0] = 0;
        }
        self.wild = self.config.wild && self.random.one_in(16);
        // Programs of one type of float keep more of their values together in a kernel.
        self.dtypes = DType::ALL.to_vec();
        let floats: Vec<DType> = DType::ALL.into_iter().filter(|dtype| dtype.is_float()).collect();
        if self.random.one_in(2) {
            let float = self.random.one_of(&floats);
            self.dtypes.retain(|dtype| !dtype.is_float());
            self.dtypes.extend([float; 3]);
        }
        for i in 0..1 + self.random.below(4) {
            let mut ty = self.ty();
            // A program of large values begins with one.
            for _ in 0..100 {
                if large && i == 0 && ty.elements() <= self.config.elements {
                    ty = self.ty();
                }
            }
            self.param(ty);
        }
        if self.config.large > 0 && self.random.one_in(12) {
            self.product();
        }
        let (least, more) = self.config.ops;
        let count = if large { 2 + self.random.below(6) } else { least + self.random.below(more) };
        self.ops(count);
        self.outputs();
    }

    /// So many ops more, or a few less where too few of those that are drawn can be applied.
    fn ops(&mut self, count: usize) {
        let size = self.graph.nodes.len() + count;
        for _ in 0..400 {
            if self.graph.nodes.len() >= size {
                break;
            }
            self.op();
        }
    }

    fn param(&mut self, ty: TensorType) -> ValueId {
        let array = self.random.array(&ty, self.wild);
        self.input(array, 0.0)
    }

    fn input(&mut self, array: Array, bound: f64) -> ValueId {
        let ty = array.ty().clone();
        self.values.push(smallvec![array]);
        self.bounds.push(bound);
        self.graph.param(ty)
    }

    /// A product that is computed in blocks: of two matrices, or of several pairs, with their axes in any order.
    fn product(&mut self) -> Option<ValueId> {
        self.elements = self.config.large;
        let floats: Vec<DType> = self.dtypes.iter().copied().filter(|dtype| dtype.is_float()).collect();
        let dtype = self.random.one_of(&floats);
        let pairs = self.random.one_of(&[1, 1, 1, 2, 3]);
        let [mut m, mut n, mut k] = std::array::from_fn(|_| self.random.one_of(&[1, 5, 16, 31, 64, 97, 128, 200]));
        while pairs * m * n * k > PRODUCTS {
            (m, n, k) = (m.div_ceil(2), n.div_ceil(2), k.div_ceil(2));
        }
        // The extents of the pairs, of what is free and of what is summed over, in any order.
        let mut operand = |free: usize| {
            let order = self.random.shuffled(0..3);
            let shape: Shape = order.iter().map(|&i| [pairs, free, k][i]).collect();
            let place = |what: usize| order.iter().position(|&i| i == what).expect("one of three");
            (self.param(TensorType::new(dtype, &shape)), place(0), place(2))
        };
        let ((x, x_batch, x_sum), (y, y_batch, y_sum)) = (operand(m), operand(n));
        let axes = DotAxes { batch: smallvec![(x_batch, y_batch)], contract: smallvec![(x_sum, y_sum)] };
        self.push(Op::Dot(axes, None), &[x, y])
    }

    /// What is not used, the last value, and any others: repeated ones, inputs, constants.
    fn outputs(&mut self) {
        let uses = self.graph.uses();
        let unused = self.graph.ids().filter(|id| uses[id.index()] == 0);
        let mut outputs: Vec<ValueId> = unused.collect();
        let extra = self.random.below(3);
        outputs.extend((0..extra).map(|_| self.value()));
        if self.random.one_in(4) {
            outputs.push(outputs[0]);
        }
        if self.random.one_in(6) {
            outputs.push(self.graph.params[0]);
        }
        outputs.retain(|&id| !self.has_several(id));
        self.graph.outputs = self.random.shuffled(outputs);
    }

    /// Is it an op with several results, of which only projections are used?
    pub(super) fn has_several(&self, id: ValueId) -> bool {
        self.graph.node(id).results() > 1
    }

    /// The type of a value.
    pub(super) fn of(&self, id: ValueId) -> TensorType {
        self.graph.ty(id).clone()
    }

    /// An extent of the program's, or 1.
    pub(super) fn extent(&mut self) -> usize {
        match self.random.below(4) {
            0 => 1,
            _ => self.random.one_of(&self.extents),
        }
    }

    fn ty(&mut self) -> TensorType {
        let dtype = self.random.one_of(&self.dtypes);
        loop {
            // Ranks above 4 are rare: their extents are 1 mostly.
            let high = self.random.one_in(8);
            let rank = if high { self.random.below(self.config.rank + 1) } else { self.random.below(5) };
            let shape: Shape =
                (0..rank).map(|_| if high && self.random.one_in(2) { 1 } else { self.extent() }).collect();
            if shape.iter().product::<usize>() <= self.elements {
                return TensorType::new(dtype, &shape);
            }
        }
    }

    /// A value, more often a late one.
    pub(super) fn value(&mut self) -> ValueId {
        let n = self.graph.nodes.len();
        ValueId(self.random.below(n).max(self.random.below(n)) as u32)
    }

    /// Adds a value if it can be computed and something can be said of it.
    pub(super) fn push(&mut self, op: Op, operands: &[ValueId]) -> Option<ValueId> {
        if operands.iter().any(|&x| self.has_several(x)) && !matches!(op, Op::Result(_)) {
            return None;
        }
        let ty = self.graph.infer(&op, operands).ok()?;
        if ty.elements() > self.elements || ty.rank() > self.config.rank {
            return None;
        }
        if let Op::Dot(axes, _) = &op {
            let shape = &self.graph.ty(operands[0]).shape;
            if ty.elements() * axes.contract.iter().map(|&(a, _)| shape[a]).product::<usize>() > PRODUCTS {
                return None;
            }
        }
        if let Op::Conv(dims, _) = &op
            && ty.elements().saturating_mul(dims.terms(self.graph.ty(operands[1]))) > PRODUCTS
        {
            return None;
        }
        let arrays: Vec<Array> = operands.iter().map(|x| self.values[x.index()][0].clone()).collect();
        let results: SmallVec<[Array; 1]> = match op {
            Op::Result(index) => smallvec![self.values[operands[0].index()][index as usize].clone()],
            _ => interpret(&one(&op, &arrays), &arrays).ok()?.into(),
        };
        let bounds: Vec<f64> = operands.iter().map(|x| self.bounds[x.index()]).collect();
        let bound = (self.config.bound)(&op, &arrays, &bounds, &results[0])?;
        self.values.push(results);
        self.bounds.push(bound);
        Some(self.graph.push(Node { op, operands: operands.into(), ty, location: None }))
    }

    /// An array constant.
    pub(super) fn held(&mut self, array: Array) -> Option<ValueId> {
        self.push(Op::Constant(Constant::new(&array).expect("it is on the host")), &[])
    }

    /// A constant of this type: an array, or a number that is broadcast.
    pub(super) fn constant(&mut self, ty: &TensorType) -> Option<ValueId> {
        if ty.rank() > 0 && self.random.one_in(2) {
            let array = self.random.array(ty, self.wild);
            return self.held(array);
        }
        let value = self.random.one_of(&[0.0, 0.0, 1.0, 1.0, -1.0, 2.0, 0.5, 3.0]);
        self.splat(value, ty)
    }

    /// A number that is broadcast to this type.
    pub(super) fn splat(&mut self, value: f64, ty: &TensorType) -> Option<ValueId> {
        let x = self.push(Op::Literal(Literal::new(ty.dtype, value)), &[])?;
        match ty.rank() {
            0 => Some(x),
            _ => self.push(Op::Broadcast { shape: ty.shape.clone(), dims: Axes::new() }, &[x]),
        }
    }

    /// A value of this type: one there is, one that is broadcast, one that is converted, or a constant.
    pub(super) fn like(&mut self, ty: &TensorType) -> Option<ValueId> {
        let fits = |from: &TensorType| {
            let skip = ty.rank().checked_sub(from.rank());
            skip.is_some_and(|skip| from.shape.iter().zip(&ty.shape[skip..]).all(|(&a, &b)| a == b || a == 1))
        };
        let all = || self.graph.ids().filter(|id| !self.has_several(*id)).map(|id| (id, self.graph.ty(id)));
        let ids = |keep: &dyn Fn(&TensorType) -> bool| -> Vec<ValueId> {
            all().filter(|(_, x)| keep(x)).map(|(id, _)| id).collect()
        };
        let same = ids(&|x| x == ty);
        let wider = ids(&|x| x.dtype == ty.dtype && fits(x));
        let other = ids(&|x| x.shape == ty.shape);
        match self.random.below(8) {
            0..=3 if !same.is_empty() => Some(self.random.one_of(&same)),
            4 | 5 if !wider.is_empty() => {
                let x = self.random.one_of(&wider);
                let rank = self.of(x).rank();
                let dims = (ty.rank() - rank..ty.rank()).collect();
                self.push(Op::Broadcast { shape: ty.shape.clone(), dims }, &[x])
            }
            6 if !other.is_empty() => {
                let x = self.random.one_of(&other);
                self.push(Op::Convert(ty.dtype), &[x])
            }
            _ => self.constant(ty),
        }
    }

    /// Adds the ops of `graph`, applied to these operands; its results, if all of them can be added.
    pub(super) fn inline(&mut self, graph: &Graph, operands: &[ValueId]) -> Option<Vec<ValueId>> {
        // Projections are ops like any other here, so that each node is one value.
        let mut env: Env<ValueId> = Env::new(graph);
        for id in graph.ids() {
            let node = graph.node(id);
            let value = match node.op {
                Op::Param(i) => operands[i],
                _ => {
                    let operands: Vec<ValueId> = node.operands.iter().map(|&x| *env.get(x)).collect();
                    self.push(node.op.clone(), &operands)?
                }
            };
            env.set(id, value);
        }
        Some(graph.outputs.iter().map(|&x| *env.get(x)).collect())
    }

    /// Adds the ops of a function of tensors, applied to these operands; its results.
    pub(super) fn call(
        &mut self,
        operands: &[ValueId],
        f: impl FnOnce(&[Tensor]) -> Vec<Tensor>,
    ) -> Option<Vec<ValueId>> {
        let types: Vec<TensorType> = operands.iter().map(|&x| self.of(x)).collect();
        let graph = trace(&types, f).ok()?.graph;
        self.inline(&graph, operands)
    }

    /// A value of this program, as an input of a graph in it.
    pub(super) fn given(&self, x: ValueId) -> (Array, f64) {
        (self.values[x.index()][0].clone(), self.bounds[x.index()])
    }

    /// A graph of such inputs, whose results are of these types: the body of a loop, with what it captures.
    pub(super) fn body(&mut self, inputs: Vec<(Array, f64)>, results: &[TensorType]) -> Option<Graph> {
        if self.depth >= DEPTH {
            return None;
        }
        let mut body = Maker {
            extents: self.extents,
            dtypes: self.dtypes.clone(),
            wild: self.wild,
            elements: self.elements,
            depth: self.depth + 1,
            ..Maker::new(Random(self.random.bits()), self.config)
        };
        for (array, bound) in inputs {
            body.input(array, bound);
        }
        if body.graph.nodes.is_empty() {
            body.splat(1.0, &TensorType::scalar(DType::F32))?;
        }
        let count = 1 + body.random.below(4);
        body.ops(count);
        for ty in results {
            let result = body.like(ty)?;
            body.graph.outputs.push(result);
        }
        Some(body.graph)
    }
}

/// The graph of one op, with all of its results.
fn one(op: &Op, operands: &[Array]) -> Graph {
    let operands = operands.iter().map(|x| x.ty().clone()).collect();
    Sample { op: op.clone(), operands, range: (0.0, 0.0) }.graph()
}
