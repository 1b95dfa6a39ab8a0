//! `#[derive(Choice)]`: a closed set of words.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, LitStr};

use crate::attributes::docs;

pub fn derive(input: DeriveInput) -> syn::Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(syn::Error::new_spanned(&input.ident, "derive Choice on an enum"));
    };
    if data.variants.is_empty() {
        return Err(syn::Error::new_spanned(&input.ident, "a choice has at least one variant"));
    }
    let mut variants = Vec::new();
    let mut words = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(syn::Error::new_spanned(variant, "a choice's variant carries no data"));
        }
        let mut word = snake(&variant.ident.to_string());
        for attribute in variant.attrs.iter().filter(|attribute| attribute.path().is_ident("choice")) {
            attribute.parse_nested_meta(|meta| match meta.path.is_ident("name") {
                true => meta.value()?.parse::<LitStr>().map(|name| word = name.value()),
                false => Err(meta.error("a choice's variant can say name = \"…\"")),
            })?;
        }
        variants.push(&variant.ident);
        words.push(word);
    }
    let first = &variants[0];
    let indices = 0..variants.len();
    let name = &input.ident;
    let description = docs(&input.attrs);
    Ok(quote! {
        impl #name {
            /// The word that JSON and command lines use.
            pub fn as_str(&self) -> &'static str {
                match self { #(#name::#variants => #words),* }
            }
        }
        impl ::viworks_sdk::schema::Schema for #name {
            const NODE: &'static ::viworks_sdk::schema::Node =
                &::viworks_sdk::schema::Node::Choice { description: #description, words: &[#(#words),*] };
        }
        impl ::viworks_sdk::value::Fill for #name {
            fn fill(&mut self, value: ::viworks_sdk::json::Value, reader: &mut ::viworks_sdk::value::Reader) {
                match reader.choice(&value, &[#(#words),*]) {
                    #(::std::option::Option::Some(#indices) => *self = #name::#variants,)*
                    _ => {}
                }
            }
        }
        impl ::viworks_sdk::value::FromJson for #name {
            fn blank() -> Self {
                #name::#first
            }
        }
        impl ::viworks_sdk::builder::Values for #name {
            fn each(&self, give: &mut dyn FnMut(&str)) {
                give(self.as_str());
            }
        }
        impl ::viworks_sdk::value::ToJson for #name {
            fn to_json(&self) -> ::viworks_sdk::json::Value {
                ::viworks_sdk::json::Value::from(self.as_str())
            }
        }
    })
}

/// `NotFound` becomes `not_found`.
fn snake(name: &str) -> String {
    let mut word = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            word.push('_');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::snake;

    #[test]
    fn variants_become_snake_case_words() {
        assert_eq!(snake("Running"), "running");
        assert_eq!(snake("NotFound"), "not_found");
    }
}
