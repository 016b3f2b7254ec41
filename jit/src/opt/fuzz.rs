//! Fuzzing: optimisation preserves the results of random programs. The programs consist of the patterns that rules
//! match (zeros, ones, broadcasts, unit axes, repeated ops). Their floats are small multiples of powers of two, so that
//! sums are exact in every order.

use crate::array::Array;
use crate::graph::{
    BinaryOp, CompareOp, Constant, DotAxes, Graph, Literal, Node, Op, ReduceOp, UnaryOp, ValueId, infer,
};
use crate::interp::{interpret, interpret_each};
use crate::opt::{MAX_ROUNDS, optimise_with, simplify};
use crate::types::{Axes, DType, Shape, TensorType};
use crate::{Error, Result};

#[test]
fn optimised_programs_mean_the_same() {
    let mut compared = 0;
    for seed in 0..3000 {
        let graph = Maker { state: seed, graph: Graph::new() }.program();
        let inputs: Vec<Array> = (seed..).zip(graph.param_types()).map(|(i, ty)| simplify::random(&ty, i)).collect();
        let mut passes = 0;
        let optimised = optimise_with(&graph, &mut |_, _, _, _| passes += 1).unwrap_or_else(|e| panic!("{e}\n{graph}"));
        assert!(passes < 4 * MAX_ROUNDS, "it does not end by itself:\n{graph}\n{optimised}");
        assert!(optimised.nodes.len() <= graph.nodes.len() * 2, "{graph}\n{optimised}");
        let Ok(results) = results(&graph, &inputs) else { continue };
        compared += 1;
        for (x, y) in results.iter().zip(interpret(&optimised, &inputs).unwrap()) {
            let (x, y) = (x.to_f64_vec(), y.to_f64_vec());
            assert!(x == y, "seed {seed}: {x:?} became {y:?}\n{graph}\n{optimised}");
        }
    }
    assert!(compared > 1000, "only {compared} programs were worth comparing");
}

/// The results, or an error if floats exceed the exact range.
fn results(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>> {
    interpret_each(graph, inputs, &mut |_, value| {
        let exact = |x: f64| x.abs() < (1 << 20) as f64 && (x * (1 << 20) as f64).fract() == 0.0;
        let fine = !value.ty().dtype.is_float() || value.to_f64_vec().into_iter().all(exact);
        if fine { Ok(()) } else { Err(Error::new("a float is not exact")) }
    })
}

/// Generates a program from a seed.
struct Maker {
    state: u64,
    graph: Graph,
}

impl Maker {
    fn program(mut self) -> Graph {
        for _ in 0..3 {
            let dtype = self.dtype();
            let shape = self.shape();
            self.graph.param(TensorType::new(dtype, &shape));
        }
        while self.graph.nodes.len() < 16 {
            let Some((op, operands)) = self.op() else { continue };
            let types: Vec<&TensorType> = operands.iter().map(|&x| self.graph.ty(x)).collect();
            if let Ok(ty) = infer(&op, &types)
                && ty.elements() <= 200
            {
                self.graph.push(Node { op, operands: operands.into(), ty, location: None });
            }
        }
        let last = self.graph.nodes.len() as u32 - 1;
        self.graph.outputs = vec![ValueId(last), ValueId(last - 1), self.value()];
        self.graph
    }

    fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % n
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn dtype(&mut self) -> DType {
        self.one_of(&[DType::F64, DType::F64, DType::I32, DType::U32, DType::Bool])
    }

    fn shape(&mut self) -> Shape {
        (0..self.below(4)).map(|_| self.one_of(&[1, 2, 3])).collect()
    }

    /// A random value, biased towards recent ones.
    fn value(&mut self) -> ValueId {
        let n = self.graph.nodes.len();
        ValueId(self.below(n).max(self.below(n)) as u32)
    }

    /// A value of this type: an existing one, or a broadcast scalar.
    fn like(&mut self, ty: &TensorType) -> ValueId {
        let same: Vec<ValueId> = self.graph.ids().filter(|&id| self.graph.ty(id) == ty).collect();
        if !same.is_empty() && self.below(3) > 0 {
            return self.one_of(&same);
        }
        let value = self.one_of(&[0.0, 0.0, 1.0, 1.0, -1.0, 2.0, -0.5]);
        let mut push =
            |op, operands: &[ValueId], ty| self.graph.push(Node { op, operands: operands.into(), ty, location: None });
        let x = push(Op::Literal(Literal::new(ty.dtype, value)), &[], TensorType::scalar(ty.dtype));
        if ty.rank() == 0 {
            return x;
        }
        push(Op::Broadcast { shape: ty.shape.clone(), dims: Axes::new() }, &[x], ty.clone())
    }

    /// A random op on random values, possibly ill-typed.
    fn op(&mut self) -> Option<(Op, Vec<ValueId>)> {
        let x = self.value();
        let ty = self.graph.ty(x).clone();
        let (shape, rank) = (&ty.shape, ty.rank());
        let axes = |maker: &mut Self| -> Axes { (0..rank).filter(|_| maker.below(2) == 0).collect() };
        Some(match self.below(20) {
            0 => (Op::Unary(self.one_of(&[UnaryOp::Neg, UnaryOp::Not, UnaryOp::Abs])), vec![x]),
            1..=4 => {
                let op = self.one_of(BinaryOp::ALL);
                use BinaryOp::{Add, Max, Min, Mul, Sub};
                let fits = !ty.dtype.is_float() || [Add, Sub, Mul, Max, Min].contains(&op);
                let y = self.like(&ty);
                if !fits {
                    // Divisors and exponents of floats are constants.
                    let (op, by) = self.one_of(&[
                        (BinaryOp::Div, 2.0),
                        (BinaryOp::Div, -0.5),
                        (BinaryOp::Pow, 2.0),
                        (BinaryOp::Pow, 1.0),
                    ]);
                    let by = Array::from_vec(shape, vec![by; ty.elements()]).ok()?;
                    let ty = by.ty().clone();
                    let y = self.graph.push(Node {
                        op: Op::Constant(Constant(by)),
                        operands: Default::default(),
                        ty,
                        location: None,
                    });
                    return Some((Op::Binary(op), vec![x, y]));
                }
                (Op::Binary(op), if self.below(2) == 0 { vec![x, y] } else { vec![y, x] })
            }
            5 => (Op::Compare(self.one_of(CompareOp::ALL)), vec![x, self.like(&ty)]),
            6 => {
                let pred = self.like(&ty.with_dtype(DType::Bool));
                (Op::Select, vec![pred, x, self.like(&ty)])
            }
            7 => (Op::Convert(self.dtype()), vec![x]),
            8 => (Op::Bitcast(self.one_of(&[DType::I32, DType::U32])), vec![x]),
            9 | 10 => {
                let mut to = shape.clone();
                match self.below(4) {
                    0 => to = Shape::from_slice(&[ty.elements()]),
                    1 => to.retain(|extent| *extent != 1),
                    2 => to.reverse(),
                    _ => to.insert(self.below(rank + 1), 1),
                }
                (Op::Reshape(to), vec![x])
            }
            11 => {
                let mut perm: Axes = (0..rank).collect();
                (0..rank).for_each(|i| perm.swap(i, self.below(i + 1)));
                (Op::Transpose(perm), vec![x])
            }
            12 | 13 => {
                let mut to: Shape = shape.iter().map(|&n| if n == 1 { self.one_of(&[1, 2]) } else { n }).collect();
                let mut dims: Axes = (0..rank).collect();
                for _ in 0..self.below(3) {
                    let position = self.below(to.len() + 1);
                    to.insert(position, self.one_of(&[1, 2, 3]));
                    dims.iter_mut().filter(|dim| **dim >= position).for_each(|dim| *dim += 1);
                }
                (Op::Broadcast { shape: to, dims }, vec![x])
            }
            14 => {
                let start: Shape = shape.iter().map(|_| self.below(2)).collect();
                let limit = shape.iter().zip(&start).map(|(&n, &s)| n.saturating_sub(self.below(2)).max(s)).collect();
                let stride = shape.iter().map(|_| 1 + self.below(2)).collect();
                (Op::Slice { start, limit, stride }, vec![x])
            }
            15 => {
                let value = self.like(&TensorType::scalar(ty.dtype));
                let low = (0..rank).map(|_| self.below(3) as isize - 1).collect();
                let high = (0..rank).map(|_| self.below(3) as isize - 1).collect();
                (Op::Pad { low, high, interior: (0..rank).map(|_| self.below(2)).collect() }, vec![x, value])
            }
            16 => {
                let count = self.below(3);
                (
                    Op::Concat(self.below(rank + 1)),
                    std::iter::once(x).chain((0..count).map(|_| self.like(&ty))).collect(),
                )
            }
            17 => (Op::Rev(axes(self)), vec![x]),
            18 => (Op::Reduce(self.one_of(ReduceOp::ALL), axes(self)), vec![x]),
            _ => {
                let y = self.value();
                let mut pairs = Vec::new();
                for axis in 0..rank {
                    if self.below(2) == 0 && axis < self.graph.ty(y).rank() {
                        pairs.push((axis, axis));
                    }
                }
                let batch = pairs.split_off(self.below(pairs.len() + 1));
                (Op::Dot(DotAxes { batch: batch.into(), contract: pairs.into() }), vec![x, y])
            }
        })
    }
}
