//! Documents as YAML: block style for people, every text that could be read as something else in quotes.
//!
//! Source: YAML 1.2.2, sections 5.7 (escapes), 7.3 (flow scalars) and 10.3 (the core schema).

use std::fmt::Write as _;

use serde_json::Value;

use super::escape::is_deceptive;

/// The document, with a final line feed.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut text),
        Value::Object(fields) if !fields.is_empty() => mapping(fields, 0, &mut text),
        other => {
            scalar(other, &mut text);
            text.push('\n');
        }
    }
    text
}

type Fields = serde_json::Map<String, Value>;

fn mapping(fields: &Fields, depth: usize, out: &mut String) {
    for (place, (name, value)) in fields.iter().enumerate() {
        // The first field of an item stands beside its dash.
        if place > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        string(name, out);
        out.push(':');
        below(value, depth, out);
    }
}

fn sequence(items: &[Value], depth: usize, out: &mut String) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => mapping(fields, depth + 1, out),
            Value::Array(inner) if !inner.is_empty() => sequence(inner, depth + 1, out),
            other => {
                scalar(other, out);
                out.push('\n');
            }
        }
    }
}

/// The value of a field: on the same line, or below it.
fn below(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            mapping(fields, depth + 1, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            sequence(items, depth, out);
        }
        other => {
            out.push(' ');
            scalar(other, out);
            out.push('\n');
        }
    }
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => string(text, out),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn string(text: &str, out: &mut String) {
    if is_plain(text) {
        return out.push_str(text);
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_deceptive(c) && (c as u32) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if is_deceptive(c) => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Whether it is read as this very text without quotes, by readers of YAML 1.1 too: a word that begins with
/// a letter, is no other spelling of a value, and holds nothing that means something.
fn is_plain(text: &str) -> bool {
    const VALUES: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let quiet = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@ ".contains(c));
    begins && quiet && !text.ends_with(' ') && !VALUES.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use saphyr_parser::{Event, Parser};
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_laid_out_for_people() {
        let value = json!({
            "items": [{"name": "web-01", "labels": {"env": "prod"}, "caps": ["docker", "exec"]}, [1, [2]], []],
            "cursor": null, "none": {}, "n": 1.5, "yes": "no",
        });
        insta::assert_snapshot!(document(&value), @r#"
        cursor: null
        items:
        - caps:
          - docker
          - exec
          labels:
            env: prod
          name: web-01
        - - 1
          - - 2
        - []
        "n": 1.5
        none: {}
        "yes": "no"
        "#);
        assert_eq!(document(&json!([])), "[]\n");
        assert_eq!(document(&json!("plain words")), "plain words\n");
    }

    #[test]
    fn every_text_is_read_again_as_itself_by_somebody_else() {
        let every: String = (0..=0x1_ffff).filter_map(char::from_u32).filter(|c| is_deceptive(*c)).collect();
        for text in [
            "",
            " x",
            "x ",
            "- a",
            "a: b",
            "a #b",
            "#x",
            "12",
            "1e3",
            "0x1F",
            "~",
            "null",
            "Yes",
            "2026-01-01",
            "{a}",
            "a\nb\tc",
            "quote \" back \\",
            "grün 日本 🚀",
            "%x",
            "@x",
            "`x",
            "*x",
            "&x",
            "!x",
            "a,b",
            "plain",
            every.as_str(),
        ] {
            let shown = document(&json!({ "k": text }));
            assert!(!shown.chars().any(is_deceptive), "{shown:?}");
            let scalars: Vec<(String, bool)> = Parser::new_from_str(&shown)
                .filter_map(|event| match event.expect("it is YAML").0 {
                    Event::Scalar(value, style, ..) => {
                        Some((value.to_string(), style == saphyr_parser::ScalarStyle::Plain))
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(scalars.len(), 2, "{shown}");
            assert_eq!(scalars[1].0, text, "{shown}");
        }
    }
}
