//! What changed between two JSON Schemas, and which step it needs.
//!
//! Callers write arguments and read results: an argument that takes less breaks them, and so does a result
//! that says more kinds of things. What is not followed is taken for the worst.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Change, Step};
use crate::schema::{choices, resolve};

/// Deeper parts of a schema that refers to itself say nothing new.
const DEPTH: usize = 16;
/// Keywords that only people read.
const TEXT: &[&str] = &["description", "title", "examples", "$comment", "deprecated", "readOnly", "writeOnly"];
/// Keywords that say nothing by themselves.
const FRAME: &[&str] = &["$defs", "definitions", "$schema", "$id"];
/// Keywords that allow less when they are greater.
const LEAST: &[&str] = &["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"];
/// Keywords that allow less when they are smaller.
const MOST: &[&str] = &["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"];
/// Keywords that allow less when they are there.
const RULES: &[&str] = &["pattern", "format", "multipleOf", "uniqueItems"];

/// Who writes what a schema is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Callers: arguments, configuration.
    In,
    /// The plugin: results.
    Out,
}

/// What changed from `old` to `new`; `place` says of what.
pub fn changes(old: &Value, new: &Value, direction: Direction, place: &str) -> Vec<Change> {
    let mut walk = Walk { roots: (old, new), direction, place, followed: BTreeSet::new(), found: Vec::new() };
    walk.schema(old, new, "", 0);
    walk.found
}

struct Walk<'a> {
    roots: (&'a Value, &'a Value),
    direction: Direction,
    place: &'a str,
    /// References that were followed together; what changed behind them is told once.
    followed: BTreeSet<(String, String)>,
    found: Vec<Change>,
}

impl Walk<'_> {
    fn say(&mut self, step: Step, at: &str, what: impl Into<String>) {
        let place = if at.is_empty() { self.place.to_owned() } else { format!("{} `{at}`", self.place) };
        self.found.push(Change { step, place, what: what.into(), widens_grant: false });
    }

    fn narrowed(&mut self, at: &str, what: impl Into<String>) {
        let step = if self.direction == Direction::In { Step::Major } else { Step::Minor };
        self.say(step, at, what);
    }

    fn widened(&mut self, at: &str, what: impl Into<String>) {
        let step = if self.direction == Direction::In { Step::Minor } else { Step::Major };
        self.say(step, at, what);
    }

    fn schema(&mut self, old: &Value, new: &Value, at: &str, depth: usize) {
        let reference = |schema: &Value| schema.get("$ref").and_then(Value::as_str).map(str::to_owned);
        let seen = reference(old).zip(reference(new)).is_some_and(|pair| !self.followed.insert(pair));
        if seen || depth > DEPTH {
            return;
        }
        let (old, new) = (resolve(old, self.roots.0), resolve(new, self.roots.1));
        let (Value::Object(old_map), Value::Object(new_map)) = (&old, &new) else {
            if old != new {
                self.say(Step::Major, at, "is another schema altogether");
            }
            return;
        };
        self.properties(old_map, new_map, at, depth);
        self.values(&old, &new, at);
        let keys: BTreeSet<&String> = old_map.keys().chain(new_map.keys()).collect();
        for key in keys.into_iter().map(String::as_str) {
            self.keyword(key, old_map.get(key), new_map.get(key), at, depth);
        }
    }

    fn properties(&mut self, old: &Map<String, Value>, new: &Map<String, Value>, at: &str, depth: usize) {
        let empty = Map::new();
        let all = |map: &Map<String, Value>| map.get("properties").and_then(Value::as_object).cloned();
        let (had, has) = (all(old).unwrap_or_else(|| empty.clone()), all(new).unwrap_or(empty));
        let (was_required, is_required) = (required(old), required(new));
        for (name, schema) in &had {
            let at = under(at, name);
            match has.get(name) {
                None => self.say(Step::Major, &at, "is gone"),
                Some(now) => {
                    match (was_required.contains(name.as_str()), is_required.contains(name.as_str())) {
                        (false, true) => self.narrowed(&at, "is required now"),
                        (true, false) => self.widened(&at, "is optional now"),
                        (true, true) | (false, false) => {}
                    }
                    self.schema(schema, now, &at, depth + 1);
                }
            }
        }
        for name in has.keys().filter(|name| !had.contains_key(*name)) {
            match (self.direction, is_required.contains(name.as_str())) {
                (Direction::In, true) => self.say(Step::Major, &under(at, name), "is new and required"),
                (_, _) => self.say(Step::Minor, &under(at, name), "is new"),
            }
        }
    }

    /// Kinds and lists of values.
    fn values(&mut self, old: &Value, new: &Value, at: &str) {
        let (had, has) = (listed(choices(old)), listed(choices(new)));
        match (had.is_empty(), has.is_empty()) {
            (true, true) => {}
            (true, false) => self.narrowed(at, "takes listed values only"),
            (false, true) => self.widened(at, "takes other values than the listed ones"),
            (false, false) => {
                let quoted = |values: Vec<&String>| values.into_iter().cloned().collect::<Vec<_>>().join(", ");
                let gone: Vec<&String> = had.difference(&has).collect();
                let added: Vec<&String> = has.difference(&had).collect();
                if !gone.is_empty() {
                    self.narrowed(at, format!("is never {} any more", quoted(gone)));
                }
                if !added.is_empty() {
                    self.widened(at, format!("may be {}", quoted(added)));
                }
            }
        }
        let (had, has) = (types(old), types(new));
        if had != has {
            let words = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" or ");
            let what = format!("is {}, was {}", words(&has), words(&had));
            match (has.is_subset(&had), had.is_subset(&has)) {
                (true, _) => self.narrowed(at, what),
                (_, true) => self.widened(at, what),
                (false, false) => self.say(Step::Major, at, what),
            }
        }
    }

    fn keyword(&mut self, key: &str, old: Option<&Value>, new: Option<&Value>, at: &str, depth: usize) {
        // Equal words may refer to parts that are not equal.
        let nested = matches!(key, "items" | "additionalProperties");
        if let (true, Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) = (nested, old, new) {
            let inner = if key == "items" { "[]" } else { "*" };
            return self.schema(old, new, &under(at, inner), depth + 1);
        }
        let ways = matches!(key, "oneOf" | "anyOf" | "allOf" | "prefixItems") && !(listable(old) && listable(new));
        if let (true, Some(Value::Array(old)), Some(Value::Array(new))) = (ways, old, new)
            && old.len() == new.len()
        {
            return old.iter().zip(new).for_each(|(old, new)| self.schema(old, new, at, depth + 1));
        }
        if old == new || FRAME.contains(&key) {
            return;
        }
        let text = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
        let what = format!("`{key}` is {}, was {}", text(new), text(old));
        match key {
            // Looked at as a whole above.
            "properties" | "required" | "type" | "enum" | "const" => {}
            "additionalProperties" if new == Some(&Value::Bool(false)) => {
                self.narrowed(at, "takes no other keys any more")
            }
            "additionalProperties" if old == Some(&Value::Bool(false)) => self.widened(at, "takes other keys too"),
            "oneOf" | "anyOf" if listable(old) && listable(new) => {}
            "default" if self.direction == Direction::In => self.say(Step::Major, at, what),
            "default" => self.say(Step::Patch, at, what),
            _ if LEAST.contains(&key) => self.bound(old, new, at, what, |old, new| new > old),
            _ if MOST.contains(&key) => self.bound(old, new, at, what, |old, new| new < old),
            _ if RULES.contains(&key) => match (old, new) {
                (None, Some(_)) => self.narrowed(at, what),
                (Some(_), None) => self.widened(at, what),
                (_, _) => self.say(Step::Major, at, what),
            },
            _ if TEXT.contains(&key) || key.starts_with("x-") => {
                self.say(Step::Patch, at, format!("`{key}` reads otherwise"))
            }
            _ => self.say(Step::Major, at, format!("`{key}` changed in a way that is not followed here")),
        }
    }

    fn bound(&mut self, old: Option<&Value>, new: Option<&Value>, at: &str, what: String, less: fn(f64, f64) -> bool) {
        match (old.and_then(Value::as_f64), new.and_then(Value::as_f64)) {
            (Some(old), Some(new)) if less(old, new) => self.narrowed(at, what),
            (None, Some(_)) => self.narrowed(at, what),
            (_, _) => self.widened(at, what),
        }
    }
}

fn under(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn required(schema: &Map<String, Value>) -> BTreeSet<&str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn listed(values: Vec<Value>) -> BTreeSet<String> {
    values.iter().map(Value::to_string).collect()
}

/// Whether a list of alternatives is one of single values, or is not there.
fn listable(alternatives: Option<&Value>) -> bool {
    let single = |one: &Value| one.get("const").is_some() || one.get("enum").is_some();
    alternatives.and_then(Value::as_array).is_none_or(|all| all.iter().all(single))
}

/// The kinds a schema takes; a number takes whole ones too.
fn types(schema: &Value) -> BTreeSet<String> {
    let words: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ => vec!["array", "boolean", "integer", "null", "number", "object", "string"],
    };
    let mut types: BTreeSet<String> = words.into_iter().map(str::to_owned).collect();
    if types.contains("number") {
        types.insert("integer".to_owned());
    }
    types
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(direction: Direction, old: Value, new: Value) -> Vec<String> {
        let mut lines: Vec<String> = changes(&old, &new, direction, "args")
            .into_iter()
            .map(|change| format!("{} {}: {}", change.step, change.place, change.what))
            .collect();
        lines.sort();
        lines
    }

    fn property(schema: Value) -> Value {
        json!({ "type": "object", "properties": { "a": schema } })
    }

    #[test]
    fn what_callers_write_breaks_when_it_may_be_less() {
        let told = |old: Value, new: Value| told(Direction::In, property(old), property(new)).join("; ");
        assert_eq!(told(json!({ "type": "integer" }), json!({ "type": "integer" })), "");
        let number = (json!({ "type": "integer" }), json!({ "type": "number" }));
        assert_eq!(told(number.0.clone(), number.1.clone()), "minor args `a`: is integer or number, was integer");
        assert_eq!(told(number.1, number.0), "major args `a`: is integer, was integer or number");
        let text = json!({ "type": "string" });
        assert!(told(text.clone(), json!({ "type": "integer" })).starts_with("major args `a`: is integer, was string"));
        let listed = |values: &[&str]| json!({ "type": "string", "enum": values });
        assert_eq!(told(listed(&["x"]), listed(&["x", "y"])), "minor args `a`: may be \"y\"");
        assert_eq!(told(listed(&["x", "y"]), listed(&["x"])), "major args `a`: is never \"y\" any more");
        assert_eq!(told(text.clone(), listed(&["x"])), "major args `a`: takes listed values only");
        let most = |most: u32| json!({ "type": "string", "maxLength": most });
        assert_eq!(told(most(9), most(8)), "major args `a`: `maxLength` is 8, was 9");
        assert_eq!(told(most(8), text.clone()), "minor args `a`: `maxLength` is none, was 8");
        let least = |least: u32| json!({ "type": "integer", "minimum": least });
        assert_eq!(told(least(1), least(2)), "major args `a`: `minimum` is 2, was 1");
        assert_eq!(told(least(2), least(1)), "minor args `a`: `minimum` is 1, was 2");
        let described = json!({ "type": "string", "description": "Better said." });
        assert_eq!(told(text.clone(), described), "patch args `a`: `description` reads otherwise");
        let default = json!({ "type": "string", "default": "x" });
        assert_eq!(told(text.clone(), default), "major args `a`: `default` is \"x\", was none");
        let odd = json!({ "type": "string", "not": { "const": "x" } });
        assert!(told(text, odd).starts_with("major args `a`: `not` changed"));
    }

    #[test]
    fn keys_come_go_and_become_required() {
        let object = |names: &[&str], required: &[&str]| {
            let all: Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
            json!({ "type": "object", "properties": all, "required": required })
        };
        let cases = [
            (object(&["a"], &[]), object(&["a", "b"], &[]), "minor args `b`: is new", "minor args `b`: is new"),
            (
                object(&["a"], &[]),
                object(&["a", "b"], &["b"]),
                "major args `b`: is new and required",
                "minor args `b`: is new",
            ),
            (object(&["a", "b"], &[]), object(&["a"], &[]), "major args `b`: is gone", "major args `b`: is gone"),
            (
                object(&["a"], &[]),
                object(&["a"], &["a"]),
                "major args `a`: is required now",
                "minor args `a`: is required now",
            ),
            (
                object(&["a"], &["a"]),
                object(&["a"], &[]),
                "minor args `a`: is optional now",
                "major args `a`: is optional now",
            ),
        ];
        for (old, new, going_in, coming_out) in cases {
            assert_eq!(told(Direction::In, old.clone(), new.clone()), [going_in]);
            assert_eq!(told(Direction::Out, old, new), [coming_out]);
        }
    }

    #[test]
    fn parts_are_followed_and_loops_end() {
        let list = |least: u32| {
            json!({ "type": "object", "properties": { "all": { "type": "array", "items": { "$ref": "#/$defs/one" } } },
                    "$defs": { "one": { "type": "object", "properties": { "n": { "type": "integer", "minimum": least },
                               "more": { "$ref": "#/$defs/one" } } } } })
        };
        let found = told(Direction::Out, list(1), list(2));
        assert!(
            found[0].contains("`minimum` is 2, was 1") && found.iter().any(|line| line.contains("`all.[].n`")),
            "{found:?}"
        );
        let open = json!({ "type": "object" });
        let closed = json!({ "type": "object", "additionalProperties": false });
        assert_eq!(told(Direction::In, open.clone(), closed.clone()), ["major args: takes no other keys any more"]);
        assert_eq!(told(Direction::In, closed, open), ["minor args: takes other keys too"]);
    }
}
