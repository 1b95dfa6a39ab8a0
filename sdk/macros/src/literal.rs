//! `json!(…)` made of literals, read at compile time into the text it stands for.

use std::fmt::Write as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree, token_stream::IntoIter};
use syn::{Expr, ExprLit, Lit};

/// The JSON text of `expr` if it is a literal or `json!` of literals.
pub fn json(expr: &Expr) -> Option<String> {
    let mut text = String::new();
    match expr {
        Expr::Lit(ExprLit { lit, .. }) => scalar(lit, &mut text)?,
        Expr::Unary(unary) if matches!(unary.op, syn::UnOp::Neg(_)) => {
            text.push('-');
            let Expr::Lit(ExprLit { lit: lit @ (Lit::Int(_) | Lit::Float(_)), .. }) = &*unary.expr else { return None };
            scalar(lit, &mut text)?;
        }
        Expr::Macro(call) if call.mac.path.is_ident("json") => whole(call.mac.tokens.clone(), &mut text)?,
        _ => return None,
    }
    Some(text)
}

/// Exactly one value.
fn whole(tokens: TokenStream, text: &mut String) -> Option<()> {
    let mut tokens = tokens.into_iter();
    value(&mut tokens, text)?;
    tokens.next().is_none().then_some(())
}

fn value(tokens: &mut IntoIter, text: &mut String) -> Option<()> {
    match tokens.next()? {
        TokenTree::Group(group) => match group.delimiter() {
            Delimiter::Brace => list(group.stream(), true, text),
            Delimiter::Bracket => list(group.stream(), false, text),
            // What a macro was given as one expression.
            Delimiter::None => whole(group.stream(), text),
            Delimiter::Parenthesis => None,
        },
        TokenTree::Ident(word) => {
            let word = word.to_string();
            matches!(word.as_str(), "null" | "true" | "false").then(|| text.push_str(&word))
        }
        TokenTree::Punct(minus) if minus.as_char() == '-' => {
            text.push('-');
            let TokenTree::Literal(number) = tokens.next()? else { return None };
            match Lit::new(number) {
                number @ (Lit::Int(_) | Lit::Float(_)) => scalar(&number, text),
                _ => None,
            }
        }
        TokenTree::Punct(_) => None,
        TokenTree::Literal(literal) => scalar(&Lit::new(literal), text),
    }
}

/// The items between the brackets of a list, or the members between the braces of an object.
fn list(tokens: TokenStream, named: bool, text: &mut String) -> Option<()> {
    let (open, close) = if named { ('{', '}') } else { ('[', ']') };
    text.push(open);
    let mut tokens = tokens.into_iter();
    let mut first = true;
    loop {
        let mut ahead = tokens.clone();
        let Some(next) = ahead.next() else { break };
        if !first {
            text.push(',');
        }
        first = false;
        if named {
            let TokenTree::Literal(name) = next else { return None };
            let Lit::Str(name) = Lit::new(name) else { return None };
            quoted(&name.value(), text);
            if !is_punct(ahead.next(), ':') {
                return None;
            }
            text.push(':');
            tokens = ahead;
        }
        value(&mut tokens, text)?;
        match tokens.next() {
            None => break,
            comma => is_punct(comma, ',').then_some(())?,
        }
    }
    text.push(close);
    Some(())
}

fn is_punct(token: Option<TokenTree>, expected: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == expected)
}

fn scalar(lit: &Lit, text: &mut String) -> Option<()> {
    match lit {
        Lit::Str(string) => quoted(&string.value(), text),
        Lit::Bool(word) => text.push_str(if word.value { "true" } else { "false" }),
        Lit::Int(number) => text.push_str(number.base10_digits()),
        Lit::Float(number) => text.push_str(number.base10_digits()),
        _ => return None,
    }
    Some(())
}

fn quoted(string: &str, text: &mut String) {
    text.push('"');
    for letter in string.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            letter if letter < ' ' => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_become_the_json_they_stand_for() {
        let read = |code: &str| json(&syn::parse_str::<Expr>(code).expect("Rust"));
        for (code, text) in [
            (r#"json!({ "a": [1, -2, 0.5, true, null], "b\"\n": { }, })"#, r#"{"a":[1,-2,0.5,true,null],"b\"\n":{}}"#),
            (r#"json!([])"#, "[]"),
            (r#"json!(7_u8)"#, "7"),
            (r#"json!("\u{1}\\é")"#, "\"\\u0001\\\\é\""),
            ("-7", "-7"),
            ("\"x\"", "\"x\""),
        ] {
            assert_eq!(read(code).as_deref(), Some(text), "{code}");
        }
        for code in ["json!({ \"a\": b })", "json!(-true)", "json!({ a: 1 })", "json!([f(1)])", "other!([])", "x"] {
            assert_eq!(read(code), None, "{code}");
        }
    }
}
