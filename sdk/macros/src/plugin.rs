//! `plugin!(…)`: the crate's plugin as one static, and what a component exports.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, Token, Type};

/// Set by `viworks plugin build` when it knows what the plugin says of itself: the file with that, packed.
const DESCRIBED: &str = "VIWORKS_DESCRIBED";

#[derive(Default)]
struct Said {
    name: Option<Expr>,
    version: Option<Expr>,
    summary: Option<Expr>,
    verbs: Vec<Type>,
    rule: Option<Type>,
    grants: Vec<Expr>,
    effects: Vec<Ident>,
    config: Option<Type>,
}

pub fn expand(input: TokenStream) -> syn::Result<TokenStream> {
    let said = Said::parse.parse2(input)?;
    let wrong = |rule: &str| Err(syn::Error::new(proc_macro2::Span::call_site(), rule));
    match &said.rule {
        None if said.verbs.is_empty() => return wrong("a plugin has at least one verb, or is a rule: verbs: [Run]"),
        Some(_) if !said.verbs.is_empty() => return wrong("a plugin has verbs or is a rule, and not both"),
        Some(_) if said.config.is_some() => return wrong("a rule is its own configuration: leave out config"),
        Some(_) if !said.grants.is_empty() || !said.effects.is_empty() => {
            return wrong("a rule runs nothing: leave out grants and effects");
        }
        None | Some(_) => {}
    }
    let or = |expr: Option<Expr>, variable: &str| match expr {
        Some(expr) => quote! { #expr },
        None => quote! { ::std::env!(#variable) },
    };
    let name = or(said.name, "CARGO_PKG_NAME");
    let version = or(said.version, "CARGO_PKG_VERSION");
    let summary = or(said.summary, "CARGO_PKG_DESCRIPTION");
    let (verbs, grants, effects) = (said.verbs, said.grants, said.effects);
    let config = match said.config {
        Some(config) => quote! { ::std::option::Option::Some(<#config as ::viworks_sdk::schema::Schema>::schema) },
        None => quote! { ::std::option::Option::None },
    };
    // Once a plugin has said what it is, it need not carry all that it said it from.
    let describe = match std::env::var(DESCRIBED) {
        Ok(file) => quote! { guest::described(::std::include_bytes!(#file)) },
        Err(_) => quote! { guest::describe(&PLUGIN) },
    };
    let rule = match &said.rule {
        Some(rule) => quote! { ::std::option::Option::Some(::viworks_sdk::rule::Entry::of::<#rule>()) },
        None => quote! { ::std::option::Option::None },
    };
    let exports = match &said.rule {
        Some(rule) => exports_of_rule(rule, &describe),
        None => exports_of_verbs(&verbs, &describe),
    };
    Ok(quote! {
        /// This crate's plugin, for its tests and for the component's exports.
        pub static PLUGIN: ::viworks_sdk::Plugin = ::viworks_sdk::Plugin {
            name: #name,
            version: #version,
            summary: #summary,
            verbs: &[#(::viworks_sdk::verb::Entry::of::<#verbs>()),*],
            rule: #rule,
            grants: || ::std::vec![#(::std::convert::Into::into(#grants)),*],
            effects: &[#(::viworks_sdk::Effect::#effects),*],
            config_schema: #config,
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            use ::viworks_sdk::guest;

            // Makes cargo build this crate again when the variable changes.
            const _: ::std::option::Option<&str> = ::std::option_env!(#DESCRIBED);

            struct Component;

            #exports
        };
    })
}

/// The functions of the world `verb-plugin`.
fn exports_of_verbs(verbs: &[Type], describe: &TokenStream) -> TokenStream {
    quote! {
        static CALLS: &[guest::Call] = &[#(guest::Call::of::<#verbs>()),*];

        impl guest::Guest for Component {
            fn describe() -> ::std::string::String {
                #describe
            }
            fn plan(context: guest::Context, args: ::std::string::String) -> guest::PlanAnswer {
                guest::plan(CALLS, context, args)
            }
            fn interpret(
                context: guest::Context,
                args: ::std::string::String,
                outputs: guest::Outputs,
            ) -> guest::InterpretAnswer {
                guest::interpret(CALLS, context, args, outputs)
            }
        }

        guest::export!(Component with_types_in guest::bindings);
    }
}

/// The functions of the world `rule-plugin`.
fn exports_of_rule(rule: &Type, describe: &TokenStream) -> TokenStream {
    quote! {
        impl guest::rules::Guest for Component {
            fn describe() -> ::std::string::String {
                #describe
            }
            fn evaluate(
                config: ::std::string::String,
                now_ms: u64,
                batch: guest::rules::Batch,
            ) -> ::std::vec::Vec<guest::rules::Answer> {
                guest::rules::evaluate(::viworks_sdk::rule::judge_for::<#rule>, config, now_ms, batch)
            }
        }

        guest::rules::export!(Component with_types_in guest::rules::bindings);
    }
}

impl Parse for Said {
    fn parse(input: ParseStream) -> syn::Result<Said> {
        let mut said = Said::default();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            if input.peek(Token![:]) {
                input.parse::<Token![:]>()?;
            } else {
                input.parse::<Token![=]>()?;
            }
            match key.to_string().as_str() {
                "name" => said.name = Some(input.parse()?),
                "version" => said.version = Some(input.parse()?),
                "summary" => said.summary = Some(input.parse()?),
                "config" => said.config = Some(input.parse()?),
                "verbs" => said.verbs = list(input)?,
                "rule" => said.rule = Some(input.parse()?),
                "grants" => said.grants = list(input)?,
                "effects" => said.effects = list(input)?,
                _ => {
                    let rule = "a plugin can say name, version, summary, verbs, grants, effects, config, rule";
                    return Err(syn::Error::new(key.span(), rule));
                }
            }
            if input.is_empty() {
                break;
            }
            input.parse::<Token![,]>()?;
        }
        Ok(said)
    }
}

fn list<T: Parse>(input: ParseStream) -> syn::Result<Vec<T>> {
    let content;
    syn::bracketed!(content in input);
    Ok(Punctuated::<T, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}
