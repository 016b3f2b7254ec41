//! Algebraic simplification: named peephole rules, applied while the graph is rebuilt.
//!
//! A rule matches an op and its simplified operands and may return a replacement for the result. The ops of the
//! replacement are simplified in turn. Requirements on a rule: the replacement is never more expensive, whatever the
//! other uses of the operands; no rule undoes another; results are bit-identical, or the rule documents the difference.
//! The rules are grouped into `arithmetic`, `elementwise`, `movement` and `contraction`. This pass runs after autodiff.

mod arithmetic;
mod contraction;
mod elementwise;
mod movement;

use super::rebuild::{Rebuild, rebuild};
use crate::graph::{Graph, Literal, Node, Op, Operands, ValueId};
use crate::types::{Axes, DType, Shape, TensorType};

/// Applies the rules until none matches.
pub fn simplify(graph: &Graph) -> Graph {
    simplify_counting(graph).0
}

/// A rewrite rule. `apply` gets the op and its operands and returns the replacement for the result, of the same type.
pub(super) struct Rule {
    pub(super) name: &'static str,
    apply: fn(&mut Rewrite<'_>, &Op, &[ValueId]) -> Option<ValueId>,
}

/// All rules, in the order in which they are tried.
pub(super) fn rules() -> impl Iterator<Item = &'static Rule> {
    [arithmetic::RULES, elementwise::RULES, movement::RULES, contraction::RULES].into_iter().flatten()
}

/// As [`simplify`], and returns how often each rule was applied.
pub(super) fn simplify_counting(graph: &Graph) -> (Graph, Vec<u32>) {
    let mut applied = vec![0; rules().count()];
    let new = rebuild(graph, |new, node, operands| {
        let mut rewrite = Rewrite { new, applied: &mut applied, depth: 0 };
        rewrite.simplified(&node.op, operands, &node.ty)
    });
    (new, applied)
}

/// The limit on the recursion depth of rewrites: a guard against rules that undo each other.
const MAX_DEPTH: u32 = 32;

/// The interface of rules to the new graph.
struct Rewrite<'a> {
    new: &'a mut Rebuild,
    applied: &'a mut [u32],
    depth: u32,
}

impl Rewrite<'_> {
    fn simplified(&mut self, op: &Op, operands: Operands, ty: &TensorType) -> ValueId {
        if self.depth < MAX_DEPTH {
            self.depth += 1;
            for (i, rule) in rules().enumerate() {
                let Some(value) = (rule.apply)(self, op, &operands) else { continue };
                let fits = self.ty(value) == ty;
                debug_assert!(fits, "rule `{}` gives {} in place of {ty}", rule.name, self.ty(value));
                if fits {
                    self.applied[i] += 1;
                    self.depth -= 1;
                    return value;
                }
            }
            self.depth -= 1;
        }
        self.new.intern(op.clone(), operands, ty.clone())
    }

    /// Adds an op, simplified. `None` if the op is ill-typed, in which case the rule does not apply.
    fn add(&mut self, op: Op, operands: &[ValueId]) -> Option<ValueId> {
        let inferred = self.new.graph().infer(&op, operands);
        match inferred {
            Ok(ty) => Some(self.simplified(&op, Operands::from_slice(operands), &ty)),
            Err(why) => {
                debug_assert!(false, "a rule made {}: {why}", op.name());
                None
            }
        }
    }

    fn node(&self, x: ValueId) -> &Node {
        self.new.graph().node(x)
    }

    fn op(&self, x: ValueId) -> &Op {
        &self.node(x).op
    }

    /// The first operand of `x`, which must have one.
    fn operand(&self, x: ValueId) -> ValueId {
        self.node(x).operands[0]
    }

    fn ty(&self, x: ValueId) -> &TensorType {
        &self.node(x).ty
    }

    fn shape(&self, x: ValueId) -> &Shape {
        &self.node(x).ty.shape
    }

    fn dtype(&self, x: ValueId) -> DType {
        self.node(x).ty.dtype
    }

    /// See [`Rebuild::has_one_use`].
    fn has_one_use(&self, x: ValueId) -> bool {
        self.new.has_one_use(x)
    }

    /// The scalar that `x` is a splat of.
    fn splat(&self, x: ValueId) -> Option<ValueId> {
        let repeats = matches!(self.op(x), Op::Broadcast { dims, .. } if dims.is_empty());
        if repeats { Some(self.operand(x)) } else { (self.ty(x).rank() == 0).then_some(x) }
    }

    /// The literal that `x` is a splat of.
    fn literal(&self, x: ValueId) -> Option<Literal> {
        if let Op::Literal(literal) = self.op(self.splat(x)?) { Some(*literal) } else { None }
    }

    /// Whether `x` is a splat of the number `n`. -0 equals 0.
    fn is_all(&self, x: ValueId, n: i32) -> bool {
        self.literal(x).is_some_and(|literal| literal.value().is(n))
    }

    /// A splat of `literal` of this shape.
    fn full(&mut self, literal: Literal, shape: &[usize]) -> Option<ValueId> {
        let scalar = self.add(Op::Literal(literal), &[])?;
        self.broadcast(scalar, shape, &[])
    }

    fn broadcast(&mut self, x: ValueId, shape: &[usize], dims: &[usize]) -> Option<ValueId> {
        self.add(Op::Broadcast { shape: Shape::from_slice(shape), dims: Axes::from_slice(dims) }, &[x])
    }

    fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Option<ValueId> {
        self.add(Op::Reshape(Shape::from_slice(shape)), &[x])
    }
}

/// A pseudo-random array of this type: small integers and halves, so that sums are exact.
#[cfg(test)]
pub(super) fn random(ty: &TensorType, seed: u64) -> crate::array::Array {
    use crate::array::Array;
    use crate::types::Kind;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 12345;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % 17) as i32 - 8
    };
    let mut bits = || match (ty.dtype.kind(), next()) {
        (Kind::Bool, x) => u64::from(x % 2 == 0),
        (Kind::Int { .. }, x) => ty.dtype.bits(x),
        (Kind::Float(_), x) => ty.dtype.bits(f64::from(x) / 2.0),
    };
    let bits: Vec<u64> = (0..ty.elements()).map(|_| bits()).collect();
    Array::from_bits(ty, &bits).expect("as many elements as the type has")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::graph::{parse, verify};
    use crate::interp::interpret;
    use crate::opt::dce;

    /// A test case of a rule: its name, the inputs, the lines of a body that ends with `%r`, and the expected lines,
    /// numbered after the inputs. They end with `%r` too, or with an input.
    pub(super) type Case = (&'static str, &'static str, &'static str, &'static str);

    fn graph_of(inputs: &str, body: &str) -> Graph {
        let last = body.split(';').next_back().unwrap().trim();
        // A body that is the name of a value returns it.
        let (lines, result) = match last.split_once(':') {
            Some((name, _)) => (body, name),
            None => (body.rsplit_once(';').map_or("", |(lines, _)| lines), last),
        };
        let ty = lines
            .split(';')
            .chain(inputs.split("; "))
            .find_map(|line| line.trim().strip_prefix(result)?.strip_prefix(": ")?.split(" =").next())
            .unwrap_or_else(|| panic!("no type of {result} in {inputs}; {body}"));
        let inputs = inputs.replace("; ", ", ");
        let text = format!("fn f({inputs}) -> ({ty}) {{\n{}\nreturn {result}\n}}", lines.replace(';', "\n"));
        parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn every_rule_by_example() {
        let cases = [arithmetic::CASES, elementwise::CASES, movement::CASES, contraction::CASES].concat();
        for (name, inputs, body, expected) in &cases {
            let graph = graph_of(inputs, body);
            let (simple, applied) = simplify_counting(&graph);
            verify(&simple, name).unwrap();
            let simple = dce(&simple);
            let expected = dce(&graph_of(inputs, expected));
            assert_eq!(simple.to_string(), expected.to_string(), "{name}\n{graph}");
            let rule = rules().position(|rule| rule.name == *name).unwrap_or_else(|| panic!("no rule `{name}`"));
            assert!(applied[rule] > 0, "`{name}` does not apply to\n{graph}");
            let inputs: Vec<Array> = (0..).zip(graph.param_types()).map(|(i, ty)| random(&ty, i)).collect();
            assert_eq!(interpret(&graph, &inputs).unwrap(), interpret(&simple, &inputs).unwrap(), "{name}\n{graph}");
            assert!(!simplify_counting(&simple).1.iter().any(|&n| n > 0), "`{name}` leaves work:\n{simple}");
        }
        for rule in rules() {
            assert!(cases.iter().any(|case| case.0 == rule.name), "rule `{}` has no example", rule.name);
            assert_eq!(rules().filter(|other| other.name == rule.name).count(), 1, "two rules `{}`", rule.name);
        }
    }

    #[test]
    fn what_must_not_change() {
        let cases = [
            // 0 * NaN is NaN, x - x is NaN for infinities.
            (
                "%0: f32[4]",
                "%1: f32[] = literal 0.0; %2: f32[4] = broadcast_in_dim %1 [shape=4, dims=]; %r: f32[4] = mul %0, %2",
            ),
            ("%0: f32[4]", "%r: f32[4] = sub %0, %0"),
            // 0 - 0 is 0, but -(0) is -0.
            ("%0: f32[]", "%1: f32[] = literal 0.0; %r: f32[] = sub %1, %0"),
            // 1/3 is not exact, and 1/2¹²⁷ is subnormal.
            ("%0: f32[]", "%1: f32[] = literal 3.0; %r: f32[] = div %0, %1"),
            ("%0: f32[]", "%1: f32[] = literal 1.7014118e38; %r: f32[] = div %0, %1"),
            // i32 and u32 wrap into each other, but floats saturate.
            ("%0: i32[]", "%1: f64[] = convert %0 [dtype=f64]; %r: u32[] = convert %1 [dtype=u32]"),
            // A product of n equal factors is a power, which is not a multiplication.
            ("%0: f32[]", "%1: f32[3] = broadcast_in_dim %0 [shape=3, dims=]; %r: f32[] = reduce_prod %1 [axes=0]"),
            // An empty sum is 0 even if x is NaN.
            ("%0: f32[]", "%1: f32[0] = broadcast_in_dim %0 [shape=0, dims=]; %r: f32[] = reduce_sum %1 [axes=0]"),
            // The free axes of the result would be swapped.
            (
                "%0: f32[2,3,4]; %1: f32[4]",
                "%2: f32[3,2,4] = transpose %0 [perm=1,0,2]; %r: f32[3,2] = dot_general %2, %1 [batch=, contract=2:0]",
            ),
            // Different literals along the two axes.
            ("%0: f32[3]", "%1: f32[2,3] = broadcast_in_dim %0 [shape=2,3, dims=1]; %r: f32[6] = reshape %1 [shape=6]"),
        ];
        for (inputs, body) in cases {
            let graph = graph_of(inputs, body);
            assert_eq!(simplify(&graph).to_string(), graph.to_string());
        }
    }

    #[test]
    fn shared_values_are_not_computed_twice() {
        // The inner maximum is a result itself: reducing it is cheaper than reducing the operand again.
        let text = "fn main(%0: f32[3,4]) -> (f32[3], f32[]) {
  %1: f32[3] = reduce_max %0 [axes=1]
  %2: f32[] = reduce_max %1 [axes=0]
  return %1, %2
}
";
        assert_eq!(simplify(&parse(text).unwrap()).to_string(), text);
    }

    #[test]
    fn sums_of_sums_keep_their_order_whatever_else_is_used() {
        let text = "fn main(%0: f32[3,4]) -> (f32[]) {
  %1: f32[3] = reduce_sum %0 [axes=1]
  %2: f32[] = reduce_sum %1 [axes=0]
  return %2
}
";
        assert_eq!(simplify(&parse(text).unwrap()).to_string(), text);
    }
}
