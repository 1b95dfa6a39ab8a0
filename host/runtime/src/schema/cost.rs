//! How much work one check against a schema can be, found without making one.
//!
//! A schema of two kilobytes whose parts refer to each other twice on every level costs 2ⁿ steps to
//! check. This walks the schema as a checker would, down the worst path through a value of the
//! greatest depth allowed, and counts the parts that are looked at; what was counted once is remembered,
//! so that counting itself is cheap. Parts that apply to different members of one value (`properties`)
//! count once, as the largest; parts that apply to the same value (`allOf`, `$ref`, …) add up.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{MAX_DEPTH, SchemaFault};
use crate::refusal::Code;

/// Most parts of a schema that one path through a value may meet.
const MAX_COST: u64 = 10_000;
/// Longest chain of parts that apply inside one another; a checker's stack grows with it.
const MAX_CHAIN: usize = 512;
/// Most regular expressions in one schema.
const MAX_PATTERNS: usize = 200;
/// The only dialect.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keywords whose value is a schema that applies to the same value.
const SAME: &[&str] = &["not", "if", "then", "else"];
/// Keywords whose value is a list of schemas that apply to the same value.
const SAME_LIST: &[&str] = &["allOf", "anyOf", "oneOf"];
/// Keywords whose value maps names to schemas that apply to the same value.
const SAME_MAP: &[&str] = &["dependentSchemas", "dependencies"];
/// Keywords whose value is a schema that applies to every member of an object.
const MEMBER: &[&str] = &["additionalProperties", "unevaluatedProperties", "propertyNames"];
/// Keywords whose value is a schema that applies to every item of an array.
const ITEM: &[&str] = &["items", "additionalItems", "contains", "unevaluatedItems", "contentSchema"];
/// Keywords whose value holds schemas that apply to nothing by themselves.
const DEFINITIONS: &[&str] = &["$defs", "definitions"];

/// Refuses schemas that reach out, loop, or cost too much.
pub(super) fn check(schema: &Value) -> Result<(), SchemaFault> {
    let mut survey = Survey { anchors: HashMap::new(), patterns: 0 };
    survey.visit(schema, "")?;
    let mut walk = Walk { root: schema, anchors: survey.anchors, known: HashMap::new(), open: Vec::new() };
    let (cost, _) = walk.cost(schema, MAX_DEPTH)?;
    if cost > MAX_COST {
        return Err(bomb());
    }
    Ok(())
}

fn bomb() -> SchemaFault {
    SchemaFault::new(Code::SchemaBomb, format!("one check could look at more than {MAX_COST} parts of the schema"))
}

/// First pass: every part once, for what must not stand in any of them.
struct Survey<'a> {
    anchors: HashMap<&'a str, &'a Value>,
    patterns: usize,
}

impl<'a> Survey<'a> {
    fn visit(&mut self, schema: &'a Value, at: &str) -> Result<(), SchemaFault> {
        let Value::Object(members) = schema else { return Ok(()) };
        let fault = |code, key: &str, message: String| Err(SchemaFault::new(code, format!("`{at}/{key}`: {message}")));
        for (key, value) in members {
            match (key.as_str(), value.as_str()) {
                ("$schema", Some(draft)) if draft.trim_end_matches('#') != DRAFT => {
                    return fault(Code::SchemaDraft, key, format!("dialect `{draft}`"));
                }
                ("$dynamicRef" | "$recursiveRef", _) => {
                    return fault(
                        Code::SchemaRef,
                        key,
                        "references that depend on the path taken are not supported".into(),
                    );
                }
                ("$id", Some(_)) if !at.is_empty() => {
                    return fault(Code::SchemaRef, key, "only the whole schema may have an `$id`".into());
                }
                ("$ref", Some(target)) if !target.starts_with('#') => {
                    return fault(Code::SchemaRemoteRef, key, format!("refers to `{target}`, outside the schema"));
                }
                ("$anchor" | "$dynamicAnchor", Some(name)) => _ = self.anchors.insert(name, schema),
                ("pattern", Some(_)) => self.patterns += 1,
                ("patternProperties", _) => self.patterns += value.as_object().map_or(0, Map::len),
                _ => {}
            }
        }
        if self.patterns > MAX_PATTERNS {
            let message = format!("more than {MAX_PATTERNS} patterns");
            return Err(SchemaFault::new(Code::SchemaPattern, message));
        }
        for (key, part) in parts(members) {
            self.visit(part, &format!("{at}/{key}"))?;
        }
        Ok(())
    }
}

/// Every schema directly inside one, wherever it applies.
fn parts(members: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    members.iter().flat_map(|(key, value)| {
        let key = key.as_str();
        let (single, list, map) = match key {
            "items" | "dependencies" => (true, true, key == "dependencies"),
            "prefixItems" => (false, true, false),
            "properties" | "patternProperties" => (false, false, true),
            _ => {
                let single = SAME.contains(&key) || MEMBER.contains(&key) || ITEM.contains(&key);
                (single, SAME_LIST.contains(&key), SAME_MAP.contains(&key) || DEFINITIONS.contains(&key))
            }
        };
        let one = (single && !map).then_some(value).into_iter();
        let listed = list.then(|| value.as_array()).flatten().into_iter().flatten();
        let mapped = map.then(|| value.as_object()).flatten().into_iter().flat_map(Map::values);
        one.chain(listed).chain(mapped).map(move |part| (key, part))
    })
}

/// What an instance can be that has members to descend into.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Object,
    Array,
}

/// Parts looked at, and how many of them apply inside one another.
type Cost = (u64, usize);
/// A part of the schema by its address, the kind of value, and how deep the value still goes.
type Key = (*const Value, Kind, usize);

struct Walk<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    known: HashMap<Key, Cost>,
    open: Vec<Key>,
}

impl<'a> Walk<'a> {
    /// The worst cost of a value that is `left` levels deep.
    fn cost(&mut self, schema: &'a Value, left: usize) -> Result<Cost, SchemaFault> {
        let object = self.cost_of(schema, Kind::Object, left)?;
        let array = self.cost_of(schema, Kind::Array, left)?;
        Ok((object.0.max(array.0), object.1.max(array.1)))
    }

    fn cost_of(&mut self, schema: &'a Value, kind: Kind, left: usize) -> Result<Cost, SchemaFault> {
        let Value::Object(members) = schema else { return Ok((1, 1)) };
        let key: Key = (std::ptr::from_ref(schema), kind, left);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        if self.open.contains(&key) {
            return Err(SchemaFault::new(
                Code::SchemaLoop,
                "a `$ref` leads back to itself without descending into the value",
            ));
        }
        if self.open.len() >= MAX_CHAIN {
            return Err(deep());
        }
        self.open.push(key);
        let mut sum = Sum { cost: 1, height: 0 };
        if let Some(target) = members.get("$ref").and_then(Value::as_str) {
            let target = self.target(target)?;
            sum.add(self.cost_of(target, kind, left)?);
        }
        for (name, value) in members {
            for part in same(name, value) {
                sum.add(self.cost_of(part, kind, left)?);
            }
        }
        if left > 0 {
            match kind {
                Kind::Object => {
                    self.descend(members, "properties", Some("patternProperties"), MEMBER, left - 1, &mut sum)?
                }
                Kind::Array => self.descend(members, "prefixItems", None, ITEM, left - 1, &mut sum)?,
            }
        }
        self.open.pop();
        let cost = (sum.cost, sum.height + 1);
        if cost.0 > MAX_COST {
            return Err(bomb());
        }
        if cost.1 + self.open.len() > MAX_CHAIN {
            return Err(deep());
        }
        self.known.insert(key, cost);
        Ok(cost)
    }

    /// Adds what applies one level down: of `alternatives` the largest, of the others all.
    fn descend(
        &mut self,
        members: &'a Map<String, Value>,
        alternatives: &str,
        several: Option<&str>,
        every: &[&str],
        left: usize,
        sum: &mut Sum,
    ) -> Result<(), SchemaFault> {
        let mut largest: Cost = (0, 0);
        for (name, value) in members {
            let is_list = matches!(name.as_str(), "items" | "dependencies") && value.is_array();
            if name == alternatives || is_list {
                let listed = value.as_array().into_iter().flatten();
                for part in listed.chain(value.as_object().into_iter().flat_map(Map::values)) {
                    let cost = self.cost(part, left)?;
                    largest = (largest.0.max(cost.0), largest.1.max(cost.1));
                }
            } else if Some(name.as_str()) == several {
                for part in value.as_object().into_iter().flat_map(Map::values) {
                    sum.add(self.cost(part, left)?);
                }
            } else if every.contains(&name.as_str()) {
                sum.add(self.cost(value, left)?);
            }
        }
        sum.add(largest);
        Ok(())
    }

    /// What `#…` points at.
    fn target(&self, reference: &str) -> Result<&'a Value, SchemaFault> {
        let fragment = unescape(reference.trim_start_matches('#'));
        let found = match fragment.is_empty() || fragment.starts_with('/') {
            true => self.root.pointer(&fragment),
            false => self.anchors.get(fragment.as_str()).copied(),
        };
        found.ok_or_else(|| SchemaFault::new(Code::SchemaRef, format!("`$ref` `{reference}` points at nothing")))
    }
}

fn deep() -> SchemaFault {
    SchemaFault::new(Code::SchemaDepth, format!("more than {MAX_CHAIN} parts apply inside one another"))
}

struct Sum {
    cost: u64,
    height: usize,
}

impl Sum {
    fn add(&mut self, (cost, height): Cost) {
        self.cost = self.cost.saturating_add(cost);
        self.height = self.height.max(height);
    }
}

/// The schemas under a keyword that apply to the same value as the keyword.
fn same<'a>(name: &str, value: &'a Value) -> impl Iterator<Item = &'a Value> {
    let one = SAME.contains(&name).then_some(value).into_iter();
    let listed = SAME_LIST.contains(&name).then(|| value.as_array()).flatten().into_iter().flatten();
    let mapped = SAME_MAP.contains(&name).then(|| value.as_object()).flatten().into_iter().flat_map(Map::values);
    one.chain(listed).chain(mapped)
}

/// Undoes percent-encoding, which a fragment may use; what is not valid stays as it is.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(schema: &Value) -> Option<Code> {
        check(schema).err().map(|fault| fault.code)
    }

    /// `d0` needs `d1` twice, which needs `d2` twice, and so on.
    fn doubling(levels: usize, under: &str) -> Value {
        let mut definitions = Map::new();
        for level in 0..levels {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            let both = if under.is_empty() {
                json!({ "allOf": [next, next] })
            } else {
                json!({ "allOf": [{ under: next }, { under: next }] })
            };
            definitions.insert(format!("d{level}"), both);
        }
        definitions.insert(format!("d{levels}"), json!({ "type": "string" }));
        json!({ "$ref": "#/$defs/d0", "$defs": definitions })
    }

    #[test]
    fn doubling_references_are_a_bomb() {
        assert_eq!(code(&doubling(8, "")), None);
        for levels in [14, 20, 40] {
            assert_eq!(code(&doubling(levels, "")), Some(Code::SchemaBomb), "{levels}");
            assert_eq!(code(&doubling(levels.min(30), "items")), Some(Code::SchemaBomb), "{levels} under items");
        }
    }

    #[test]
    fn recursion_that_follows_the_value_is_fine() {
        let tree = json!({ "type": "object", "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } } });
        assert_eq!(code(&tree), None);
        let any_json = json!({ "$ref": "#/$defs/v", "$defs": { "v": { "anyOf": [
            { "type": ["null", "boolean", "number", "string"] },
            { "type": "array", "items": { "$ref": "#/$defs/v" } },
            { "type": "object", "additionalProperties": { "$ref": "#/$defs/v" } },
        ] } } });
        assert_eq!(code(&any_json), None);
        let anchored = json!({ "$anchor": "node", "items": { "$ref": "#node" } });
        assert_eq!(code(&anchored), None);
    }

    #[test]
    fn recursion_that_doubles_on_every_level_is_a_bomb() {
        let part = json!({ "additionalProperties": { "$ref": "#" } });
        assert_eq!(code(&json!({ "allOf": [part, part] })), Some(Code::SchemaBomb));
    }

    #[test]
    fn loops_that_go_nowhere_are_refused() {
        assert_eq!(code(&json!({ "$ref": "#" })), Some(Code::SchemaLoop));
        let mutual = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "not": { "$ref": "#/$defs/a" } } } });
        assert_eq!(code(&mutual), Some(Code::SchemaLoop));
    }

    #[test]
    fn references_must_point_at_something() {
        assert_eq!(code(&json!({ "$ref": "#/$defs/nothing" })), Some(Code::SchemaRef));
        assert_eq!(code(&json!({ "$dynamicRef": "#x" })), Some(Code::SchemaRef));
        assert_eq!(code(&json!({ "properties": { "a": { "$id": "https://x.example/" } } })), Some(Code::SchemaRef));
        assert_eq!(code(&json!({ "$ref": "#/$defs/a%20b", "$defs": { "a b": {} } })), None);
    }

    #[test]
    fn names_that_look_like_keywords_are_only_names() {
        let schema = json!({ "properties": { "$ref": { "type": "string" }, "const": { "$ref": "#/$defs/x" } }, "$defs": { "x": {} } });
        assert_eq!(code(&schema), None);
        let data = json!({ "const": { "$ref": "https://example.com/not-a-schema" } });
        assert_eq!(code(&data), None);
    }

    #[test]
    fn a_reference_into_an_unknown_keyword_is_still_walked() {
        let hidden = json!({ "$ref": "#/x-hidden", "x-hidden": { "$ref": "#/x-hidden" } });
        assert_eq!(code(&hidden), Some(Code::SchemaLoop));
    }

    #[test]
    fn long_chains_of_references_are_refused_before_they_can_overflow_a_stack() {
        let mut definitions = Map::new();
        for level in 0..3000 {
            definitions.insert(format!("d{level}"), json!({ "$ref": format!("#/$defs/d{}", level + 1) }));
        }
        definitions.insert("d3000".into(), json!({}));
        assert_eq!(code(&json!({ "$ref": "#/$defs/d0", "$defs": definitions })), Some(Code::SchemaDepth));
    }
}
