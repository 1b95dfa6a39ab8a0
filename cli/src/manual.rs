//! A verb's manual page, made from what its plugin says of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use api::verb::Verb;
use serde_json::Value;

use crate::output::{escape, moment, table};
use crate::schema::{Flag, Property, Shape, command_line, flags, properties, quote};

/// Columns that prose is broken at.
const WIDTH: usize = 100;
/// Levels of a result that are shown.
const DEPTH: usize = 4;

/// The page. `reserved` are the long flags of `viworks run`.
pub fn page(verb: &Verb, reserved: &BTreeSet<String>) -> String {
    let flags = flags(&verb.args_schema, reserved);
    let mut text = format!("{} - {}\n\n", escape::line(&verb.name), escape::line(&verb.summary));
    text.push_str("USAGE\n");
    prose(&mut text, 2, &usage(verb, &flags));
    text.push('\n');
    text.push_str(&facts(verb));
    if let Some(more) = rest_of_description(verb) {
        text.push_str("\nDESCRIPTION\n");
        prose(&mut text, 2, &more);
    }
    text.push_str("\nARGUMENTS\n");
    let all = properties(&verb.args_schema);
    if all.is_empty() {
        text.push_str("  none\n");
    }
    for property in &all {
        argument(&mut text, property, flags.iter().find(|flag| flag.property.name == property.name), &verb.args_schema);
    }
    text.push_str(
        "\n  All of them, and what no flag can say: --args JSON, --args @FILE, --args - for standard input\n",
    );
    result(&mut text, &verb.result_schema);
    if !verb.examples.is_empty() {
        text.push_str("\nEXAMPLES\n");
    }
    for example in &verb.examples {
        let words: String = command_line(&flags, example).iter().map(|word| format!(" {}", quote(word))).collect();
        let _ = writeln!(text, "  {}", escape::line(&format!("viworks run {} -a NAME{words}", verb.name)));
    }
    text
}

/// `viworks run docker.run WHO --image TEXT [FLAGS]`.
fn usage(verb: &Verb, flags: &[Flag]) -> String {
    let required = flags.iter().filter(|flag| flag.property.required);
    let words: String = required.map(|flag| format!(" --{} <{}>", flag.long, flag.property.shape)).collect();
    let more = if flags.iter().all(|flag| flag.property.required) { "" } else { " [FLAGS]" };
    format!("viworks run {} WHO{words}{more}", verb.name)
}

fn facts(verb: &Verb) -> String {
    let effect = match verb.effect.as_str() {
        "read" => "read: changes nothing",
        "change" => "change: changes something; a plan may raise this",
        "destroy" => "destroy: takes something away that does not come back",
        "host" => "host: whoever may run it owns the machine",
        other => other,
    };
    let repeat = if verb.idempotent { "twice is the same as once" } else { "twice is not the same as once" };
    let cancel = match verb.cancel.as_str() {
        "clean" => "leaves nothing behind",
        "leaves_effects" => "may leave half of it done",
        "none" => "is not possible once it runs",
        other => other,
    };
    let timeout = moment::length(Duration::from_millis(verb.default_timeout_ms));
    table::card(&[
        ("effect", effect.to_owned()),
        ("running it", repeat.to_owned()),
        ("cancelling it", cancel.to_owned()),
        ("timeout", format!("{timeout} unless --timeout says otherwise")),
        ("needs", verb.needs.clone().unwrap_or_else(|| "nothing special".to_owned())),
        ("plugin", format!("{} {} ({})", verb.plugin, verb.plugin_version, verb.plugin_digest)),
    ])
}

/// What the arguments' description says beyond the summary.
fn rest_of_description(verb: &Verb) -> Option<String> {
    let all = verb.args_schema.get("description")?.as_str()?;
    let (_, rest) = all.split_once("\n\n")?;
    Some(rest.to_owned()).filter(|rest| !rest.trim().is_empty())
}

/// One argument: its flag, what it is for, its rules, and its fields if it has any.
fn argument(text: &mut String, property: &Property, flag: Option<&Flag>, root: &Value) {
    let repeated = matches!(property.shape, Shape::List(_) | Shape::Map(_));
    let kind = match &property.shape {
        // The flag is repeated, so one word is one item.
        Shape::List(item) => item.to_string(),
        Shape::Map(value) => format!("name={value}"),
        shape => shape.to_string(),
    };
    let mut head = match flag {
        Some(flag) if property.shape == Shape::Boolean => format!("--{}[=true|false]", flag.long),
        Some(flag) => format!("--{} <{kind}>", flag.long),
        None => format!("--args {{\"{}\": <{kind}>}}", property.name),
    };
    let words = [(property.required, "required"), (repeated && flag.is_some(), "may be repeated")];
    let words: Vec<&str> = words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
    if !words.is_empty() {
        let _ = write!(head, "  {}", words.join(", "));
    }
    let _ = writeln!(text, "  {}", escape::line(&head));
    prose(text, 6, &property.description);
    prose(text, 6, &property.rules().join("; "));
    let members = property.members(root);
    if !members.is_empty() {
        prose(text, 6, "As name=value,name=value or as JSON, with the fields:");
        for member in &members {
            field(text, 8, member);
        }
    }
}

fn result(text: &mut String, schema: &Value) {
    let results = properties(schema);
    let listed = schema.get("type").and_then(Value::as_str) == Some("array");
    let items = Property::items(schema);
    match (results.is_empty(), items.is_empty()) {
        (false, _) => {
            text.push_str("\nRESULT\n");
            tree(text, &results, schema, 1);
        }
        (true, false) => {
            text.push_str("\nRESULT, a list of\n");
            tree(text, &items, schema, 1);
        }
        (true, true) if listed => text.push_str("\nRESULT\n  a list\n"),
        (true, true) => {}
    }
}

fn tree(text: &mut String, level: &[Property], root: &Value, depth: usize) {
    for property in level {
        field(text, depth * 2, property);
        if depth < DEPTH {
            tree(text, &property.members(root), root, depth + 1);
        }
    }
}

/// `name <kind>  what it is for`, with what follows below it.
fn field(text: &mut String, indent: usize, property: &Property) {
    let head = format!("{:indent$}{} <{}>", "", property.name, property.shape);
    let (head, note) = (escape::line(&head), escape::line(&property.note()));
    let column = 34.max(indent + 24);
    if note.is_empty() {
        let _ = writeln!(text, "{head}");
        return;
    }
    let mut first = format!("{head:<column$}  ");
    for (number, line) in wrap(&note, WIDTH.saturating_sub(column + 2).max(40)).iter().enumerate() {
        if number > 0 {
            first = " ".repeat(column + 2);
        }
        let _ = writeln!(text, "{first}{line}");
    }
}

/// Paragraphs, broken at [`WIDTH`].
fn prose(text: &mut String, indent: usize, paragraph: &str) {
    for line in wrap(&escape::line(&paragraph.split_whitespace().collect::<Vec<_>>().join(" ")), WIDTH - indent) {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

/// Lines of at most `width` characters, unless a single word is longer.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verb(name: &str, args_schema: Value, result_schema: Value, examples: Vec<Value>) -> Verb {
        Verb {
            name: name.into(),
            summary: "Creates a container and starts it.".into(),
            effect: "change".into(),
            idempotent: false,
            cancel: "leaves_effects".into(),
            default_timeout_ms: 30_000,
            needs: Some("docker".into()),
            plugin: "docker".into(),
            plugin_version: "1.2.0".into(),
            plugin_digest: "ab12".into(),
            args_schema,
            result_schema,
            examples,
        }
    }

    #[test]
    fn a_verb_has_a_manual_page() {
        let args = json!({
            "type": "object", "required": ["image"],
            "description": "Creates a container and starts it.\n\nThe image is pulled\nfirst, if need be.",
            "properties": {
                "image": {"type": "string", "description": "The image.", "minLength": 1, "maxLength": 512, "pattern": "^[a-z0-9]+$", "examples": ["nginx:1.27"]},
                "all": {"type": "boolean", "description": "Everything.", "default": false},
                "detach": {"type": "boolean", "description": "Leave it running.", "default": true},
                "cpus": {"type": "number", "minimum": 0.5, "maximum": 4096.0, "examples": [1.5]},
                "pull": {"enum": ["always", "missing"], "default": "missing", "description": "When to pull."},
                "env": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 32768},
                        "propertyNames": {"pattern": "^[A-Z]+$"}, "maxProperties": 100, "default": {}, "examples": [{"TZ": "UTC"}],
                        "description": "Environment variables. They are visible to all who may see command lines of the machine or inspect the container, so no place for secrets."},
                "ports": {"type": "array", "items": {"type": "string", "maxLength": 128}, "default": [], "examples": [["8080:80"]],
                          "description": "Ports to publish, as `[port:]container port`."},
                "healthcheck": {"type": "object", "description": "How docker checks whether it is well.", "required": ["command"], "properties": {
                    "command": {"type": "string", "description": "A command that exits with 0 when it is."},
                    "interval": {"type": "string", "description": "Time between checks.", "pattern": "^[0-9]+s$"},
                }},
                "not a flag": {"type": "integer"},
            },
        });
        let result = json!({"type": "object", "properties": {
            "containers": {"type": "array", "items": {"$ref": "#/$defs/container"}, "description": "One for each."},
        }, "$defs": {"container": {"type": "object", "properties": {
            "id": {"type": "string", "description": "Its id."}, "state": {"enum": ["running", "exited"]}}}}});
        let examples = vec![
            json!({"image": "nginx"}),
            json!({"image": "nginx", "all": true, "env": {"A": "1 2"}, "ports": ["8080:80"],
                   "healthcheck": {"command": "curl -f a", "interval": "30s"}}),
        ];
        let reserved = ["all".to_owned(), "detach".to_owned()].into();
        insta::assert_snapshot!(page(&verb("docker.run", args, result, examples), &reserved));
    }

    #[test]
    fn a_verb_that_lists_shows_what_an_item_is() {
        let result = json!({"type": "array", "items": {"type": "object", "properties": {"id": {"type": "string"}}}});
        let text = page(&verb("docker.ps", json!({"type": "object"}), result, vec![json!({})]), &BTreeSet::new());
        assert!(text.contains("RESULT, a list of\n  id <text>\n"), "{text}");
        assert!(text.contains("ARGUMENTS\n  none\n"), "{text}");
        assert!(text.contains("viworks run docker.ps -a NAME\n"), "{text}");
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("indivisible word", 4), ["indivisible", "word"]);
        assert!(wrap("", 10).is_empty());
    }
}
