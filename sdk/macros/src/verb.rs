//! `#[verb(…)]`: a verb's facts, beside its `impl Verb`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, Parser};
use syn::{Expr, Ident, ItemImpl, Lit, LitInt, LitStr};

use crate::literal;

#[derive(Default)]
struct Facts {
    name: Option<LitStr>,
    effect: Option<Ident>,
    summary: Option<LitStr>,
    needs: Option<LitStr>,
    idempotent: bool,
    cancel: Option<Ident>,
    timeout_ms: Option<u64>,
    examples: Vec<TokenStream>,
}

/// Milliseconds when an author names no timeout.
const DEFAULT_TIMEOUT_MS: u64 = 60_000;

pub fn attribute(attribute: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let block: ItemImpl = syn::parse2(item)?;
    if block.trait_.is_none() {
        return Err(syn::Error::new_spanned(&block.self_ty, "#[verb] stands above `impl Verb for …`"));
    }
    let mut facts = Facts::default();
    let read = syn::meta::parser(|meta| facts.one(&meta));
    read.parse2(attribute)?;
    let owner = &block.self_ty;
    let name = facts.name.ok_or_else(|| syn::Error::new_spanned(owner, "a verb has a name: name = \"docker.ps\""))?;
    if !is_verb_name(&name.value()) {
        let rule = "a verb's name is dotted lower-case words, each starting with a letter, at most 64 bytes: docker.ps";
        return Err(syn::Error::new_spanned(name, rule));
    }
    let missing = "a verb says what it may change: effect = Read, Change, Destroy or Host";
    let effect = facts.effect.ok_or_else(|| syn::Error::new_spanned(owner, missing))?;
    one_of(&effect, &["Read", "Change", "Destroy", "Host"])?;
    let cancel = facts.cancel.unwrap_or_else(|| Ident::new("LeavesEffects", proc_macro2::Span::call_site()));
    one_of(&cancel, &["Clean", "LeavesEffects", "None"])?;
    let option = |text: Option<LitStr>| match text {
        Some(text) => quote! { ::std::option::Option::Some(#text) },
        None => quote! { ::std::option::Option::None },
    };
    let (summary, needs) = (option(facts.summary), option(facts.needs));
    let idempotent = facts.idempotent;
    let timeout_ms = facts.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
    let examples = facts.examples;
    Ok(quote! {
        #block
        impl ::viworks_sdk::verb::Described for #owner {
            const FACTS: ::viworks_sdk::verb::Facts = ::viworks_sdk::verb::Facts {
                name: #name,
                effect: ::viworks_sdk::Effect::#effect,
                summary: #summary,
                needs: #needs,
                idempotent: #idempotent,
                cancel: ::viworks_sdk::verb::Cancel::#cancel,
                timeout_ms: #timeout_ms,
            };
            const EXAMPLES: &'static [::viworks_sdk::verb::Shown] = &[#(#examples),*];
        }
    })
}

impl Facts {
    fn one(&mut self, meta: &syn::meta::ParseNestedMeta) -> syn::Result<()> {
        if meta.path.is_ident("name") {
            self.name = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("effect") {
            self.effect = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("summary") {
            self.summary = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("needs") {
            self.needs = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("idempotent") {
            self.idempotent = true;
        } else if meta.path.is_ident("cancel") {
            self.cancel = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("timeout") {
            self.timeout_ms = Some(milliseconds(&meta.value()?.parse()?)?);
        } else if meta.path.is_ident("example") {
            let args = value(meta.value()?.parse()?);
            self.examples.push(quote! {
                ::viworks_sdk::verb::Shown { args: #args, golden: ::std::option::Option::None }
            });
        } else if meta.path.is_ident("golden") {
            self.examples.push(golden(meta)?);
        } else {
            let list = "name, effect, summary, needs, idempotent, cancel, timeout, example, golden";
            return Err(meta.error(format!("not something a verb can say; it can say {list}")));
        }
        Ok(())
    }
}

/// `json!(…)` of literals as one text: a component then carries its words instead of the code that
/// would put them together.
pub(crate) fn value(expr: Expr) -> TokenStream {
    match literal::json(&expr) {
        Some(text) => quote! { ::viworks_sdk::verb::Json::Text(#text) },
        None => quote! { ::viworks_sdk::verb::Json::Made(|| #expr) },
    }
}

fn golden(meta: &syn::meta::ParseNestedMeta) -> syn::Result<TokenStream> {
    let (mut args, mut result): (Option<TokenStream>, Option<TokenStream>) = (None, None);
    let (mut exit_code, mut stdout, mut stderr) = (quote! { 0 }, quote! { "" }, quote! { "" });
    meta.parse_nested_meta(|inner| {
        let said: Expr = inner.value()?.call(Expr::parse)?;
        if inner.path.is_ident("args") {
            args = Some(value(said));
        } else if inner.path.is_ident("result") {
            result = Some(value(said));
        } else if inner.path.is_ident("exit_code") {
            exit_code = quote! { #said };
        } else if inner.path.is_ident("stdout") {
            stdout = quote! { #said };
        } else if inner.path.is_ident("stderr") {
            stderr = quote! { #said };
        } else {
            return Err(inner.error("a golden example can say args, exit_code, stdout, stderr, result"));
        }
        Ok(())
    })?;
    let args = args.ok_or_else(|| meta.error("a golden example has args = json!({…})"))?;
    let result = result.ok_or_else(|| meta.error("a golden example has result = json!(…)"))?;
    Ok(quote! {
        ::viworks_sdk::verb::Shown {
            args: #args,
            golden: ::std::option::Option::Some(::viworks_sdk::verb::Recorded {
                exit_code: #exit_code,
                stdout: #stdout,
                stderr: #stderr,
                result: #result,
            }),
        }
    })
}

fn one_of(word: &Ident, words: &[&str]) -> syn::Result<()> {
    match words.iter().any(|known| word == known) {
        true => Ok(()),
        false => Err(syn::Error::new_spanned(word, format!("write one of {}", words.join(", ")))),
    }
}

/// `60_000` or `"500ms"`, `"60s"`, `"5m"`, `"1h"`.
fn milliseconds(lit: &Lit) -> syn::Result<u64> {
    let found = match lit {
        Lit::Int(number) => LitInt::base10_parse::<u64>(number).ok(),
        Lit::Str(text) => parse_time(&text.value()),
        _ => None,
    };
    let rule = "a timeout is milliseconds, at least 1, or text like \"500ms\", \"60s\", \"5m\", \"1h\"";
    found.filter(|ms| *ms > 0).ok_or_else(|| syn::Error::new_spanned(lit, rule))
}

fn parse_time(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn is_verb_name(text: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|letter: char| letter.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    };
    text.len() <= 64 && text.contains('.') && text.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_carry_their_unit() {
        for (text, ms) in [("500ms", Some(500)), ("60s", Some(60_000)), ("5m", Some(300_000)), ("1h", Some(3_600_000))]
        {
            assert_eq!(parse_time(text), ms, "{text}");
        }
        for bad in ["", "60", "s", "1d", "-1s", "99999999999999999999s"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_verb_without_name_or_effect_does_not_compile() {
        let block = quote! { impl Verb for X {} };
        let error = |said: TokenStream| attribute(said, block.clone()).map(|_| ()).expect_err("refused").to_string();
        assert!(error(quote! { effect = Read }).contains("a verb has a name"));
        assert!(error(quote! { name = "x", effect = Read }).contains("dotted lower-case words"));
        assert!(error(quote! { name = "x.y" }).contains("effect = Read"));
        assert!(error(quote! { name = "x.y", effect = Write }).contains("write one of Read"));
        assert!(error(quote! { name = "x.y", effect = Read, colour = "red" }).contains("not something a verb can say"));
        assert!(error(quote! { name = "x.y", effect = Read, timeout = "1d" }).contains("a timeout is"));
    }
}
