//! Flags of `viworks run VERB`, made from the verb's argument schema.

use std::collections::BTreeSet;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches};
use serde_json::{Map, Value};

use super::property::{Property, properties};
use super::shape::{Shape, bare};
use crate::output::escape;

/// One property as a flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    /// The long flag, without dashes.
    pub long: String,
    /// What it sets.
    pub property: Property,
}

/// The flags of a schema. `reserved` are the long flags of `run` itself: a property of such a name
/// becomes `--arg-NAME`, and every other one may be called so too. A property whose name cannot be
/// a flag is left to `--args`.
pub fn flags(schema: &Value, reserved: &BTreeSet<String>) -> Vec<Flag> {
    let mut taken = reserved.clone();
    let mut found = Vec::new();
    for property in properties(schema) {
        let name = &property.name;
        let speakable = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !speakable {
            continue;
        }
        let plain = name.replace('_', "-");
        let long = if taken.contains(&plain) { format!("arg-{name}") } else { plain };
        if taken.insert(long.clone()) {
            found.push(Flag { long, property });
        }
    }
    found
}

impl Flag {
    /// The identifier of its clap argument, which no argument of `run` has.
    fn id(&self) -> String {
        format!("verb:{}", self.property.name)
    }

    /// As an argument of clap. `others` are the long flags that are taken.
    pub fn arg(&self, heading: &str, others: &BTreeSet<String>) -> Arg {
        let mut arg = Arg::new(self.id())
            .long(self.long.clone())
            .help(escape::line(&self.property.hint()))
            .help_heading(heading.to_owned())
            .hide_possible_values(true);
        let alias = format!("arg-{}", self.property.name);
        if alias != self.long && !others.contains(&alias) {
            arg = arg.alias(alias);
        }
        let word = match &self.property.shape {
            Shape::List(item) => item,
            shape => shape,
        };
        arg = arg.value_name(match word {
            Shape::Text => "TEXT",
            Shape::Integer => "INTEGER",
            Shape::Number => "NUMBER",
            Shape::Boolean => "BOOL",
            Shape::Map(_) => "NAME=VALUE",
            Shape::Object(_) => "NAME=VALUE,...",
            Shape::List(_) | Shape::Json => "JSON",
        });
        arg = match &self.property.shape {
            Shape::Boolean => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(["true", "false"]),
            Shape::List(_) | Shape::Map(_) => arg.action(ArgAction::Append).allow_hyphen_values(true),
            Shape::Text | Shape::Integer | Shape::Number | Shape::Object(_) | Shape::Json => {
                arg.action(ArgAction::Set).allow_hyphen_values(true)
            }
        };
        if !self.property.choices.is_empty() {
            arg = arg.value_parser(PossibleValuesParser::new(self.property.choices.iter().map(bare)));
        }
        arg
    }

    /// Puts what the command line says into `args`.
    ///
    /// # Errors
    /// In words, naming the flag, when a word is no value of the property's kind.
    pub fn collect(&self, matches: &ArgMatches, args: &mut Map<String, Value>) -> Result<(), String> {
        let Some(words) = matches.get_many::<String>(&self.id()) else { return Ok(()) };
        let words: Vec<&String> = words.collect();
        let refused = |word: &str, why: String| format!("--{} {word}: {why}", self.long);
        let read = |shape: &Shape, word: &str| match self.choice(word) {
            Some(choice) => Ok(choice),
            None => shape.read(word).map_err(|why| refused(word, why)),
        };
        let value = match &self.property.shape {
            Shape::List(item) => {
                Value::Array(words.into_iter().map(|word| read(item, word)).collect::<Result<_, _>>()?)
            }
            Shape::Map(value) => {
                let mut map = Map::new();
                for word in words {
                    let (name, text) =
                        word.split_once('=').ok_or_else(|| refused(word, "it takes NAME=VALUE".to_owned()))?;
                    map.insert(name.to_owned(), read(value, text)?);
                }
                Value::Object(map)
            }
            shape => match words.last() {
                Some(word) => read(shape, word)?,
                None => return Ok(()),
            },
        };
        args.insert(self.property.name.clone(), value);
        Ok(())
    }

    fn choice(&self, word: &str) -> Option<Value> {
        self.property.choices.iter().find(|choice| bare(choice) == word).cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "program": {"type": "string"},
                "max_lines": {"type": "integer"},
                "ratio": {"type": "number"},
                "all": {"type": "boolean"},
                "follow": {"type": "boolean"},
                "level": {"enum": ["low", "high"]},
                "size": {"type": "integer", "enum": [1, 2, 4]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "ports": {"type": "array", "items": {"type": "integer"}},
                "mounts": {"type": "array", "items": {"type": "object"}},
                "env": {"type": "object", "additionalProperties": {"type": "string"}},
                "filter": {"type": "object", "properties": {"a": {}}},
                "check": {"type": "object", "properties": {
                    "command": {"type": "string"}, "interval": {"type": "string"}, "retries": {"type": "integer"},
                }},
                "disks": {"type": "array", "items": {"type": "object", "properties": {
                    "name": {"type": "string"}, "size": {"type": "integer"},
                }}},
                "max-lines": {"type": "integer"},
                "not a flag": {"type": "string"},
                "site": {"type": "string"},
            }
        })
    }

    fn reserved() -> BTreeSet<String> {
        ["all", "site", "help", "args"].into_iter().map(str::to_owned).collect()
    }

    fn parse(words: &[&str]) -> Result<Value, String> {
        let flags = flags(&schema(), &reserved());
        let taken: BTreeSet<String> = flags.iter().map(|flag| flag.long.clone()).chain(reserved()).collect();
        let command = clap::Command::new("run").args(flags.iter().map(|flag| flag.arg("Arguments", &taken)));
        let matches = command
            .try_get_matches_from(std::iter::once(&"run").chain(words))
            .map_err(|error| error.kind().to_string())?;
        let mut args = Map::new();
        flags.iter().try_for_each(|flag| flag.collect(&matches, &mut args))?;
        Ok(Value::Object(args))
    }

    #[test]
    fn flags_are_named_after_properties_and_give_way_to_those_of_run() {
        let flags = flags(&schema(), &reserved());
        let named: Vec<(&str, &str)> =
            flags.iter().map(|flag| (flag.property.name.as_str(), flag.long.as_str())).collect();
        assert!(named.contains(&("all", "arg-all")), "{named:?}");
        assert!(named.contains(&("site", "arg-site")), "{named:?}");
        assert!(named.contains(&("follow", "follow")), "{named:?}");
        assert!(named.contains(&("max-lines", "max-lines")), "{named:?}");
        assert!(named.contains(&("max_lines", "arg-max_lines")), "{named:?}");
        assert!(!named.iter().any(|(name, _)| *name == "not a flag"), "{named:?}");
    }

    #[test]
    fn words_become_values_of_the_schemas_kind() {
        for (words, args) in [
            (&["--program", "ls"][..], json!({"program": "ls"})),
            (&["--program=-x"], json!({"program": "-x"})),
            (&["--max-lines", "12"], json!({"max-lines": 12})),
            (&["--max-lines", "-12"], json!({"max-lines": -12})),
            (&["--arg-max_lines", "7"], json!({"max_lines": 7})),
            (&["--arg-max-lines", "7"], json!({"max-lines": 7})),
            (&["--ratio", "0.5"], json!({"ratio": 0.5})),
            (&["--ratio", "2"], json!({"ratio": 2})),
            (&["--follow"], json!({"follow": true})),
            (&["--follow=false"], json!({"follow": false})),
            (&["--arg-all"], json!({"all": true})),
            (&["--arg-follow"], json!({"follow": true})),
            (&["--level", "high"], json!({"level": "high"})),
            (&["--size", "4"], json!({"size": 4})),
            (&["--tags", "a,b", "--tags", "c"], json!({"tags": ["a,b", "c"]})),
            (&["--ports", "80", "--ports", "443"], json!({"ports": [80, 443]})),
            (&["--mounts", "{\"src\":\"/a\"}"], json!({"mounts": [{"src": "/a"}]})),
            (&["--env", "A=1", "--env", "B=x=y"], json!({"env": {"A": "1", "B": "x=y"}})),
            (&["--filter", "{\"a\":1}"], json!({"filter": {"a": 1}})),
            (&["--filter", "a=1"], json!({"filter": {"a": 1}})),
            (
                &["--check", "command=curl -f a,b,interval=30s,retries=3"],
                json!({"check": {"command": "curl -f a,b", "interval": "30s", "retries": 3}}),
            ),
            (
                &["--disks", "name=a,size=1", "--disks", "{\"name\":\"b\"}"],
                json!({"disks": [{"name": "a", "size": 1}, {"name": "b"}]}),
            ),
            (&["--arg-site", "eu"], json!({"site": "eu"})),
            (&[], json!({})),
        ] {
            assert_eq!(parse(words), Ok(args), "{words:?}");
        }
    }

    #[test]
    fn words_of_another_kind_are_refused_by_name() {
        for (words, part) in [
            (&["--max-lines", "many"][..], "--max-lines many: it takes a whole number"),
            (&["--max-lines", "1.5"], "whole number"),
            (&["--ratio", "half"], "it takes a number"),
            (&["--ports", "http"], "--ports http"),
            (&["--env", "A"], "it takes NAME=VALUE"),
            (&["--filter", "{"], "it takes JSON"),
            (&["--check", "30s"], "it takes JSON, or command=…,interval=…,retries=…"),
            (&["--check", "retries=often"], "retries: it takes a whole number"),
            (&["--level", "middle"], "isn't valid"),
            (&["--follow=maybe"], "isn't valid"),
            (&["--all"], "unexpected argument"),
        ] {
            let refused = parse(words).unwrap_err();
            assert!(refused.contains(part), "{words:?}: {refused}");
        }
    }
}
