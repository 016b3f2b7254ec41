//! The public `vmap`: a function on one example becomes a function on a batch.
//!
//! Comes in: a function, `in_axes` and `out_axes`, which are matched with trees and checked. Goes out: a function on
//! batches. The rules are in `rules::batch`.

use std::hash::Hasher;
use std::panic::Location;

use fulgurite_jit::panics::guarded;
use fulgurite_jit::trace::{Traced, as_one_program};
use fulgurite_jit::tree::Bytes;
use fulgurite_jit::{Error, Name, Tensor, TensorType, Tree, Visitor, leaves, named_leaves, unflatten};

use crate::flat::{failed, flat, trace_flat, types};
use crate::rules::Batched;
use crate::rules::batch::batch;

/// Vectorises `f`, written for one example, over a batch.
///
/// `in_axes` is the mapped axis of each leaf of the argument: a number for all leaves, `None` for leaves that all
/// examples share, or a tuple of such, one for each child of the argument. Negative numbers count from the end. The
/// mapped axis of the results is 0. Tensors that `f` captures are shared.
///
/// Random keys are mapped like any tensor: `Key::split_n` gives the rows, `Key::wrap_key_data` makes them one argument.
///
/// ```no_run
/// use fulgurite_autodiff::{grad, vmap};
/// use fulgurite_jit::Tensor;
///
/// let (xs, w) = (Tensor::ones(&[32, 3]), Tensor::ones(&[3]));
/// // f32[32]: the product with each row.
/// let ys = vmap(|(x, w): (Tensor, Tensor)| x.matmul(&w), (0, None))((xs.clone(), w.clone()));
/// // f32[32,3]: the gradient of each example.
/// let loss = |x: &Tensor| grad(|w: &Tensor| x.matmul(w).square())(&w);
/// let gradients = vmap(|x: Tensor| loss(&x), 0)(xs);
/// ```
///
/// # Errors
/// When an axis does not exist, when the mapped axes differ in extent, or when nothing is mapped, the results are
/// poisoned with the error.
#[track_caller]
pub fn vmap<A: Tree, O: Tree>(f: impl Fn(A) -> O, in_axes: impl InAxes) -> impl Fn(A) -> O {
    vmap_out(f, in_axes, 0)
}

/// As [`vmap`], with the mapped axes of the results, `out_axes`, written as `in_axes` are for the children of the
/// result. `None` is for results that are the same for all examples; others are an error.
#[track_caller]
pub fn vmap_out<A: Tree, O: Tree>(f: impl Fn(A) -> O, in_axes: impl InAxes, out_axes: impl InAxes) -> impl Fn(A) -> O {
    let location = Location::caller();
    move |args: A| {
        let mapping = Mapping::of(&args, &in_axes).map_err(|reason| Error::op("vmap", reason, location));
        let mut structure = None;
        let results = as_one_program(&leaves(&args), |xs| {
            let examples = match &mapping {
                Ok(mapping) => mapping.example_types(xs),
                Err(_) => types(xs),
            };
            let traced = trace_flat(&examples, &mut flat(&f, &args, &mut structure));
            // An error of the mapping comes before those of `f`.
            let (mapping, traced) = match (&mapping, traced) {
                (Ok(mapping), Ok(traced)) => (mapping, traced),
                (Err(error), Ok(traced)) => return failed(error, &traced.graph.output_types()),
                (Err(error), Err(reason)) => return failed(error, &reason.types),
                (Ok(_), Err(reason)) => return reason.results(),
            };
            let def = structure.as_ref().map(TreeDef::of).unwrap_or_default();
            let batched = guarded("batching", || {
                mapping
                    .batch(&traced, xs, leaf_axes(&out_axes, &def))
                    .map_err(|reason| Error::op("vmap", reason, location))
            });
            batched.unwrap_or_else(|error| failed(&error, &traced.graph.output_types()))
        });
        unflatten(&structure.expect("the function has run"), results)
    }
}

/// The mapped axes of a tree; see [`vmap`]. A number, `None`, or a tuple of these.
pub trait InAxes {
    /// The axis of every leaf, in order: [`TreeDef::num_leaves`] of them.
    ///
    /// # Errors
    /// The mismatch, when the tree does not have these children.
    fn axes(&self, def: &TreeDef) -> Result<Vec<Option<isize>>, String>;
}

impl InAxes for isize {
    fn axes(&self, def: &TreeDef) -> Result<Vec<Option<isize>>, String> {
        Some(*self).axes(def)
    }
}

impl InAxes for Option<isize> {
    fn axes(&self, def: &TreeDef) -> Result<Vec<Option<isize>>, String> {
        Ok(vec![*self; def.num_leaves()])
    }
}

macro_rules! tuples {
    ($($n:literal: $($t:ident $i:tt),*;)*) => { $(
        impl<$($t: InAxes),*> InAxes for ($($t,)*) {
            fn axes(&self, def: &TreeDef) -> Result<Vec<Option<isize>>, String> {
                let children = def.exactly($n)?;
                Ok([$(self.$i.axes(children[$i])?),*].concat())
            }
        }
    )* };
}
tuples! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
}

/// The structure of a tree: how its leaves nest.
#[derive(Debug, Default)]
pub struct TreeDef(Vec<Child>);

#[derive(Debug)]
enum Child {
    Leaf,
    Tree(TreeDef),
}

impl TreeDef {
    /// The structure of `tree`.
    pub fn of(tree: &impl Tree) -> Self {
        struct Collect(Vec<TreeDef>, Bytes);
        impl Visitor<'_> for Collect {
            fn leaf(&mut self, _: &Tensor) {
                self.push(Child::Leaf);
            }
            fn enter(&mut self, _: Name) {
                self.0.push(TreeDef::default());
            }
            fn leave(&mut self) {
                let child = self.0.pop().unwrap_or_default();
                self.push(Child::Tree(child));
            }
            fn structure(&mut self) -> &mut dyn Hasher {
                &mut self.1
            }
        }
        impl Collect {
            fn push(&mut self, child: Child) {
                if let Some(parent) = self.0.last_mut() {
                    parent.0.push(child);
                }
            }
        }
        let mut visitor = Collect(vec![TreeDef::default()], Bytes::default());
        tree.visit(&mut visitor);
        visitor.0.pop().unwrap_or_default()
    }

    /// The number of leaves at any depth.
    pub fn num_leaves(&self) -> usize {
        let count = |child: &Child| match child {
            Child::Leaf => 1,
            Child::Tree(child) => child.num_leaves(),
        };
        self.0.iter().map(count).sum()
    }

    /// The `n` children; a message when there are fewer or more.
    ///
    /// # Errors
    /// When there are more or fewer, or a single leaf.
    pub fn exactly(&self, n: usize) -> Result<Vec<&TreeDef>, String> {
        let tree = |child| match child {
            &Child::Leaf => Err(format!("a tuple of {n} axes is given for a single tensor")),
            Child::Tree(child) => Ok(child),
        };
        let children: Vec<&TreeDef> = self.0.iter().map(tree).collect::<Result<_, _>>()?;
        if children.len() != n {
            return Err(format!("a tuple of {n} axes is given for a tree of {} parts", children.len()));
        }
        Ok(children)
    }
}

/// The mapped axis of each leaf of the arguments, and the number of examples.
struct Mapping {
    axes: Vec<Option<usize>>,
    extent: usize,
}

impl Mapping {
    fn of(args: &impl Tree, in_axes: &impl InAxes) -> Result<Self, String> {
        let axes = leaf_axes(in_axes, &TreeDef::of(args))?;
        let leaves = named_leaves(args);
        let name = |path: &str| if path.is_empty() { "the argument".into() } else { format!("argument {path}") };
        let mut mapping = Mapping { axes: Vec::new(), extent: 0 };
        let mut first: Option<(String, usize)> = None;
        for ((path, x), axis) in leaves.iter().zip(axes) {
            let Some(axis) = axis else {
                mapping.axes.push(None);
                continue;
            };
            let Some(resolved) = resolve(axis, x.rank()) else {
                return Err(format!("{} is {}, which has no axis {axis}", name(path), x.ty()));
            };
            let extent = x.shape()[resolved];
            let this = format!("{} is {} with {extent} along axis {resolved}", name(path), x.ty());
            match &first {
                Some((that, other)) if *other != extent => return Err(format!("mapped axes differ: {that}, {this}")),
                Some(_) => {}
                None => first = Some((this, extent)),
            }
            mapping.axes.push(Some(resolved));
        }
        mapping.extent = first.ok_or("no argument is mapped: in_axes is None for every tensor")?.1;
        Ok(mapping)
    }

    /// The types of one example.
    fn example_types(&self, xs: &[Tensor]) -> Vec<TensorType> {
        let mut types = types(xs);
        for (ty, axis) in types.iter_mut().zip(&self.axes) {
            if let Some(axis) = axis {
                ty.shape.remove(*axis);
            }
        }
        types
    }

    /// The results of a traced function for the whole batch, with their mapped axes at `out_axes`.
    fn batch(
        &self,
        traced: &Traced,
        xs: &[Tensor],
        out_axes: Result<Vec<Option<isize>>, String>,
    ) -> Result<Vec<Tensor>, String> {
        let out_axes = out_axes.map_err(|reason| format!("out_axes: {reason}"))?;
        let mapped = xs.iter().zip(&self.axes).map(|(x, &axis)| Batched { x: x.clone(), axis });
        let shared = traced.captures.iter().map(|x| Batched { x: x.clone(), axis: None });
        let results = batch(&traced.graph, &mapped.chain(shared).collect::<Vec<_>>(), self.extent);
        let to_out_axis = |(result, axis): (&Batched, &Option<isize>)| match (axis, result.axis) {
            (None, None) => Ok(result.x.clone()),
            (None, Some(_)) => Err("out_axes is None for a result that differs between examples".into()),
            (&Some(axis), mapped) => {
                let rank = result.x.rank() + usize::from(mapped.is_none());
                let axis = resolve(axis, rank)
                    .ok_or_else(|| format!("out_axes names axis {axis} of a result that has {rank} axes"))?;
                Ok(result.at(axis, self.extent))
            }
        };
        results.iter().zip(&out_axes).map(to_out_axis).collect()
    }
}

/// The axis of every leaf; an error when there are more or fewer axes than leaves.
fn leaf_axes(axes: &impl InAxes, def: &TreeDef) -> Result<Vec<Option<isize>>, String> {
    let axes = axes.axes(def)?;
    if axes.len() != def.num_leaves() {
        return Err(format!("{} axes are given for {} tensors", axes.len(), def.num_leaves()));
    }
    Ok(axes)
}

/// The axis of a possibly negative number.
fn resolve(axis: isize, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as isize } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}
