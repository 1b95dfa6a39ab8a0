//! The macros of `viworks-sdk`. Use them through that crate: what they write names its items.

mod attributes;
mod choice;
mod literal;
mod plugin;
mod rule;
mod structs;
mod verb;

use proc_macro::TokenStream;

/// Makes a struct with named fields the arguments of a verb: reading from JSON (unknown fields and
/// `null` are refused), and a JSON Schema 2020-12 whose descriptions are the doc comments.
///
/// `#[arg(…)]` on a field takes: `default` or `default = value`, `range = a..=b`, `length = a..=b`,
/// `pattern = "regex"` or a `&str` constant, `one_of("a", "b")`, `items(…)` for the elements of a list or the values of a
/// map, `keys(…)` for the keys of a map, `secret` for text that only the child is to see, `example = "a value"`, `allow_dash`, `name = "json name"`.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// Which containers to list.
/// #[derive(Args)]
/// struct Ps {
///     /// Stopped ones too.
///     #[arg(default)]
///     all: bool,
///     /// At most so many.
///     #[arg(range = 1..=500, default = 100)]
///     limit: u32,
///     /// With these labels.
///     #[arg(default, length = ..=8, items(pattern = "^[a-z.]+$"))]
///     labels: Vec<String>,
/// }
/// ```
#[proc_macro_derive(Args, attributes(arg))]
pub fn derive_args(input: TokenStream) -> TokenStream {
    expand(input, |input| structs::derive(input, structs::Role::Args))
}

/// Makes a struct with named fields a typed result: writing to JSON, a JSON Schema, and lenient
/// reading from what a program printed (unknown fields ignored, `null` means absent).
///
/// `#[output(…)]` on a field takes what `#[arg(…)]` takes, and `from = "ID"` for the name the program
/// prints.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// One container.
/// #[derive(Output)]
/// struct Container {
///     /// Its id.
///     #[output(from = "ID")]
///     id: String,
///     /// Its exit code, once it has ended.
///     exit_code: Option<i32>,
/// }
/// ```
#[proc_macro_derive(Output, attributes(output))]
pub fn derive_output(input: TokenStream) -> TokenStream {
    expand(input, |input| structs::derive(input, structs::Role::Output))
}

/// Makes an enum of unit variants a closed choice of words, snake-cased or `#[choice(name = "…")]`.
/// `.opt("--pull", &self.pull)` writes the word.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// When to pull an image.
/// #[derive(Choice)]
/// enum Pull {
///     Always,
///     #[choice(name = "if_missing")]
///     Missing,
/// }
/// ```
#[proc_macro_derive(Choice, attributes(choice))]
pub fn derive_choice(input: TokenStream) -> TokenStream {
    expand(input, choice::derive)
}

/// Says what a verb is, above its `impl Verb for …`: `name = "docker.ps"`, `effect = Read | Change |
/// Destroy | Host`, and if need be `needs = "docker"`, `idempotent`, `cancel = Clean | LeavesEffects |
/// None`, `timeout = "60s"`, `summary = "…"`, `example = json!({…})`,
/// `golden(args = json!({…}), exit_code = 0, stdout = "…", stderr = "…", result = json!(…))`.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// Since when a machine runs.
/// #[derive(Args)]
/// struct Uptime;
///
/// #[verb(
///     name = "host.uptime",
///     effect = Read,
///     idempotent,
///     timeout = "10s",
///     golden(args = json!({}), stdout = "up 5 min\n", result = json!("up 5 min")),
/// )]
/// impl Verb for Uptime {
///     type Output = String;
///     fn plan(&self, _: &Context) -> Result<Plan> {
///         program("uptime").arg("-p").plan()
///     }
///     fn interpret(&self, out: &Outputs) -> Result<String> {
///         Ok(out.ok()?.text()?.trim().to_owned())
///     }
/// }
/// ```
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

/// Says what a rule is given, above its `impl Rule for …`: `reads("cpu.total", …)`; an `example = json!({ "turns": […] })`
/// or several, which are courses of events with what must be found; and `state_version = 2` once what it remembers
/// has another form.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// When a machine swaps.
/// #[derive(Args)]
/// struct Swap;
///
/// #[rule(reads("swap.used_pct"), example = json!({ "turns": [
///     { "at_s": 0, "readings": [{ "metric": "swap.used_pct", "value": 60 }], "found": { "": "warning" } },
/// ] }))]
/// impl Rule for Swap {
///     fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
///         for reading in agent.readings("swap.used_pct") {
///             watch.above(&reading, &Levels::new(50.0, 90.0));
///         }
///         Ok(())
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn rule(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    rule::attribute(attribute.into(), item.clone())
        .unwrap_or_else(|error| {
            let error = error.into_compile_error();
            quote::quote! { #item #error }
        })
        .into()
}

/// Makes the crate a plugin: `plugin!(verbs: [Run], grants: [allow("*")])`. Also takes `name`,
/// `version` and `summary` (otherwise the package's), `effects` that its plans may raise to, and
/// `config`, a type with `#[derive(Args)]`. A rule is a plugin of its own, `plugin!(rule: Cpu)`, and its own configuration.
///
/// ```
/// # use viworks_sdk::prelude::*;
/// # /// Since when a machine runs.
/// # #[derive(Args)]
/// # struct Uptime;
/// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
/// # impl Verb for Uptime {
/// #     type Output = ();
/// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
/// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
/// # }
/// plugin!(
///     name = "host",
///     version = "1.0.0",
///     summary = "What a machine is",
///     verbs: [Uptime],
///     grants: [allow("uptime").args(["-p"])],
///     effects: [],
/// );
/// ```
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
