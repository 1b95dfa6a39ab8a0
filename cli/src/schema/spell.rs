//! Values and words as they are typed in a shell.

use serde_json::Value;

use super::flag::Flag;
use super::shape::{Shape, bare};

/// A word as a POSIX shell reads it back.
pub fn quote(word: &str) -> String {
    let plain = !word.is_empty()
        && !word.starts_with('~')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:=,@%+^".contains(c));
    if plain {
        return word.to_owned();
    }
    if word.chars().any(char::is_control) {
        // Quotes keep control characters, but pasting them does not.
        let mut out = String::from("$'");
        for c in word.chars() {
            match c {
                '\'' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        return out + "'";
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The words of `viworks run` that give `args`: flags where there are any, `--args` for the rest.
pub fn command_line(flags: &[Flag], args: &Value) -> Vec<String> {
    let Value::Object(map) = args else { return vec!["--args".to_owned(), args.to_string()] };
    let mut words = Vec::new();
    let mut rest = map.clone();
    for flag in flags {
        let Some(value) = map.get(&flag.property.name) else { continue };
        let Some(spelt) = spell(flag, value) else { continue };
        rest.remove(&flag.property.name);
        words.extend(spelt);
    }
    if !rest.is_empty() {
        words.extend(["--args".to_owned(), Value::Object(rest).to_string()]);
    }
    words
}

/// The words of one flag; `None` when a flag cannot say this value.
fn spell(flag: &Flag, value: &Value) -> Option<Vec<String>> {
    let long = format!("--{}", flag.long);
    let word = |shape: &Shape, value: &Value| match flag.property.choices.contains(value) {
        true => Some(bare(value)),
        false => shape.spell(value),
    };
    match (&flag.property.shape, value) {
        (Shape::Boolean, Value::Bool(true)) => Some(vec![long]),
        (Shape::Boolean, Value::Bool(false)) => Some(vec![format!("{long}=false")]),
        // No words would mean no list at all.
        (Shape::List(_), Value::Array(items)) if items.is_empty() => None,
        (Shape::Map(_), Value::Object(entries)) if entries.is_empty() => None,
        (Shape::List(item), Value::Array(items)) => {
            let mut words = Vec::new();
            for value in items {
                words.extend([long.clone(), word(item, value)?]);
            }
            Some(words)
        }
        (Shape::Map(shape), Value::Object(entries)) => {
            let mut words = Vec::new();
            for (name, value) in entries {
                if name.contains('=') {
                    return None;
                }
                words.extend([long.clone(), format!("{name}={}", word(shape, value)?)]);
            }
            Some(words)
        }
        (shape, value) => Some(vec![long, word(shape, value)?]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::flag::flags;
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in
            ["plain", "", "a b", "it's", "$HOME", "~x", "a\nb", "\u{1b}[2J", "*", "{\"a\":1}", "tab\there", "ümlaut"]
        {
            let output = std::process::Command::new("bash")
                .args(["-c", &format!("printf %s {}", quote(word))])
                .env("LC_ALL", "C.UTF-8")
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{}", quote(word));
        }
    }

    #[test]
    fn arguments_become_flags_and_what_cannot_stays_json() {
        let schema = json!({"properties": {
            "name": {"type": "string"}, "count": {"type": "integer"}, "all": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}}, "env": {"additionalProperties": {"type": "string"}, "type": "object"},
            "check": {"type": "object", "properties": {"command": {"type": "string"}, "args": {"type": "array"}}},
        }});
        let flags = flags(&schema, &BTreeSet::new());
        for (args, words) in [
            (json!({"name": "a b", "all": true}), "--all --name a b"),
            (json!({"all": false, "count": 3}), "--all=false --count 3"),
            (json!({"tags": ["x", "y"], "env": {"A": "1"}}), "--env A=1 --tags x --tags y"),
            (json!({"tags": []}), "--args {\"tags\":[]}"),
            (json!({"check": {"command": "a,b"}}), "--check command=a,b"),
            (json!({"check": {"command": "a,args=b"}}), "--check {\"command\":\"a,args=b\"}"),
            (json!({"check": {"args": [1]}}), "--check args=[1]"),
            (json!({"check": {"args": [1, 2], "other": 1}}), "--check {\"args\":[1,2],\"other\":1}"),
            (json!({"name": 3, "other": null}), "--args {\"name\":3,\"other\":null}"),
        ] {
            assert_eq!(command_line(&flags, &args).join(" "), words);
        }
    }
}
