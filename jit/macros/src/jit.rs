//! `#[jit]`.
//!
//! A pure function comes in, `fn step(model: Mlp, x: &Tensor, #[jit(static)] n: usize) -> O { … }`. A function with the
//! same name and parameters goes out, which returns `Result<O>` (`O` if that is a `Result` itself). It contains the
//! original function, renamed, and a `static` with the compiled programs:
//!
//! ```text
//! fn step(model: Mlp, x: &Tensor, n: usize) -> fulgurite::Result<O> {
//!     fn __traced(model: Mlp, x: &Tensor, n: usize) -> O { … }
//!     static __COMPILED: LazyLock<Jit<(Mlp,), (Tensor, Static<usize>), O>> =
//!         LazyLock::new(|| Jit::with_borrowed("step", |(model,), (x, n)| __traced(model, &x, n.0)));
//!     Jit::call_with(&__COMPILED, (model,), (Clone::clone(x), Static(n)))
//! }
//! ```
//!
//! The body keeps its tokens, so errors have source locations in the user's file. The names of the two items are
//! visible in the body, so they are unlikely identifiers.
//!
//! Not done here: tracing, caching and calling, which `Jit` does. The spelling of a parameter determines whether it is
//! donated, borrowed or static.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    AttrStyle, Attribute, Block, Error, FnArg, Ident, Item, ItemFn, LitInt, ParenthesizedGenericArguments, Pat,
    PatType, PathArguments, Result, ReturnType, Signature, Token, Type, TypeBareFn, TypeImplTrait, TypeReference,
    Visibility, parse_quote,
};

use crate::tree::has_floats;

/// The function that calls the compiled step. `krate` is the path at which `Jit`, `Static` and `Result` are found.
pub(crate) fn expand(arguments: TokenStream, function: TokenStream, krate: &TokenStream) -> Result<TokenStream> {
    let keep = programs_kept(arguments)?;
    let ItemFn { attrs, vis, sig, block } = parse(function)?;
    check(&sig)?;
    let params =
        sig.inputs.iter().enumerate().map(|(index, arg)| Param::new(index, arg)).collect::<Result<Vec<_>>>()?;
    let (output, result) = output(&sig, krate)?;

    let name = &sig.ident;
    let text = name.to_string();
    let text = text.strip_prefix("r#").unwrap_or(&text);
    let (inner, outer): (Vec<_>, Vec<_>) =
        attrs.into_iter().partition(|attribute| matches!(attribute.style, AttrStyle::Inner(_)));
    let traced = traced(&sig, &params, inner, block);

    let (donated, borrowed): (Vec<&Param>, Vec<&Param>) =
        params.iter().partition(|param| matches!(param.passing, Passing::Donated));
    let donated_type = tuple(donated.iter().map(|param| param.stored(krate)));
    let borrowed_type = tuple(borrowed.iter().map(|param| param.stored(krate)));
    let donated_pattern = tuple(donated.iter().map(|param| param.local.to_token_stream()));
    let borrowed_pattern = tuple(borrowed.iter().map(|param| param.local.to_token_stream()));
    let donated_values = tuple(donated.iter().map(|param| param.store(krate)));
    let borrowed_values = tuple(borrowed.iter().map(|param| param.store(krate)));
    // Reports a missing `Tree` at the type; the bounds of `Jit` are reported at the attribute.
    let trees = params
        .iter()
        .filter(|param| !matches!(param.passing, Passing::Static))
        .map(|Param { value, .. }| quote_spanned!(value.span()=> const _: fn() = __is_tree::<#value>;));
    let outer_params = params.iter().map(|Param { name, ty, .. }| quote!(#name: #ty));
    let traced_values = params.iter().map(Param::pass);

    Ok(quote! {
        #(#outer)*
        #vis fn #name(#(#outer_params),*) -> #result {
            #traced
            #[allow(dead_code)]
            fn __is_tree<T: #krate::Tree>() {}
            #(#trees)*

            #[allow(clippy::type_complexity)]
            static __COMPILED: ::std::sync::LazyLock<#krate::Jit<#donated_type, #borrowed_type, #output>> =
                ::std::sync::LazyLock::new(|| #krate::Jit::with_borrowed(
                    #text,
                    |#donated_pattern: #donated_type, #borrowed_pattern: #borrowed_type| __traced(#(#traced_values),*),
                )#keep);
            #krate::Jit::call_with(&__COMPILED, #donated_values, #borrowed_values)
        }
    })
}

/// How a parameter is passed, from its spelling.
enum Passing {
    /// `T`: the step may overwrite its memory.
    Donated,
    /// `&T`: the step does not modify it.
    Borrowed,
    /// `#[jit(static)] T`: a compile-time constant of the program.
    Static,
}

struct Param {
    passing: Passing,
    /// The name in the function the user calls: as written, or `arg0` for a pattern.
    name: Ident,
    /// The name in the closure that unpacks the arguments for the traced function. It is hygienic.
    local: Ident,
    /// The type as written, for both signatures.
    ty: Type,
    /// The type without its `&`.
    value: Type,
    /// The parameter of the traced function: the pattern, and its attributes without `#[jit]`.
    traced: PatType,
}

impl Param {
    fn new(index: usize, arg: &FnArg) -> Result<Self> {
        let arg = match arg {
            FnArg::Receiver(receiver) => {
                return Err(Error::new_spanned(
                    receiver,
                    "`#[jit]` goes on a free function: take the model as a parameter instead of `self`",
                ));
            }
            FnArg::Typed(arg) => arg,
        };
        let mut traced = arg.clone();
        let is_static = take_static(&mut traced.attrs)?;
        let (passing, value) = match (is_static, peel(&arg.ty)) {
            (_, Type::Reference(TypeReference { mutability: Some(_), .. })) => {
                return Err(Error::new_spanned(&arg.ty, BY_MUT));
            }
            (false, Type::Reference(reference)) => (Passing::Borrowed, (*reference.elem).clone()),
            (false, value) => (Passing::Donated, value.clone()),
            (true, value) => (Passing::Static, value.clone()),
        };
        if let (Passing::Borrowed, Type::Slice(_)) = (&passing, peel(&value)) {
            let message = "a step cannot borrow a slice, which nothing can own: take `Vec<T>` by value, or `&[T; N]`";
            return Err(Error::new_spanned(&arg.ty, message));
        }
        match passing {
            Passing::Static => {
                Nested::check(&value, "a static value is kept with the program: take it by value, as `T`")?
            }
            _ => Nested::check(&value, "a reference inside a parameter's type: a step takes trees as `T` or `&T`")?,
        }
        let site = Span::mixed_site().located_at(arg.pat.span());
        let local = format_ident!("arg{index}", span = site);
        let name = plain(&arg.pat).unwrap_or_else(|| local.clone());
        Ok(Self { passing, name, local, ty: (*arg.ty).clone(), value, traced })
    }

    /// The type of the argument in the signature of `Jit`.
    fn stored(&self, krate: &TokenStream) -> TokenStream {
        let value = &self.value;
        match self.passing {
            Passing::Donated | Passing::Borrowed => quote!(#value),
            Passing::Static if has_floats(value) => quote!(#krate::Static<#krate::Bits<#value>>),
            Passing::Static => quote!(#krate::Static<#value>),
        }
    }

    /// Converts the user's argument to that of `Jit`.
    fn store(&self, krate: &TokenStream) -> TokenStream {
        let Self { name, value, .. } = self;
        match self.passing {
            Passing::Donated => quote!(#name),
            // With the type spelled out: otherwise a missing `Clone` would clone the reference, and fail later.
            Passing::Borrowed => {
                quote_spanned!(value.span()=> <#value as ::core::clone::Clone>::clone(#name))
            }
            Passing::Static if has_floats(value) => quote!(#krate::Static(#krate::Bits(#name))),
            Passing::Static => quote!(#krate::Static(#name)),
        }
    }

    /// Converts the closure's argument to that of the traced function.
    fn pass(&self) -> TokenStream {
        let local = &self.local;
        match self.passing {
            Passing::Donated => quote!(#local),
            Passing::Borrowed => quote!(&#local),
            Passing::Static if has_floats(&self.value) => quote!(#local.0.0),
            Passing::Static => quote!(#local.0),
        }
    }
}

/// The user's function, renamed and without `#[jit]` attributes.
fn traced(sig: &Signature, params: &[Param], mut attrs: Vec<Attribute>, block: Box<Block>) -> ItemFn {
    // `T` or `&T` determines donation, so clippy's advice to change it does not apply.
    attrs.push(parse_quote!(#[allow(clippy::needless_pass_by_value, clippy::ptr_arg)]));
    let mut inputs = Punctuated::new();
    for param in params {
        inputs.push(FnArg::Typed(param.traced.clone()));
    }
    let sig = Signature { ident: format_ident!("__traced"), inputs, ..sig.clone() };
    ItemFn { attrs, vis: Visibility::Inherited, sig, block }
}

fn parse(function: TokenStream) -> Result<ItemFn> {
    syn::parse2::<ItemFn>(function.clone()).map_err(|error| match syn::parse2::<Item>(function) {
        Ok(item) => Error::new_spanned(item, "`#[jit]` goes on a function"),
        Err(_) => error,
    })
}

/// Rejects unsupported kinds of functions.
fn check(sig: &Signature) -> Result<()> {
    let generic = "cannot be generic: each step is one compiled function; write it for the types at hand, and call \
                   generic functions from it";
    let rejected = [
        (sig.asyncness.to_token_stream(), "cannot be async: a step is pure, there is nothing to wait for"),
        (sig.constness.to_token_stream(), "cannot be const: a step is compiled when it is first called"),
        (sig.unsafety.to_token_stream(), "cannot be unsafe: wrap what is unsafe in the body"),
        (sig.abi.to_token_stream(), "cannot have an ABI: a step is called from Rust"),
        (sig.variadic.to_token_stream(), "cannot be variadic: a step has a fixed list of parameters"),
        (sig.generics.params.to_token_stream(), generic),
        (sig.generics.where_clause.to_token_stream(), generic),
    ];
    match rejected.into_iter().find(|(found, _)| !found.is_empty()) {
        Some((found, why)) => Err(Error::new_spanned(found, format!("a `#[jit]` function {why}"))),
        None => Ok(()),
    }
}

/// The tree that the step returns, and the return type of the function that calls it: `Result` of the declared type
/// (`()` by default), or the declared type if it is a `Result`.
fn output(sig: &Signature, krate: &TokenStream) -> Result<(TokenStream, TokenStream)> {
    let ReturnType::Type(_, ty) = &sig.output else {
        return Ok((quote!(()), quote!(#krate::Result<()>)));
    };
    Nested::check(ty, "a step returns new values: return `T`, not a reference")?;
    let is_result = |ty: &syn::TypePath| {
        ty.path
            .segments
            .last()
            .is_some_and(|last| last.ident == "Result" && matches!(last.arguments, PathArguments::AngleBracketed(_)))
    };
    Ok(match peel(ty) {
        Type::Path(path) if is_result(path) => (quote!(<#ty as #krate::Output>::Tree), quote!(#ty)),
        _ => (quote!(#ty), quote!(#krate::Result<#ty>)),
    })
}

/// `#[jit(programs = 8)]`: the capacity of the cache, as a method call.
fn programs_kept(arguments: TokenStream) -> Result<Option<TokenStream>> {
    if arguments.is_empty() {
        return Ok(None);
    }
    let message = "`#[jit]` on a function takes nothing but `programs = N`, how many compiled programs it keeps; to \
                   make a parameter static, mark it `#[jit(static)]`";
    let invalid = Error::new_spanned(&arguments, message);
    let parse = |input: syn::parse::ParseStream| {
        let name: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        Ok((name, input.parse::<LitInt>()?))
    };
    match syn::parse::Parser::parse2(parse, arguments) {
        Ok((name, count)) if name == "programs" && count.base10_parse::<usize>().is_ok_and(|count| count > 0) => {
            Ok(Some(quote!(.keep_programs(#count))))
        }
        _ => Err(invalid),
    }
}

/// Removes `#[jit(static)]` from a parameter's attributes. Returns whether it was present.
fn take_static(attributes: &mut Vec<Attribute>) -> Result<bool> {
    let is_jit = |attribute: &Attribute| attribute.path().segments.last().is_some_and(|segment| segment.ident == "jit");
    for attribute in attributes.iter() {
        if is_jit(attribute) {
            attribute.parse_args::<Token![static]>().map_err(|error| {
                Error::new(error.span(), "unknown attribute: a parameter may have `#[jit(static)]`, and nothing else")
            })?;
        } else if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
            return Err(Error::new_spanned(attribute, "a parameter of a `#[jit]` function cannot depend on `cfg`"));
        }
    }
    let before = attributes.len();
    attributes.retain(|attribute| !is_jit(attribute));
    Ok(attributes.len() < before)
}

const BY_MUT: &str = "`#[jit]` has no `&mut` parameters: take it by value and return the new one";

/// Rejects references and `impl Trait` inside a type, which the type of the `static` must spell out.
struct Nested {
    reference: &'static str,
    error: Option<Error>,
}

impl Nested {
    fn check(ty: &Type, reference: &'static str) -> Result<()> {
        let mut nested = Self { reference, error: None };
        nested.visit_type(ty);
        nested.error.map_or(Ok(()), Err)
    }
}

impl<'a> Visit<'a> for Nested {
    fn visit_type_reference(&mut self, ty: &'a TypeReference) {
        if ty.mutability.is_some() {
            self.error.get_or_insert(Error::new_spanned(ty, BY_MUT));
        } else if ty.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static") {
            visit::visit_type(self, &ty.elem);
        } else {
            self.error.get_or_insert(Error::new_spanned(ty, self.reference));
        }
    }

    fn visit_type_impl_trait(&mut self, ty: &'a TypeImplTrait) {
        let message = "`#[jit]` needs the name of this type: `impl Trait` leaves it open";
        self.error.get_or_insert(Error::new_spanned(ty, message));
    }

    // The signature of a function pointer is not part of the argument.
    fn visit_type_bare_fn(&mut self, _: &'a TypeBareFn) {}
    fn visit_parenthesized_generic_arguments(&mut self, _: &'a ParenthesizedGenericArguments) {}
}

/// The type without parentheses and without the invisible group that `macro_rules` puts around a `$t:ty`.
fn peel(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return ty,
        };
    }
}

/// The name, if the pattern is a plain identifier.
fn plain(pattern: &Pat) -> Option<Ident> {
    match pattern {
        Pat::Ident(name) if name.by_ref.is_none() && name.mutability.is_none() && name.subpat.is_none() => {
            Some(name.ident.clone())
        }
        _ => None,
    }
}

/// A tuple `()`, `(a,)`, `(a, b,)`, with a trailing comma for one element.
fn tuple(elements: impl Iterator<Item = TokenStream>) -> TokenStream {
    quote!((#(#elements,)*))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(function: TokenStream) -> String {
        expand(TokenStream::new(), function, &quote!(k)).unwrap().to_string()
    }

    fn error(function: TokenStream) -> String {
        expand(TokenStream::new(), function, &quote!(k)).unwrap_err().to_string()
    }

    #[test]
    fn a_step_becomes_a_call_of_its_compiled_self() {
        let got = expanded(quote! {
            /// One step.
            pub fn step(model: Mlp, opt: AdamState<Mlp>, x: &Tensor, #[jit(static)] n: usize) -> (Mlp, Tensor) { body }
        });
        let want = quote! {
            /// One step.
            pub fn step(model: Mlp, opt: AdamState<Mlp>, x: &Tensor, n: usize) -> k::Result<(Mlp, Tensor)> {
                #[allow(clippy::needless_pass_by_value, clippy::ptr_arg)]
                fn __traced(model: Mlp, opt: AdamState<Mlp>, x: &Tensor, n: usize) -> (Mlp, Tensor) { body }
                #[allow(dead_code)]
                fn __is_tree<T: k::Tree>() {}
                const _: fn() = __is_tree::<Mlp>;
                const _: fn() = __is_tree::<AdamState<Mlp> >;
                const _: fn() = __is_tree::<Tensor>;

                #[allow(clippy::type_complexity)]
                static __COMPILED: ::std::sync::LazyLock<
                    k::Jit<(Mlp, AdamState<Mlp>,), (Tensor, k::Static<usize>,), (Mlp, Tensor)>> = ::std::sync::LazyLock::new(|| k::Jit::with_borrowed(
                    "step",
                    |(arg0, arg1,): (Mlp, AdamState<Mlp>,), (arg2, arg3,): (Tensor, k::Static<usize>,)|
                        __traced(arg0, arg1, &arg2, arg3.0),
                ));
                k::Jit::call_with(
                    &__COMPILED,
                    (model, opt,),
                    (<Tensor as ::core::clone::Clone>::clone(x), k::Static(n),)
                )
            }
        };
        assert_eq!(got, want.to_string());
    }

    #[test]
    fn the_smallest_step() {
        let got = expanded(quote!(
            fn r#loop() {}
        ));
        assert!(got.contains(&quote!(fn r#loop() -> k::Result<()>).to_string()), "{got}");
        assert!(got.contains(&quote!(k::Jit<(), (), ()>).to_string()), "{got}");
        assert!(got.contains(&quote!("loop", |(): (), (): ()| __traced(),).to_string()), "{got}");
    }

    #[test]
    fn patterns_stay_in_the_traced_function() {
        let got = expanded(quote!(
            fn f(mut x: Tensor, (a, b): (A, B), Pair { c, .. }: &Pair, _: T) -> T {
                body
            }
        ));
        let traced = quote!(
            fn __traced(mut x: Tensor, (a, b): (A, B), Pair { c, .. }: &Pair, _: T) -> T {
                body
            }
        );
        assert!(got.contains(&traced.to_string()), "{got}");
        let outer = quote!(fn f(arg0: Tensor, arg1: (A, B), arg2: &Pair, arg3: T) -> k::Result<T>);
        assert!(got.contains(&outer.to_string()), "{got}");
    }

    #[test]
    fn attributes_go_where_they_belong() {
        let got = expanded(quote! {
            #[inline] fn f(#[allow(unused)] x: T, #[fulgurite::jit(static)] n: usize) { #![allow(dead_code)] body }
        });
        let start = quote!(#[inline] fn f(x: T, n: usize) -> k::Result<()>);
        assert!(got.starts_with(&start.to_string()), "{got}");
        let traced = quote!(
            fn __traced(#[allow(unused)] x: T, n: usize) {
                #![allow(dead_code)]
                body
            }
        );
        assert!(got.contains(&traced.to_string()), "{got}");
    }

    #[test]
    fn unsupported_functions_are_rejected() {
        let body = quote!({});
        for (function, message) in [
            (quote!(async fn f() #body), "cannot be async"),
            (quote!(const fn f() #body), "cannot be const"),
            (quote!(unsafe fn f() #body), "cannot be unsafe"),
            (quote!(extern "C" fn f() #body), "cannot have an ABI"),
            (quote!(fn f(x: T, ...) #body), "cannot be variadic"),
            (quote!(fn f<T>(x: T) #body), "cannot be generic"),
            (quote!(fn f<'a>(x: &'a T) #body), "cannot be generic"),
            (quote!(fn f() where T: Tree #body), "cannot be generic"),
            (quote!(fn f(x: impl Tree) #body), "needs the name of this type"),
            (quote!(fn f() -> (T, impl Tree) #body), "needs the name of this type"),
            (quote!(fn f(&self) #body), "free function"),
            (quote!(fn f(x: &mut T) #body), "take it by value and return the new one"),
            (quote!(fn f(x: (T, &mut T)) #body), "take it by value and return the new one"),
            (quote!(fn f(x: &[T]) #body), "cannot borrow a slice"),
            (quote!(fn f(x: Vec<&T>) #body), "as `T` or `&T`"),
            (quote!(fn f(#[jit(static)] x: &T) #body), "by value, as `T`"),
            (quote!(fn f(#[jit(donate)] x: T) #body), "`#[jit(static)]`, and nothing else"),
            (quote!(fn f(#[jit] x: T) #body), "`#[jit(static)]`, and nothing else"),
            (quote!(fn f(#[cfg(unix)] x: T) #body), "cannot depend on `cfg`"),
            (quote!(fn f(x: T) -> &T #body), "not a reference"),
            (
                quote!(
                    struct S;
                ),
                "goes on a function",
            ),
        ] {
            let got = error(function.clone());
            assert!(got.contains(message), "{function}\n  {got}");
        }
        let arguments = expand(
            quote!(static),
            quote!(
                fn f() {}
            ),
            &quote!(k),
        )
        .unwrap_err()
        .to_string();
        assert!(arguments.contains("takes nothing but `programs = N`"), "{arguments}");
        for arguments in [quote!(programs), quote!(programs = 0), quote!(programs = -1), quote!(kept = 3)] {
            assert!(
                expand(
                    arguments.clone(),
                    quote!(
                        fn f() {}
                    ),
                    &quote!(k)
                )
                .is_err(),
                "{arguments}"
            );
        }
    }

    #[test]
    fn a_result_stays_one() {
        for ty in [quote!(Result<Tensor>), quote!(fulgurite::Result<Tensor>), quote!(Result<(A, B), Error>)] {
            let got = expanded(quote!(fn f(x: Tensor) -> #ty { body }));
            assert!(got.starts_with(&quote!(fn f(x: Tensor) -> #ty).to_string()), "{got}");
            assert!(got.contains(&quote!(k::Jit<(Tensor,), (), <#ty as k::Output>::Tree>).to_string()), "{got}");
        }
    }

    #[test]
    fn static_floats_are_told_apart_by_their_bits() {
        let got = expanded(quote!(
            fn f(#[jit(static)] rate: f64, #[jit(static)] n: usize) {}
        ));
        assert!(got.contains(&quote!((k::Static<k::Bits<f64>>, k::Static<usize>,)).to_string()), "{got}");
        assert!(got.contains(&quote!((k::Static(k::Bits(rate)), k::Static(n),)).to_string()), "{got}");
        assert!(got.contains(&quote!(__traced(arg0.0.0, arg1.0)).to_string()), "{got}");
    }

    #[test]
    fn how_many_programs_are_kept_can_be_said() {
        let got = expand(
            quote!(programs = 8),
            quote!(
                fn f() {}
            ),
            &quote!(k),
        )
        .unwrap()
        .to_string();
        assert!(got.contains(&quote!(.keep_programs(8)).to_string()), "{got}");
    }

    #[test]
    fn values_that_outlive_everything_may_be_static() {
        let got = expanded(quote!(
            fn f(#[jit(static)] name: &'static str, #[jit(static)] act: fn(&Tensor) -> Tensor) {}
        ));
        assert!(got.contains(&quote!(k::Static<&'static str>).to_string()), "{got}");
        assert!(got.contains(&quote!(k::Static<fn(&Tensor) -> Tensor>).to_string()), "{got}");
    }
}
