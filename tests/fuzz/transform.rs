//! Programs that the transforms make of a program: derivatives forwards and backwards, batches, and these of each
//! other.

use fulgurite::autodiff::{InAxes, TreeDef};
use fulgurite::compiler::graph::{Graph, Op};
use fulgurite::compiler::interp::interpret;
use fulgurite::compiler::testing::{Config, Random, close, interpreted};
use fulgurite::compiler::trace::{inline, trace};
use fulgurite::{Array, DType, Error, Result, Tensor, TensorType, jvp, vjp, vmap};

/// A transform, perhaps of what another makes of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transform {
    inner: Option<Step>,
    outer: Step,
    /// That of what is added to the inputs.
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Along tangents of the inputs.
    Jvp,
    /// Of cotangents of the results.
    Vjp,
    /// Over examples, so many: some inputs along some axis, others shared.
    Vmap(usize),
}

impl Transform {
    /// One for each seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x7f);
        let examples = [0, 1, 2, 3, 3][random.below(5)];
        let (inner, outer) = match random.below(8) {
            0 | 1 => (None, Step::Jvp),
            2 | 3 => (None, Step::Vjp),
            4 => (None, Step::Vmap(examples)),
            5 => (Some(Step::Vjp), Step::Vmap(examples)),
            6 => (Some(Step::Jvp), Step::Vmap(examples)),
            _ => (Some(Step::Vjp), Step::Jvp),
        };
        Transform { inner, outer, seed }
    }

    /// The transform of a program, and its inputs.
    pub(crate) fn apply(self, graph: &Graph, inputs: &[Array]) -> Result<(Graph, Vec<Array>)> {
        let (graph, inputs) = self.within(graph, inputs)?;
        self.outer.apply(&graph, &inputs, self.seed)
    }

    /// Does the interpreter say of the outer transform what it is to mean?
    pub(crate) fn holds(self, graph: &Graph, inputs: &[Array]) -> Result<()> {
        // Tangents are compared with cotangents, and of a loop of any number of trips there are none.
        let is_reversed = !matches!((self.inner, self.outer), (None | Some(Step::Jvp), Step::Vmap(_)));
        if is_reversed && has_open_loop(graph) {
            return Ok(());
        }
        let (graph, inputs) = self.within(graph, inputs)?;
        match self.outer {
            Step::Jvp | Step::Vjp => are_adjoint(&graph, &inputs, self.seed),
            Step::Vmap(examples) => are_examples(&graph, &inputs, self.seed, examples),
        }
    }

    /// What the outer transform is of.
    fn within(self, graph: &Graph, inputs: &[Array]) -> Result<(Graph, Vec<Array>)> {
        match self.inner {
            Some(inner) => inner.apply(graph, inputs, self.seed),
            None => Ok((graph.clone(), inputs.to_vec())),
        }
    }
}

impl Step {
    fn apply(self, graph: &Graph, inputs: &[Array], seed: u64) -> Result<(Graph, Vec<Array>)> {
        match self {
            Step::Jvp => pushed_forward(graph, inputs, seed),
            Step::Vjp => pulled_back(graph, inputs, seed),
            Step::Vmap(examples) => batched(graph, inputs, seed, examples),
        }
    }
}

/// Is there a loop whose number of trips is not known?
fn has_open_loop(graph: &Graph) -> bool {
    let inside = |op: &Op| op.graphs().iter().any(|graph| has_open_loop(graph));
    graph.nodes.iter().any(|node| matches!(node.op, Op::While { .. }) || inside(&node.op))
}

/// The results, and their tangents along tangents of the inputs.
fn pushed_forward(graph: &Graph, inputs: &[Array], seed: u64) -> Result<(Graph, Vec<Array>)> {
    let inputs = [inputs, &directions(&graph.param_types(), seed)].concat();
    let traced = trace(&types(&inputs), |xs| {
        let (xs, dxs) = xs.split_at(xs.len() / 2);
        let (ys, dys) = jvp(|xs: &Vec<Tensor>| inline(graph, xs), &xs.to_vec(), &dxs.to_vec());
        [ys, dys].concat()
    })?;
    Ok((traced.graph, inputs))
}

/// The results, and the cotangents of the inputs for cotangents of these.
fn pulled_back(graph: &Graph, inputs: &[Array], seed: u64) -> Result<(Graph, Vec<Array>)> {
    let count = inputs.len();
    let inputs = [inputs, &directions(&graph.output_types(), seed + 1)].concat();
    let traced = trace(&types(&inputs), |xs| {
        let (xs, cts) = xs.split_at(count);
        let (ys, pullback) = vjp(|xs: &Vec<Tensor>| inline(graph, xs), &xs.to_vec());
        [ys, pullback(&cts.to_vec())].concat()
    })?;
    Ok((traced.graph, inputs))
}

/// The results of several examples at once. At least one input is of each example its own.
fn batched(graph: &Graph, inputs: &[Array], seed: u64, examples: usize) -> Result<(Graph, Vec<Array>)> {
    let axes = axes(inputs, seed);
    let mut stacked = Vec::new();
    for (i, (input, axis)) in inputs.iter().zip(&axes).enumerate() {
        stacked.push(match axis {
            None => input.clone(),
            Some(axis) => {
                let rows: Vec<Tensor> = (0..examples).map(|e| example(input, seed, i, e).into()).collect();
                stack(&rows, input.ty(), *axis)?
            }
        });
    }
    let batched = vmap(|xs: Vec<Tensor>| inline(graph, &xs), Axes(axes));
    Ok((trace(&types(&stacked), |xs| batched(xs.to_vec()))?.graph, stacked))
}

/// The axes of a list of tensors.
struct Axes(Vec<Option<isize>>);

impl InAxes for Axes {
    fn axes(&self, _: &TreeDef) -> std::result::Result<Vec<Option<isize>>, String> {
        Ok(self.0.clone())
    }
}

/// Is each example of the batch what the program makes of it alone?
fn are_examples(graph: &Graph, inputs: &[Array], seed: u64, examples: usize) -> Result<()> {
    let (batch, stacked) = batched(graph, inputs, seed, examples)?;
    let all = interpret(&batch, &stacked)?;
    let axes = axes(inputs, seed);
    for e in 0..examples {
        let one = |(i, (input, axis)): (usize, (&Array, &Option<isize>))| match axis {
            None => input.clone(),
            Some(_) => example(input, seed, i, e),
        };
        let alone: Vec<Array> = inputs.iter().zip(&axes).enumerate().map(one).collect();
        let Some((want, bounds)) = known(graph, &alone)? else { continue };
        let row = |x: &Array| Tensor::from(x.clone()).slice_in_dim(0, e..e + 1).squeeze(0).into_array();
        let got = all.iter().map(row).collect::<Result<Vec<_>>>()?;
        close(&format!("example {e}"), &got, &want, Some(&bounds))?;
    }
    Ok(())
}

/// Along which axis of each input its examples lie.
fn axes(inputs: &[Array], seed: u64) -> Vec<Option<isize>> {
    let mut random = Random(seed ^ 0xa5);
    let mut axes: Vec<Option<isize>> = inputs
        .iter()
        .map(|x| if random.below(3) == 0 { None } else { Some(random.below(x.ty().rank() + 1) as isize) })
        .collect();
    if let Some(first) = axes.first_mut() {
        *first = Some(first.unwrap_or(0));
    }
    axes
}

/// Example `e` of input `i`: the first is the input, the others are of the same elements in another order.
fn example(input: &Array, seed: u64, i: usize, e: usize) -> Array {
    let n = input.ty().elements();
    if e == 0 || n == 0 {
        return input.clone();
    }
    let size = input.ty().dtype.size();
    let by = Random(seed + 10 * e as u64 + i as u64).below(n) * size;
    let bytes = input.bytes().expect("an input is on the host");
    let bytes = [&bytes[by..], &bytes[..by]].concat();
    Array::from_bytes(input.ty(), &bytes).expect("as many as before")
}

/// Examples stacked along a new axis; of none, an array of that type.
fn stack(rows: &[Tensor], ty: &TensorType, axis: isize) -> Result<Array> {
    if rows.is_empty() {
        let mut shape = ty.shape.clone();
        shape.insert(axis as usize, 0);
        return Array::from_bytes(&TensorType::new(ty.dtype, &shape), &[]);
    }
    Tensor::stack(&rows.iter().collect::<Vec<_>>(), axis).into_array()
}

/// The derivative forwards and that backwards are of one linear function: `ct · (J t) = (ct J) · t`.
fn are_adjoint(graph: &Graph, inputs: &[Array], seed: u64) -> Result<()> {
    let (forward, forward_inputs) = pushed_forward(graph, inputs, seed)?;
    let (backward, backward_inputs) = pulled_back(graph, inputs, seed)?;
    let (count, results) = (inputs.len(), graph.outputs.len());
    let Some((ys, bounds)) = known(graph, inputs)? else { return Ok(()) };
    let Some((pushed, pushed_bounds)) = known(&forward, &forward_inputs)? else { return Ok(()) };
    let Some((pulled, pulled_bounds)) = known(&backward, &backward_inputs)? else { return Ok(()) };
    close("the values of `jvp`", &pushed[..results], &ys, Some(&bounds))?;
    close("the values of `vjp`", &pulled[..results], &ys, Some(&bounds))?;
    // The products, the sum of their magnitudes, and how far these may be off.
    let product = |xs: &[Array], ys: &[Array], bounds: &[f64]| {
        let (mut sum, mut size, mut off) = (0.0, 0.0, 0.0);
        for ((x, y), bound) in xs.iter().zip(ys).zip(bounds).filter(|((x, _), _)| x.ty().dtype.is_float()) {
            for (x, y) in x.to_f64_vec().unwrap().into_iter().zip(y.to_f64_vec().unwrap()) {
                sum += x * y;
                size += (x * y).abs();
                off += y.abs() * bound;
            }
        }
        (sum, size, off)
    };
    let (left, left_size, left_off) = product(&pushed[results..], &backward_inputs[count..], &pushed_bounds[results..]);
    let (right, right_size, right_off) =
        product(&pulled[results..], &forward_inputs[count..], &pulled_bounds[results..]);
    let allowed = left_off + right_off + 1e-9 * (left_size + right_size);
    // What is not finite has no products. Each single tangent may be rounded where bounds say that a value is exact.
    let rounding = rounding(&forward).max(rounding(&backward)).max(1e-5);
    if (left - right).abs() > 2.0 * allowed + rounding * (left_size + right_size) {
        return Err(Error::new(format!("ct · (J t) is {left}, (ct J) · t is {right}; {allowed} apart at most")));
    }
    Ok(())
}

/// A few units in the last place of the narrowest float in a program and its loops.
fn rounding(graph: &Graph) -> f64 {
    let text = graph.to_string();
    let floats = DType::ALL.into_iter().filter(|dtype| text.contains(&format!("{dtype}[")));
    let fraction = floats.filter_map(DType::float).map(|format| format.fraction).min();
    4.0 * 2f64.powi(-(fraction.unwrap_or(52) as i32))
}

/// The results of a program, and how far others may be from them, where something can be said of it.
fn known(graph: &Graph, inputs: &[Array]) -> Result<Option<(Vec<Array>, Vec<f64>)>> {
    let (results, bounds) = interpreted(graph, inputs, Config::COMPILED.bound)?;
    Ok(bounds.map(|bounds| (results, bounds)))
}

/// Small numbers of these types; zeros for what has no derivative.
fn directions(types: &[TensorType], seed: u64) -> Vec<Array> {
    let mut random = Random(seed ^ 0xd1);
    let direction = |ty: &TensorType| match ty.dtype.is_float() {
        true => random.array(ty, false),
        false => Array::from_bytes(ty, &vec![0; ty.bytes()]).expect("as many bytes as the type has"),
    };
    types.iter().map(direction).collect()
}

fn types(arrays: &[Array]) -> Vec<TensorType> {
    arrays.iter().map(|x| x.ty().clone()).collect()
}
