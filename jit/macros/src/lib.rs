//! The two macros of fulgurite: [`derive(Tree)`](macro@Tree) and [`jit`](macro@jit).
//!
//! The tokens of a type or of a step function come in. The tokens of an `impl`, or of a function that calls the
//! compiled step, go out. Each macro is one file with one function from tokens to tokens. This file resolves the path
//! of fulgurite in the caller's crate.
//!
//! Not done here: tracing and type checking. The kind of a field or parameter is determined syntactically (`&T` or `T`,
//! `#[tree(static)]`, `#[jit(static)]`). The compiler checks that its type is a `Tree`, at the span of the user's
//! tokens.

mod jit;
mod tree;

use proc_macro::TokenStream as Tokens;
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

/// Derives `Tree` for a struct or an enum: a container whose leaves are tensors.
///
/// Fields are visited in the order in which they are declared, and each must be a `Tree` itself: a tensor, another
/// derived type, or a container of those. A field marked `#[tree(static)]` is not visited: its value is part of the
/// *structure* of the tree, so a step is compiled again for another value. Static fields need `Hash + Clone`. A type
/// that is spelled with `f32` or `f64` (`f64`, `Option<f32>`, `(f64, usize)`) needs `StaticValue` instead, and is
/// compared by its bits.
///
/// ```ignore
/// #[derive(Tree, Clone)]
/// struct Conv {
///     weight: Tensor,
///     bias: Option<Tensor>,
///     #[tree(static)]
///     stride: usize,
/// }
///
/// #[derive(Tree)]
/// enum Head<M> {
///     Linear(Tensor),
///     Custom { inner: M },
/// }
/// ```
///
/// A type parameter `T` used in a field gets the bound `T: Tree`, and an associated type `T::State` used in a field
/// gets `T::State: Tree`. An enum writes the index of its variant into the structure.
#[proc_macro_derive(Tree, attributes(tree))]
pub fn derive_tree(input: Tokens) -> Tokens {
    finish(tree::expand(input.into(), &root(&["fulgurite", "fulgurite-jit"])))
}

/// Compiles a step: a pure function from trees to a tree.
///
/// The first call traces the body with the shapes of its arguments and compiles it. A later call with the same shapes
/// is one call of machine code. The function returns `Result` of the declared type: a shape error in the body is
/// returned, with its source location. A function that is declared to return `Result<T>` keeps that type: `?` works
/// inside, and the call returns the first error of an op, or else the error of the body.
///
/// ```ignore
/// #[jit]
/// fn step(model: Mlp, opt: AdamState<Mlp>, x: &Tensor, #[jit(static)] steps: usize) -> (Mlp, AdamState<Mlp>) {
///     // any Rust that computes with tensors; `steps` is a plain number here
/// }
///
/// let (model, opt) = step(model, opt, &x, 3)?;
/// ```
///
/// The spelling of a parameter determines how it is passed:
///
/// | parameter | means |
/// |---|---|
/// | `model: Mlp` | donated: the results may overwrite its memory |
/// | `x: &Tensor` | borrowed: not modified (needs `Clone`, which shares the buffer of a tensor) |
/// | `#[jit(static)] n: usize` | static: a compile-time constant; another value compiles another program (needs `Hash + Clone`, or is spelled with floats) |
///
/// The programs of the 64 most recently used signatures are cached; `#[jit(programs = 8)]` caches 8.
///
/// The function must be free and plain: no `self`, no generics, no `async`, `const` or `unsafe`. There is no `&mut`
/// parameter: take the value and return the new one.
#[proc_macro_attribute]
pub fn jit(arguments: Tokens, function: Tokens) -> Tokens {
    finish(jit::expand(arguments.into(), function.into(), &root(&["fulgurite", "fulgurite-runtime"])))
}

fn finish(expansion: syn::Result<TokenStream>) -> Tokens {
    expansion.unwrap_or_else(|error| error.to_compile_error()).into()
}

/// The path of the first of these crates that the current crate depends on, under its name there.
///
/// The default is the facade, so that the compiler's error names the missing dependency.
fn root(candidates: &[&str]) -> TokenStream {
    for package in candidates {
        match crate_name(package) {
            Ok(FoundCrate::Name(name)) => {
                let name = format_ident!("{name}");
                return quote!(::#name);
            }
            Ok(FoundCrate::Itself) => return itself(&package.replace('-', "_")),
            Err(_) => {}
        }
    }
    quote!(::fulgurite)
}

/// The path of a library inside its own package: `crate` in the library, its name in examples, tests, benches and
/// doctests. For the facade it is always the name, since its library uses no macro.
fn itself(library: &str) -> TokenStream {
    // rustdoc sets this variable for doctests, whose CARGO_CRATE_NAME is that of the library.
    let is_doctest = std::env::var_os("UNSTABLE_RUSTDOC_TEST_PATH").is_some();
    let is_library = std::env::var("CARGO_CRATE_NAME").is_ok_and(|name| name == library);
    if is_library && !is_doctest && library != "fulgurite" {
        return quote!(crate);
    }
    let library = format_ident!("{library}");
    quote!(::#library)
}
