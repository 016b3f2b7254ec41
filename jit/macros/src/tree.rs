//! `#[derive(Tree)]`.
//!
//! A struct or an enum comes in, its `impl Tree` goes out, with `visit`, `visit_mut` and `map`. A struct is treated as
//! an enum with one variant, so each method is one `match` with one arm per variant.
//!
//! Not done here: resolution of field types. A type is only searched for floats and for type parameters, for the
//! bounds.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, GenericArgument, Generics, Ident, Member, PathArguments, Result,
    Token, Type, TypePath,
};

/// The `impl Tree` of a type. `krate` is the path at which `Tree`, `Visitor`, `Name` and `Tensor` are found.
pub(crate) fn expand(input: TokenStream, krate: &TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    reject_attributes(&input.attrs)?;
    let variants = variants(&input.data)?;

    let name = &input.ident;
    let (impl_generics, type_generics, _) = input.generics.split_for_impl();
    let where_clause = where_clause(&input.generics, &variants, krate);
    let visit = variants.iter().map(|variant| variant.visit(krate, quote!(visit)));
    let visit_mut = variants.iter().map(|variant| variant.visit(krate, quote!(visit_mut)));
    let map = variants.iter().map(|variant| variant.map(krate));
    // A match on a reference to an empty enum needs an arm; a match on the place does not.
    let subject = if variants.is_empty() { quote!(*self) } else { quote!(self) };

    Ok(quote! {
        #[automatically_derived]
        #[allow(unused_variables)]
        impl #impl_generics #krate::Tree for #name #type_generics #where_clause {
            fn visit<'t>(&'t self, visitor: &mut dyn #krate::Visitor<'t>) {
                match #subject { #(#visit)* }
            }

            fn visit_mut<'t>(&'t mut self, visitor: &mut dyn #krate::Visitor<'t>) {
                match #subject { #(#visit_mut)* }
            }

            fn map(&self, f: &mut dyn ::core::ops::FnMut(&#krate::Tensor) -> #krate::Tensor) -> Self {
                match #subject { #(#map)* }
            }
        }
    })
}

/// A variant of the enum, or the struct.
struct Variant<'a> {
    /// `Self` or `Self::Variant`, valid as a pattern and as an expression.
    path: TokenStream,
    /// The index of the variant; `None` for a struct.
    index: Option<u32>,
    fields: Vec<Field<'a>>,
}

struct Field<'a> {
    /// `weight`, or `0` in a tuple.
    member: Member,
    /// The binding of the field in the pattern. It is hygienic (`mixed_site`) and has the span of the type, so that the
    /// error "`Tree` is not implemented for `u8`" underlines that `u8`.
    local: Ident,
    ty: &'a Type,
    is_static: bool,
}

fn variants(data: &Data) -> Result<Vec<Variant<'_>>> {
    match data {
        Data::Struct(data) => Ok(vec![Variant { path: quote!(Self), index: None, fields: fields(&data.fields)? }]),
        Data::Enum(data) => data
            .variants
            .iter()
            .zip(0u32..)
            .map(|(variant, index)| {
                reject_attributes(&variant.attrs)?;
                let name = &variant.ident;
                Ok(Variant { path: quote!(Self::#name), index: Some(index), fields: fields(&variant.fields)? })
            })
            .collect(),
        Data::Union(data) => Err(Error::new(
            data.union_token.span,
            "`Tree` cannot be derived for a union: nothing says which of its fields holds the value; use an enum",
        )),
    }
}

fn fields(fields: &Fields) -> Result<Vec<Field<'_>>> {
    let locals = (0usize..)
        .zip(fields.iter())
        .map(|(index, field)| format_ident!("field{index}", span = Span::mixed_site().located_at(field.ty.span())));
    fields
        .iter()
        .zip(fields.members())
        .zip(locals)
        .map(|((field, member), local)| Ok(Field { member, local, ty: &field.ty, is_static: is_static(&field.attrs)? }))
        .collect()
}

impl Variant<'_> {
    /// The arm of `visit` or `visit_mut`.
    fn visit(&self, krate: &TokenStream, method: TokenStream) -> TokenStream {
        let pattern = self.pattern();
        let variant = self.index.map(|index| quote!(::core::hash::Hasher::write_u32(visitor.structure(), #index);));
        let fields = self.fields.iter().map(|Field { member, local, ty, is_static }| {
            if *is_static {
                return match has_floats(ty) {
                    true => quote!(#krate::StaticValue::write(&*#local, visitor.structure());),
                    false => quote!(::core::hash::Hash::hash(&*#local, &mut visitor.structure());),
                };
            }
            let name = match member {
                Member::Named(ident) => {
                    let text = unraw(ident);
                    quote!(#krate::Name::Field(#text))
                }
                Member::Unnamed(index) => {
                    let index = index.index as usize;
                    quote!(#krate::Name::Index(#index))
                }
            };
            quote! {
                visitor.enter(#name);
                #krate::Tree::#method(#local, visitor);
                visitor.leave();
            }
        });
        quote!(#pattern => { #variant #(#fields)* })
    }

    fn map(&self, krate: &TokenStream) -> TokenStream {
        let pattern = self.pattern();
        let path = &self.path;
        let fields = self.fields.iter().map(|Field { member, local, is_static, .. }| {
            if *is_static {
                quote!(#member: ::core::clone::Clone::clone(#local))
            } else {
                quote!(#member: #krate::Tree::map(#local, f))
            }
        });
        quote!(#pattern => #path { #(#fields),* },)
    }

    fn pattern(&self) -> TokenStream {
        let path = &self.path;
        let members = self.fields.iter().map(|field| &field.member);
        let locals = self.fields.iter().map(|field| &field.local);
        quote!(#path { #(#members: #locals),* })
    }
}

/// The user's where clause and the bounds of the fields.
fn where_clause(generics: &Generics, variants: &[Variant], krate: &TokenStream) -> Option<TokenStream> {
    let parameters: Vec<&Ident> = generics.type_params().map(|parameter| &parameter.ident).collect();
    let mut predicates: Vec<TokenStream> = Vec::new();
    for field in variants.iter().flat_map(|variant| &variant.fields) {
        let mentioned = mentioned(field.ty, &parameters);
        if !field.is_static {
            predicates.extend(mentioned.iter().map(|ty| quote!(#ty: #krate::Tree)));
        } else if !mentioned.is_empty() {
            // A bound on the type of the field, which is exact. A static field cannot contain the type itself, so the
            // bound is not recursive, as it could be above.
            let ty = field.ty;
            predicates.push(match has_floats(ty) {
                true => quote!(#ty: #krate::StaticValue),
                false => quote!(#ty: ::core::hash::Hash + ::core::clone::Clone),
            });
        }
    }
    let mut seen = std::collections::HashSet::new();
    predicates.retain(|predicate| seen.insert(predicate.to_string()));

    let own = generics.where_clause.iter().flat_map(|clause| &clause.predicates).map(ToTokens::to_token_stream);
    let all: Vec<TokenStream> = own.chain(predicates).collect();
    (!all.is_empty()).then(|| quote!(where #(#all),*))
}

/// The innermost types inside `ty` that depend on a parameter: `T`, `T::State`, `<T as Trait>::State`.
///
/// For a field of type `T::State` the bound is on `T::State`, as in serde: an optimiser is not a tree, its state is.
/// `PhantomData<T>` contains no `T`.
fn mentioned<'a>(ty: &'a Type, parameters: &[&Ident]) -> Vec<&'a TypePath> {
    struct Mentioned<'a, 'p> {
        parameters: &'p [&'p Ident],
        found: Vec<&'a TypePath>,
    }

    impl<'a> Visit<'a> for Mentioned<'a, '_> {
        fn visit_type_path(&mut self, ty: &'a TypePath) {
            let segments = &ty.path.segments;
            if segments.last().is_some_and(|segment| segment.ident == "PhantomData") {
                return;
            }
            let starts_with_parameter =
                ty.qself.is_none() && ty.path.leading_colon.is_none() && self.parameters.contains(&&segments[0].ident);
            if starts_with_parameter {
                self.found.push(ty);
                return;
            }
            let before = self.found.len();
            visit::visit_type_path(self, ty);
            if ty.qself.is_some() && self.found.len() > before {
                self.found.truncate(before);
                self.found.push(ty);
            }
        }
    }

    let mut visitor = Mentioned { parameters, found: Vec::new() };
    visitor.visit_type(ty);
    visitor.found
}

fn is_static(attributes: &[Attribute]) -> Result<bool> {
    let mut is_static = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("tree")) {
        attribute.parse_args::<Token![static]>().map_err(|error| {
            Error::new(error.span(), "unknown attribute: a field may have `#[tree(static)]`, and nothing else")
        })?;
        is_static = true;
    }
    Ok(is_static)
}

/// Whether the type is spelled as a float, or as a container of the standard library with one. Such a static value is
/// not `Hash` and is compared by its bits.
pub(crate) fn has_floats(ty: &Type) -> bool {
    let Type::Path(TypePath { path, .. }) = ty else {
        return match ty {
            Type::Group(group) => has_floats(&group.elem),
            Type::Paren(paren) => has_floats(&paren.elem),
            Type::Array(array) => has_floats(&array.elem),
            Type::Tuple(tuple) => tuple.elems.iter().any(has_floats),
            _ => false,
        };
    };
    let Some(last) = path.segments.last() else { return false };
    match &last.arguments {
        PathArguments::None => last.ident == "f32" || last.ident == "f64",
        PathArguments::AngleBracketed(held)
            if ["Option", "Vec", "Box", "Arc"].iter().any(|name| last.ident == name) =>
        {
            held.args.iter().any(|held| matches!(held, GenericArgument::Type(held) if has_floats(held)))
        }
        _ => false,
    }
}

/// Rejects `#[tree]` on types and variants.
fn reject_attributes(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().find(|attribute| attribute.path().is_ident("tree")) {
        Some(attribute) => Err(Error::new_spanned(attribute, "`#[tree(static)]` marks a field: it means nothing here")),
        None => Ok(()),
    }
}

/// The name in checkpoints and messages: `type` for `r#type`.
fn unraw(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(input: TokenStream) -> String {
        expand(input, &quote!(k)).unwrap().to_string()
    }

    fn error(input: TokenStream) -> String {
        expand(input, &quote!(k)).unwrap_err().to_string()
    }

    /// The where clause of the impl.
    fn bounds(input: TokenStream) -> String {
        let text = expanded(input);
        let (_, rest) = text.split_once("where").unwrap_or(("", "{"));
        rest.split('{').next().unwrap().trim().to_owned()
    }

    #[test]
    fn a_struct_is_visited_in_order_and_rebuilt() {
        let got = expanded(quote! {
            struct Conv { weight: Tensor, #[tree(static)] stride: usize, r#type: Kind }
        });
        let want = quote! {
            #[automatically_derived]
            #[allow(unused_variables)]
            impl k::Tree for Conv {
                fn visit<'t>(&'t self, visitor: &mut dyn k::Visitor<'t>) {
                    match self {
                        Self { weight: field0, stride: field1, r#type: field2 } => {
                            visitor.enter(k::Name::Field("weight"));
                            k::Tree::visit(field0, visitor);
                            visitor.leave();
                            ::core::hash::Hash::hash(&*field1, &mut visitor.structure());
                            visitor.enter(k::Name::Field("type"));
                            k::Tree::visit(field2, visitor);
                            visitor.leave();
                        }
                    }
                }

                fn visit_mut<'t>(&'t mut self, visitor: &mut dyn k::Visitor<'t>) {
                    match self {
                        Self { weight: field0, stride: field1, r#type: field2 } => {
                            visitor.enter(k::Name::Field("weight"));
                            k::Tree::visit_mut(field0, visitor);
                            visitor.leave();
                            ::core::hash::Hash::hash(&*field1, &mut visitor.structure());
                            visitor.enter(k::Name::Field("type"));
                            k::Tree::visit_mut(field2, visitor);
                            visitor.leave();
                        }
                    }
                }

                fn map(&self, f: &mut dyn ::core::ops::FnMut(&k::Tensor) -> k::Tensor) -> Self {
                    match self {
                        Self { weight: field0, stride: field1, r#type: field2 } => Self {
                            weight: k::Tree::map(field0, f),
                            stride: ::core::clone::Clone::clone(field1),
                            r#type: k::Tree::map(field2, f)
                        },
                    }
                }
            }
        };
        assert_eq!(got, want.to_string());
    }

    #[test]
    fn an_enum_writes_its_variant_first() {
        let got = expanded(quote!(
            enum Head {
                None,
                Linear(Tensor, #[tree(static)] usize),
                Deep { w: Tensor },
            }
        ));
        let visit = quote! {
            match self {
                Self::None {} => { ::core::hash::Hasher::write_u32(visitor.structure(), 0u32); }
                Self::Linear { 0: field0, 1: field1 } => {
                    ::core::hash::Hasher::write_u32(visitor.structure(), 1u32);
                    visitor.enter(k::Name::Index(0usize));
                    k::Tree::visit(field0, visitor);
                    visitor.leave();
                    ::core::hash::Hash::hash(&*field1, &mut visitor.structure());
                }
                Self::Deep { w: field0 } => {
                    ::core::hash::Hasher::write_u32(visitor.structure(), 2u32);
                    visitor.enter(k::Name::Field("w"));
                    k::Tree::visit(field0, visitor);
                    visitor.leave();
                }
            }
        };
        assert!(got.contains(&visit.to_string()), "{got}");
    }

    #[test]
    fn static_floats_are_written_by_their_bits() {
        let got = expanded(quote!(
            struct Norm {
                #[tree(static)]
                eps: Option<f64>,
                #[tree(static)]
                act: fn(f32) -> f32,
                #[tree(static)]
                of: Marker<f32>,
            }
        ));
        assert!(got.contains(&quote!(k::StaticValue::write(&*field0, visitor.structure());).to_string()), "{got}");
        for hashed in [quote!(field1), quote!(field2)] {
            let hash = quote!(::core::hash::Hash::hash(&*#hashed, &mut visitor.structure()););
            assert!(got.contains(&hash.to_string()), "{got}");
        }
        assert_eq!(
            bounds(quote!(
                struct S<A>(#[tree(static)] (A, f32));
            )),
            "(A , f32) : k :: StaticValue"
        );
    }

    #[test]
    fn only_parameters_of_visited_fields_are_bound_to_be_trees() {
        assert_eq!(
            bounds(quote!(
                struct S {
                    w: Tensor,
                }
            )),
            ""
        );
        assert_eq!(
            bounds(quote!(
                struct S<M> {
                    m: AdamState<M>,
                    n: Vec<(M, M)>,
                }
            )),
            "M : k :: Tree"
        );
        assert_eq!(
            bounds(quote!(
                struct S<M>(PhantomData<M>);
            )),
            ""
        );
        assert_eq!(
            bounds(quote!(
                struct S<'a, const N: usize>([Tensor; N]);
            )),
            ""
        );
        assert_eq!(
            bounds(quote!(
                struct S<A>(#[tree(static)] A);
            )),
            "A : :: core :: hash :: Hash + :: core :: clone :: Clone"
        );
        assert_eq!(
            bounds(quote!(
                enum E<A, B>
                where
                    A: Copy,
                {
                    X(A),
                    Y(B),
                }
            )),
            "A : Copy , A : k :: Tree , B : k :: Tree"
        );
    }

    #[test]
    fn an_associated_type_is_bound_instead_of_its_owner() {
        assert_eq!(
            bounds(quote!(
                struct S<O: Opt>(Vec<O::State>);
            )),
            "O :: State : k :: Tree"
        );
        assert_eq!(
            bounds(quote!(
                struct S<O>(<O as Opt>::State);
            )),
            "< O as Opt > :: State : k :: Tree"
        );
        assert_eq!(
            bounds(quote!(
                struct S<O>(<Adam as Opt>::State);
            )),
            ""
        );
    }

    #[test]
    fn unsupported_types_are_rejected() {
        assert!(error(quote!(union U { a: Tensor })).contains("union"));
        assert!(
            error(quote!(
                struct S {
                    #[tree(skip)]
                    a: Tensor,
                }
            ))
            .contains("`#[tree(static)]`, and nothing else")
        );
        assert!(
            error(quote!(
                struct S {
                    #[tree]
                    a: Tensor,
                }
            ))
            .contains("`#[tree(static)]`, and nothing else")
        );
        assert!(
            error(quote!(
                struct S {
                    #[tree(static, static)]
                    a: Tensor,
                }
            ))
            .contains("nothing else")
        );
        assert!(
            error(quote!(
                #[tree(static)]
                struct S;
            ))
            .contains("marks a field")
        );
        assert!(
            error(quote!(
                enum E {
                    #[tree(static)]
                    A(Tensor),
                }
            ))
            .contains("marks a field")
        );
    }
}
