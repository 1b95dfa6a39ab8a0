//! The macros of `viworks-sdk`. Use them through that crate: what they write names its items.

mod attributes;
mod choice;
mod literal;
mod plugin;
mod structs;
mod verb;

use proc_macro::TokenStream;

/// Makes a struct with named fields the arguments of a verb: reading from JSON (unknown fields and
/// `null` are refused), and a JSON Schema 2020-12 whose descriptions are the doc comments.
///
/// `#[arg(…)]` on a field takes: `default` or `default = value`, `range = a..=b`, `length = a..=b`,
/// `pattern = "regex"` or a `&str` constant, `one_of("a", "b")`, `items(…)` for the elements of a list or the values of a
/// map, `keys(…)` for the keys of a map, `example = "a value"`, `allow_dash`, `name = "json name"`.
#[proc_macro_derive(Args, attributes(arg))]
pub fn derive_args(input: TokenStream) -> TokenStream {
    expand(input, |input| structs::derive(input, structs::Role::Args))
}

/// Makes a struct with named fields a typed result: writing to JSON, a JSON Schema, and lenient
/// reading from what a program printed (unknown fields ignored, `null` means absent).
///
/// `#[output(…)]` on a field takes what `#[arg(…)]` takes, and `from = "ID"` for the name the program
/// prints.
#[proc_macro_derive(Output, attributes(output))]
pub fn derive_output(input: TokenStream) -> TokenStream {
    expand(input, |input| structs::derive(input, structs::Role::Output))
}

/// Makes an enum of unit variants a closed choice of words, snake-cased or `#[choice(name = "…")]`.
/// `.opt("--pull", &self.pull)` writes the word.
#[proc_macro_derive(Choice, attributes(choice))]
pub fn derive_choice(input: TokenStream) -> TokenStream {
    expand(input, choice::derive)
}

/// Says what a verb is, above its `impl Verb for …`: `name = "docker.ps"`, `effect = Read | Change |
/// Destroy | Host`, and if need be `needs = "docker"`, `idempotent`, `cancel = Clean | LeavesEffects |
/// None`, `timeout = "60s"`, `summary = "…"`, `example = json!({…})`,
/// `golden(args = json!({…}), exit_code = 0, stdout = "…", stderr = "…", result = json!(…))`.
#[proc_macro_attribute]
pub fn verb(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    verb::attribute(attribute.into(), item.clone())
        .unwrap_or_else(|error| {
            let error = error.into_compile_error();
            quote::quote! { #item #error }
        })
        .into()
}

/// Makes the crate a plugin: `plugin!(verbs: [Run], grants: [allow("*")])`. Also takes `name`,
/// `version` and `summary` (otherwise the package's), `effects` that its plans may raise to, and
/// `config`, a type with `#[derive(Args)]`.
#[proc_macro]
pub fn plugin(input: TokenStream) -> TokenStream {
    plugin::expand(input.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(
    input: TokenStream,
    derive: impl FnOnce(syn::DeriveInput) -> syn::Result<proc_macro2::TokenStream>,
) -> TokenStream {
    syn::parse(input).and_then(derive).unwrap_or_else(syn::Error::into_compile_error).into()
}
