//! Trees (JAX's pytrees): structs, vectors, tuples and options of tensors, as arguments and results of steps.
//!
//! A model, an optimiser's state and a batch are [`Tree`]s whose leaves are [`Tensor`]s. `#[derive(Tree)]` implements
//! the trait for a struct. A field marked `#[tree(static)]` is part of the structure, not a leaf: a step is traced
//! again when it changes.

use std::hash::{Hash, Hasher};

use super::tensor::Tensor;
use crate::error::Error;

/// The name of a child in its parent: a field, or a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A named field.
    Field(&'static str),
    /// A position in a tuple, array or vector.
    Index(usize),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Field(name) => f.write_str(name),
            Name::Index(i) => write!(f, "{i}"),
        }
    }
}

/// Visits the parts of a tree in order. It may hold the leaves for as long as the tree is borrowed.
pub trait Visitor<'t> {
    /// A leaf.
    fn leaf(&mut self, tensor: &'t Tensor);
    /// A leaf that the tree owns exclusively, from [`Tree::visit_mut`]: its data may be moved out.
    fn leaf_mut(&mut self, tensor: &'t mut Tensor) {
        self.leaf(tensor);
    }
    /// Start of the child `name`.
    fn enter(&mut self, name: Name);
    /// End of the child.
    fn leave(&mut self);
    /// The hasher for static values and sizes of containers. Two trees have equal structure if and only if they write
    /// the same bytes and visit leaves at the same positions.
    fn structure(&mut self) -> &mut dyn Hasher;
}

/// A structure of tensors. Derive it; the order of the leaves is the order of the fields.
///
/// ```
/// use fulgurite_jit::{Tensor, Tree, leaves};
///
/// #[derive(Tree, Clone)]
/// struct Linear { weight: Tensor, bias: Option<Tensor>, #[tree(static)] name: String }
///
/// let layer = Linear { weight: Tensor::zeros(&[2, 3]), bias: None, name: "first".into() };
/// assert_eq!(leaves(&layer).len(), 1);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no tree of tensors",
    label = "neither a tensor nor a structure of tensors",
    note = "a plain value (a number, a name, an option) is part of the program: mark the field `#[tree(static)]`, or the \
            parameter of a `#[jit]` function `#[jit(static)]`; elsewhere put it in `Static`",
    note = "a number that changes from call to call is a tensor: `Tensor::scalar(x)`",
    note = "a struct or an enum of trees becomes one by `#[derive(Tree)]`"
)]
pub trait Tree: Sized {
    /// Visits every part in order.
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>);

    /// As [`Tree::visit`], with [`Visitor::leaf_mut`] for the leaves that the tree owns.
    ///
    /// A step can overwrite the memory of such leaves only. A shared leaf, in an `Arc` or behind a `&'static Tensor`,
    /// is visited with [`Visitor::leaf`], and copied if the step would overwrite it. The default implementation treats
    /// all leaves as shared.
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        self.visit(visitor);
    }

    /// The same structure with `f` applied to every leaf, in the order of [`Tree::visit`].
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self;
}

/// The leaves in order, as clones that share the data.
pub fn leaves(tree: &impl Tree) -> Vec<Tensor> {
    struct Leaves(Vec<Tensor>, NullHasher);
    impl<'t> Visitor<'t> for Leaves {
        fn leaf(&mut self, tensor: &'t Tensor) {
            self.0.push(tensor.clone());
        }
        fn enter(&mut self, _: Name) {}
        fn leave(&mut self) {}
        fn structure(&mut self) -> &mut dyn Hasher {
            &mut self.1
        }
    }
    let mut visitor = Leaves(Vec::new(), NullHasher);
    tree.visit(&mut visitor);
    visitor.0
}

/// The leaves with their paths (`layers.0.weight`), in order.
pub fn named_leaves(tree: &impl Tree) -> Vec<(String, Tensor)> {
    struct Named(Vec<(String, Tensor)>, Vec<Name>, NullHasher);
    impl<'t> Visitor<'t> for Named {
        fn leaf(&mut self, tensor: &'t Tensor) {
            self.0.push((crate::types::join(&self.1, "."), tensor.clone()));
        }
        fn enter(&mut self, name: Name) {
            self.1.push(name);
        }
        fn leave(&mut self) {
            self.1.pop();
        }
        fn structure(&mut self) -> &mut dyn Hasher {
            &mut self.2
        }
    }
    let mut visitor = Named(Vec::new(), Vec::new(), NullHasher);
    tree.visit(&mut visitor);
    visitor.0
}

/// A tree with the structure of `like` and these leaves. If there are fewer than `like` has, the others are poisoned.
#[inline]
pub fn unflatten<T: Tree>(like: &T, leaves: impl IntoIterator<Item = Tensor>) -> T {
    let mut leaves = leaves.into_iter();
    like.map(&mut |leaf| leaves.next().unwrap_or_else(|| missing_leaf(leaf)))
}

/// The poisoned tensor for a missing leaf.
#[cold]
fn missing_leaf(leaf: &Tensor) -> Tensor {
    let why = "a tree has more leaves than were counted: its `map` asks for more than its `visit` shows, or the other tree \
               has fewer";
    Tensor::failed(leaf.ty().clone(), Error::new(why))
}

/// Maps over two trees of equal structure: `f(x, y)` for each leaf `x`. If `y` has fewer leaves, the others are
/// poisoned.
pub fn map2<T: Tree, U: Tree>(x: &T, y: &U, mut f: impl FnMut(&Tensor, &Tensor) -> Tensor) -> T {
    let mut others = leaves(y).into_iter();
    x.map(&mut |leaf| f(leaf, &others.next().unwrap_or_else(|| missing_leaf(leaf))))
}

/// The structure of a tree (JAX's treedef): its static values and containers, without its leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Structure(Vec<u8>);

impl Structure {
    /// The structure of `tree`.
    pub fn of(tree: &impl Tree) -> Self {
        struct Recorder(Bytes);
        impl Visitor<'_> for Recorder {
            fn leaf(&mut self, _: &Tensor) {
                self.0.0.push(b'*');
            }
            fn enter(&mut self, _: Name) {
                self.0.0.push(b'(');
            }
            fn leave(&mut self) {
                self.0.0.push(b')');
            }
            fn structure(&mut self) -> &mut dyn Hasher {
                &mut self.0
            }
        }
        let mut visitor = Recorder(Bytes(Vec::new()));
        tree.visit(&mut visitor);
        Structure(visitor.0.0)
    }
}

/// A `Hasher` that stores its input: equal bytes mean equal values.
#[derive(Default)]
pub struct Bytes(pub Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// A `Hasher` that discards its input.
struct NullHasher;

impl Hasher for NullHasher {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, _: &[u8]) {}
}

/// A static value, as a tree without leaves. A step that takes one is traced again for every new value. Floats, which
/// are not `Hash`, are wrapped in [`Bits`](crate::Bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Static<T>(pub T);

impl<T: Hash + Clone> Tree for Static<T> {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        self.0.hash(&mut visitor.structure());
    }
    fn map(&self, _: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        self.clone()
    }
}

impl Tree for Tensor {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visitor.leaf(self);
    }
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        visitor.leaf_mut(self);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        f(self)
    }
}

/// Visits the items of a list as children `0..`.
fn visit_items<'t, T: Tree + 't>(items: impl IntoIterator<Item = &'t T>, visitor: &mut dyn Visitor<'t>) {
    for (i, item) in items.into_iter().enumerate() {
        visitor.enter(Name::Index(i));
        item.visit(visitor);
        visitor.leave();
    }
}

/// As [`visit_items`], for items that the list owns.
fn visit_items_mut<'t, T: Tree + 't>(items: impl IntoIterator<Item = &'t mut T>, visitor: &mut dyn Visitor<'t>) {
    for (i, item) in items.into_iter().enumerate() {
        visitor.enter(Name::Index(i));
        item.visit_mut(visitor);
        visitor.leave();
    }
}

impl<T: Tree> Tree for Vec<T> {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visitor.structure().write_usize(self.len());
        visit_items(self, visitor);
    }
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        visitor.structure().write_usize(self.len());
        visit_items_mut(self, visitor);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        self.iter().map(|item| item.map(f)).collect()
    }
}

impl<T: Tree, const N: usize> Tree for [T; N] {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visit_items(self, visitor);
    }
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        visit_items_mut(self, visitor);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        std::array::from_fn(|i| self[i].map(f))
    }
}

impl<T: Tree> Tree for Option<T> {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        visitor.structure().write_u8(self.is_some().into());
        if let Some(item) = self {
            item.visit(visitor);
        }
    }
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        visitor.structure().write_u8(self.is_some().into());
        if let Some(item) = self {
            item.visit_mut(visitor);
        }
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        self.as_ref().map(|item| item.map(f))
    }
}

impl<T: Tree> Tree for Box<T> {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        (**self).visit(visitor);
    }
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        (**self).visit_mut(visitor);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Box::new((**self).map(f))
    }
}

impl<T: ?Sized> Tree for std::marker::PhantomData<T> {
    fn visit<'t>(&'t self, _: &mut dyn Visitor<'t>) {}
    fn map(&self, _: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        std::marker::PhantomData
    }
}

macro_rules! tuples {
    ($(($($t:ident $i:tt),*);)*) => { $(
        impl<$($t: Tree),*> Tree for ($($t,)*) {
            #[allow(unused_variables)]
            fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
                $( visitor.enter(Name::Index($i)); self.$i.visit(visitor); visitor.leave(); )*
            }
            #[allow(unused_variables)]
            fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
                $( visitor.enter(Name::Index($i)); self.$i.visit_mut(visitor); visitor.leave(); )*
            }
            #[allow(unused_variables, clippy::unused_unit)]
            fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
                ($(self.$i.map(f),)*)
            }
        }
    )* };
}
tuples! {
    ();
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
}
