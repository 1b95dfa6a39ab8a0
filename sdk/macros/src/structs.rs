//! `#[derive(Args)]` and `#[derive(Output)]`: one reading of the struct, one schema, two directions.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Expr, ExprLit, Fields, Lit};

use crate::attributes::{FieldAttributes, FieldDefault, docs};

/// Which of the two derives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Args,
    Output,
}

struct Parts {
    /// The field as data.
    field: TokenStream,
    slot: TokenStream,
    /// What it is before anything is read.
    blank: TokenStream,
    ident: syn::Ident,
}

pub fn derive(input: DeriveInput, role: Role) -> syn::Result<TokenStream> {
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Some(&fields.named),
            Fields::Unit if role == Role::Args => None,
            Fields::Unit | Fields::Unnamed(_) => {
                return Err(syn::Error::new_spanned(&input.ident, "give the fields names: they become JSON names"));
            }
        },
        Data::Enum(_) | Data::Union(_) => {
            return Err(syn::Error::new_spanned(&input.ident, "derive this on a struct; for an enum derive Choice"));
        }
    };
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(&input.generics, "a schema describes one type: remove the parameters"));
    }
    let parts = fields.into_iter().flatten().map(|field| part(field, role)).collect::<syn::Result<Vec<Parts>>>()?;
    let name = &input.ident;
    let description = docs(&input.attrs);
    let closed = role == Role::Args;
    let fields = parts.iter().map(|part| &part.field);
    let slots = parts.iter().map(|part| &part.slot);
    let blanks = parts.iter().map(|part| &part.blank);
    let idents: Vec<_> = parts.iter().map(|part| &part.ident).collect();
    let rest = match role {
        Role::Args => quote! { impl ::viworks_sdk::Args for #name {} },
        Role::Output => quote! {
            impl ::viworks_sdk::value::ToJson for #name {
                fn to_json(&self) -> ::viworks_sdk::json::Value {
                    ::viworks_sdk::value::object(Self::SLOTS, &[#(&self.#idents),*])
                }
            }
        },
    };
    Ok(quote! {
        impl #name {
            const SLOTS: &'static [::viworks_sdk::value::Slot] = &[#(#slots),*];
        }
        impl ::viworks_sdk::schema::Schema for #name {
            const NODE: &'static ::viworks_sdk::schema::Node = &::viworks_sdk::schema::Node::Object {
                description: #description,
                closed: #closed,
                fields: &[#(#fields),*],
            };
        }
        impl ::viworks_sdk::value::Fill for #name {
            fn fill(&mut self, value: ::viworks_sdk::json::Value, reader: &mut ::viworks_sdk::value::Reader) {
                reader.object(value, #closed, Self::SLOTS, &mut [#(&mut self.#idents),*]);
            }
        }
        impl ::viworks_sdk::value::FromJson for #name {
            fn blank() -> Self {
                #name { #(#idents: #blanks),* }
            }
        }
        #rest
    })
}

fn part(field: &syn::Field, role: Role) -> syn::Result<Parts> {
    let namespace = if role == Role::Args { "arg" } else { "output" };
    let said = FieldAttributes::read(&field.attrs, namespace)?;
    let ident = field.ident.clone().expect("fields are named, checked by the caller");
    let ty = &field.ty;
    let name = said.name.as_ref().map_or_else(|| ident.unraw().to_string(), syn::LitStr::value);
    let printed = said.from.as_ref().map_or_else(|| name.clone(), syn::LitStr::value);
    let description = docs(&field.attrs);
    let limits = said.limits.tokens(ty)?;
    let default = said.default.as_ref().map(|default| match default {
        FieldDefault::OfType => quote! { <#ty as ::std::default::Default>::default() },
        FieldDefault::Value(expr) => match &**expr {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
                quote! { <#ty as ::std::convert::From<&str>>::from(#text) }
            }
            expr => quote! { #expr },
        },
    });
    let (default_json, blank) = match &default {
        Some(expr) => (
            quote! {
                ::std::option::Option::Some((|| {
                    let value: #ty = #expr;
                    ::viworks_sdk::value::ToJson::to_json(&value)
                }) as fn() -> ::viworks_sdk::json::Value)
            },
            expr.clone(),
        ),
        None => (quote! { ::std::option::Option::None }, quote! { <#ty as ::viworks_sdk::value::FromJson>::blank() }),
    };
    let example = match said.example {
        Some(text) => quote! { ::std::option::Option::Some(#text) },
        None => quote! { ::std::option::Option::None },
    };
    let has_default = default.is_some();
    let allow_dash = said.allow_dash;
    Ok(Parts {
        field: quote! {
            ::viworks_sdk::schema::Field {
                name: #name,
                description: #description,
                node: <#ty as ::viworks_sdk::schema::Schema>::NODE,
                required: <#ty as ::viworks_sdk::schema::Schema>::REQUIRED && !#has_default,
                default: #default_json,
                example: #example,
                limits: #limits,
            }
        },
        slot: quote! {
            ::viworks_sdk::value::Slot {
                name: #name,
                printed: #printed,
                required: <#ty as ::viworks_sdk::schema::Schema>::REQUIRED && !#has_default,
                allow_dash: #allow_dash,
            }
        },
        blank,
        ident,
    })
}
