//! The two macros of fulgurite: [`derive(Tree)`](macro@Tree) and [`jit`](macro@jit).
//!
//! In: the tokens of a type, or of a step function. Out: the tokens of an `impl`, or of the function that calls the
//! compiled step. Each macro is one file with one function from tokens to tokens, and this file hands them the path
//! under which the caller's crate knows ours.
//!
//! Not done here: nothing is traced and no type is known. What a field or a parameter is, is read off its spelling
//! (`&T` or `T`, `#[tree(static)]`, `#[jit(static)]`); whether its type is a `Tree` is left for the compiler to say, at
//! the user's own tokens.

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
/// *structure* of the tree, so a step that meets another value is compiled again. Static fields need `Hash + Clone`; a
/// type that is spelled with `f32` or `f64` in it (`f64`, `Option<f32>`, `(f64, usize)`) needs `StaticValue` instead,
/// and is told from others by its bits.
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
/// The first call traces the body with the shapes it was given and compiles it; every later call with the same shapes
/// is one call of machine code. The function that remains under this name returns `Result` of what was declared: a
/// wrong shape anywhere in the body comes back as an error, with the user's line. A function that is declared to return
/// a `Result<T>` keeps that type: `?` works inside, and the call returns the first mistake in the body, or else the
/// error that the body returned.
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
/// How a parameter is written says what the step may do with it:
///
/// | parameter | means |
/// |---|---|
/// | `model: Mlp` | donated: its memory may be overwritten by the results |
/// | `x: &Tensor` | borrowed: left as it is (needs `Clone`, which for tensors shares the buffer) |
/// | `#[jit(static)] n: usize` | a value of the program: another value compiles another program (needs `Hash + Clone`, or is spelled with floats) |
///
/// The programs of the 64 kinds of arguments used last are kept; `#[jit(programs = 8)]` keeps 8.
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

/// The path of the first of these crates that the crate being compiled depends on, under the name it has there.
///
/// Where there is none (or no Cargo.toml), the answer is the facade, so that the compiler's message names what to add.
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

/// The path of a library from inside its own package: `crate` in the library, its name in what Cargo builds around it
/// (examples, tests, benches, documentation examples). The facade's library uses no macro, so it is always the name.
fn itself(library: &str) -> TokenStream {
    // rustdoc sets this one for every documentation example, whose CARGO_CRATE_NAME is that of the library.
    let is_doctest = std::env::var_os("UNSTABLE_RUSTDOC_TEST_PATH").is_some();
    let is_library = std::env::var("CARGO_CRATE_NAME").is_ok_and(|name| name == library);
    if is_library && !is_doctest && library != "fulgurite" {
        return quote!(crate);
    }
    let library = format_ident!("{library}");
    quote!(::#library)
}
