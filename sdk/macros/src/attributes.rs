//! Reading what an author writes on fields: doc comments and `#[arg(…)]` / `#[output(…)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprRange, GenericArgument, Lit, LitStr, PathArguments, RangeLimits, Type};

use crate::literal;

/// What a field's attribute says.
#[derive(Default)]
pub struct FieldAttributes {
    pub default: Option<FieldDefault>,
    pub limits: Limits,
    /// JSON text of a value that would do.
    pub example: Option<String>,
    pub allow_dash: bool,
    pub name: Option<LitStr>,
    pub from: Option<LitStr>,
}

/// What stands in for an absent field.
pub enum FieldDefault {
    /// `Default::default()`.
    OfType,
    Value(Box<Expr>),
}

/// What narrows a value beyond its type.
#[derive(Default)]
pub struct Limits {
    range: Option<ExprRange>,
    length: Option<ExprRange>,
    /// A literal, or a constant that several fields share.
    pattern: Option<Expr>,
    one_of: Vec<LitStr>,
    items: Option<Box<Limits>>,
    keys: Option<Box<Limits>>,
    secret: bool,
}

impl FieldAttributes {
    /// Reads all attributes called `namespace`.
    pub fn read(attributes: &[Attribute], namespace: &str) -> syn::Result<FieldAttributes> {
        let mut read = FieldAttributes::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(namespace)) {
            attribute.parse_nested_meta(|meta| read.one(&meta, namespace))?;
        }
        Ok(read)
    }

    fn one(&mut self, meta: &ParseNestedMeta, namespace: &str) -> syn::Result<()> {
        if meta.path.is_ident("default") {
            self.default = Some(match meta.input.peek(syn::Token![=]) {
                true => FieldDefault::Value(Box::new(meta.value()?.parse()?)),
                false => FieldDefault::OfType,
            });
        } else if meta.path.is_ident("allow_dash") && namespace == "arg" {
            self.allow_dash = true;
        } else if meta.path.is_ident("example") {
            let value: Expr = meta.value()?.parse()?;
            let rule = "a field's example is a literal, or json!(…) made of literals";
            self.example = Some(literal::json(&value).ok_or_else(|| syn::Error::new_spanned(value, rule))?);
        } else if meta.path.is_ident("name") {
            self.name = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("from") && namespace == "output" {
            self.from = Some(meta.value()?.parse()?);
        } else if !self.limits.one(meta)? {
            let list = "default, range, length, pattern, one_of, items, keys, secret, example, name";
            let own = if namespace == "arg" { "allow_dash" } else { "from" };
            return Err(meta.error(format!("not something a field can say; it can say {list}, {own}")));
        }
        Ok(())
    }
}

impl Limits {
    /// Whether `meta` was a limit.
    fn one(&mut self, meta: &ParseNestedMeta) -> syn::Result<bool> {
        if meta.path.is_ident("range") {
            self.range = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("length") {
            self.length = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("pattern") {
            self.pattern = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("one_of") {
            let content;
            syn::parenthesized!(content in meta.input);
            let words = content.parse_terminated(<LitStr as syn::parse::Parse>::parse, syn::Token![,])?;
            self.one_of = words.into_iter().collect();
        } else if meta.path.is_ident("items") {
            self.items = Some(Box::new(Limits::nested(meta)?));
        } else if meta.path.is_ident("keys") {
            self.keys = Some(Box::new(Limits::nested(meta)?));
        } else if meta.path.is_ident("secret") {
            self.secret = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn nested(meta: &ParseNestedMeta) -> syn::Result<Limits> {
        let mut limits = Limits::default();
        meta.parse_nested_meta(|inner| match limits.one(&inner)? {
            true => Ok(()),
            false => Err(inner.error("not a limit; limits are range, length, pattern, one_of, items, keys, secret")),
        })?;
        Ok(limits)
    }

    /// A constant expression of type `&viworks_sdk::schema::Limits` for a value of type `ty`.
    pub fn tokens(&self, ty: &Type) -> syn::Result<TokenStream> {
        let ty = within(ty, &["Option"]).unwrap_or(ty);
        let mut fields = TokenStream::new();
        if let Some(range) = &self.range {
            // A bound has the field's own type, so a bound that no value could reach does not compile.
            let bound = |expr: &Option<Box<Expr>>| match expr {
                Some(expr) => quote! { Some({ const BOUND: #ty = #expr; BOUND as f64 }) },
                None => quote! { None },
            };
            let (low, high) = bounds(range)?;
            let (low, high) = (bound(low), bound(high));
            fields.extend(quote! { minimum: #low, maximum: #high, });
        }
        if let Some(length) = &self.length {
            let bound = |expr: &Option<Box<Expr>>| match expr {
                Some(expr) => quote! { Some(#expr) },
                None => quote! { None },
            };
            let (low, high) = bounds(length)?;
            let (low, high) = (bound(low), bound(high));
            fields.extend(quote! { shortest: #low, longest: #high, });
        }
        if self.secret {
            fields.extend(quote! { secret: true, });
        }
        if let Some(pattern) = &self.pattern {
            fields.extend(quote! { pattern: Some(#pattern), });
        }
        if !self.one_of.is_empty() {
            let words = &self.one_of;
            fields.extend(quote! { one_of: &[#(#words),*], });
        }
        if let Some(items) = &self.items {
            let item = within(ty, &["Vec", "BTreeMap"]).unwrap_or(ty);
            let items = items.tokens(item)?;
            fields.extend(quote! { items: Some(#items), });
        }
        if let Some(keys) = &self.keys {
            let keys = keys.tokens(ty)?;
            fields.extend(quote! { keys: Some(#keys), });
        }
        Ok(match fields.is_empty() {
            true => quote! { ::viworks_sdk::schema::Limits::NONE },
            false => quote! { &::viworks_sdk::schema::Limits { #fields ..*::viworks_sdk::schema::Limits::NONE } },
        })
    }
}

type Bound = Option<Box<Expr>>;

fn bounds(range: &ExprRange) -> syn::Result<(&Bound, &Bound)> {
    match (&range.limits, &range.end) {
        (RangeLimits::HalfOpen(_), Some(_)) => {
            Err(syn::Error::new_spanned(range, "write an inclusive range, a..=b, so that the last value is named"))
        }
        _ => Ok((&range.start, &range.end)),
    }
}

/// The last type argument of `ty` if its name is one of `wrappers`: `u8` of `Option<u8>`.
fn within<'a>(ty: &'a Type, wrappers: &[&str]) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    if !wrappers.iter().any(|wrapper| last.ident == wrapper) {
        return None;
    }
    arguments.args.iter().rev().find_map(|argument| match argument {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    })
}

/// The doc comment as text: lines of a paragraph joined, paragraphs apart.
pub fn docs(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let Ok(pair) = attribute.meta.require_name_value() else { continue };
        let Expr::Lit(syn::ExprLit { lit: Lit::Str(line), .. }) = &pair.value else { continue };
        let line = line.value();
        let line = line.trim();
        if line.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push_str("\n\n");
            }
        } else {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push(' ');
            }
            text.push_str(line);
        }
    }
    text.trim_end().to_owned()
}
