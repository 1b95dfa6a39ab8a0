//! `#[rule(…)]`: a rule's facts, beside its `impl Rule`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Expr, ItemImpl, LitInt, LitStr, Token};

use crate::verb::value;

#[derive(Default)]
struct Facts {
    reads: Option<Vec<LitStr>>,
    state_version: Option<LitInt>,
    examples: Vec<TokenStream>,
}

pub fn attribute(attribute: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let block: ItemImpl = syn::parse2(item)?;
    if block.trait_.is_none() {
        return Err(syn::Error::new_spanned(&block.self_ty, "#[rule] stands above `impl Rule for …`"));
    }
    let mut facts = Facts::default();
    let read = syn::meta::parser(|meta| facts.one(&meta));
    read.parse2(attribute)?;
    let owner = &block.self_ty;
    let missing = |what: &str| syn::Error::new_spanned(owner, what);
    let none = "a rule says what it reads: reads(\"cpu.total\"), or reads() if it goes by the agent's status";
    let reads = facts.reads.ok_or_else(|| missing(none))?;
    if facts.examples.is_empty() {
        return Err(missing("a rule shows what it finds: example = json!({ \"turns\": […] })"));
    }
    let version = facts.state_version.map_or(quote! { 1 }, |version| quote! { #version });
    let examples = facts.examples;
    Ok(quote! {
        #block
        impl ::viworks_sdk::rule::Described for #owner {
            const FACTS: ::viworks_sdk::rule::Facts = ::viworks_sdk::rule::Facts {
                reads: &[#(#reads),*],
                state_version: #version,
            };
            const EXAMPLES: &'static [::viworks_sdk::verb::Json] = &[#(#examples),*];
        }
    })
}

impl Facts {
    fn one(&mut self, meta: &syn::meta::ParseNestedMeta) -> syn::Result<()> {
        if meta.path.is_ident("reads") {
            let content;
            syn::parenthesized!(content in meta.input);
            let metrics = Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?;
            self.reads = Some(metrics.into_iter().collect());
        } else if meta.path.is_ident("example") {
            let course: Expr = meta.value()?.parse()?;
            self.examples.push(value(course));
        } else if meta.path.is_ident("state_version") {
            self.state_version = Some(meta.value()?.parse()?);
        } else {
            return Err(meta.error("not something a rule can say; it can say reads, example, state_version"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_without_reads_or_example_does_not_compile() {
        let block = quote! { impl Rule for X {} };
        let error = |said: TokenStream| attribute(said, block.clone()).map(|_| ()).expect_err("refused").to_string();
        assert!(error(quote! { example = json!({}) }).contains("says what it reads"));
        assert!(error(quote! { reads("cpu.total") }).contains("shows what it finds"));
        assert!(error(quote! { reads(), colour = "red" }).contains("not something a rule can say"));
        assert!(attribute(quote! { reads(), example = json!({}) }, block).is_ok());
    }
}
