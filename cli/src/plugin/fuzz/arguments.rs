//! Arguments made from a schema by a seed: some that fit it, some that only nearly do.
//!
//! Invariant: the same seed gives the same arguments, on every machine and in every later version.

use serde_json::{Map, Value, json};

use crate::schema::{choices, resolve};

/// Deeper parts are left at their simplest.
const DEPTH: usize = 6;
/// Texts that have broken parsers, quoting and terminals before.
pub(super) const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "-",
    "--",
    "-rf",
    "--all=yes",
    "a b",
    "a\nb",
    "\t",
    "'",
    "\"",
    "`id`",
    "$(id)",
    "${HOME}",
    ";",
    "|",
    "*",
    "~",
    "../../etc/passwd",
    "/",
    "//",
    "a/../b",
    "%s",
    "\\",
    "\u{1b}[2J",
    "\u{202e}gpj",
    "é",
    "日本",
    "\u{1f600}",
    "{{.}}",
    "null",
    "0",
    "http://[::1]:0/",
    "name:tag@sha256:00",
];

/// Chance that repeats itself: SplitMix64.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Chance from `seed`.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`, which is above 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }

    /// Once in `many` times.
    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// Arguments for `schema`. `examples` fit it, and lend what a pattern asks for.
pub fn arguments(schema: &Value, examples: &[Value], chance: &mut Chance) -> Value {
    let example = (!examples.is_empty()).then(|| examples[chance.below(examples.len())].clone());
    let mut maker = Maker { root: schema, chance };
    let mut args = match example {
        // Rules between keys are known to examples only: half of the time one is taken and changed a little.
        Some(example) if maker.chance.one_in(2) => maker.changed(schema, example),
        example => maker.object(schema, example.as_ref(), 0),
    };
    // Every third is bent in one place.
    if maker.chance.one_in(3) {
        maker.bend(&mut args);
    }
    args
}

struct Maker<'a> {
    root: &'a Value,
    chance: &'a mut Chance,
}

impl Maker<'_> {
    fn object(&mut self, schema: &Value, example: Option<&Value>, depth: usize) -> Value {
        let schema = resolve(schema, self.root);
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut made = Map::new();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let known = example.and_then(|example| example.get(name));
            let wanted = required.contains(&name.as_str()) || (depth < DEPTH && self.chance.one_in(2));
            if wanted {
                let value = self.value(property, known, depth + 1);
                made.insert(name.clone(), value);
            }
        }
        if let Some(free) = schema.get("additionalProperties").filter(|free| free.is_object()) {
            for _ in 0..self.chance.below(3) {
                let value = self.value(free, None, depth + 1);
                let name = format!("KEY_{}", self.chance.below(100));
                made.insert(name, value);
            }
        }
        Value::Object(made)
    }

    /// `example` with up to two keys made anew.
    fn changed(&mut self, schema: &Value, mut example: Value) -> Value {
        let schema = resolve(schema, self.root);
        let properties: Vec<(&String, &Value)> =
            schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
        for _ in 0..self.chance.below(3) {
            if let (false, Value::Object(keys)) = (properties.is_empty(), &mut example) {
                let (name, property) = properties[self.chance.below(properties.len())];
                let known = keys.get(name).cloned();
                let value = self.value(property, known.as_ref(), 1);
                keys.insert(name.clone(), value);
            }
        }
        example
    }

    fn value(&mut self, schema: &Value, known: Option<&Value>, depth: usize) -> Value {
        let schema = resolve(schema, self.root);
        if let Some(known) = known.filter(|_| self.chance.one_in(3)) {
            return known.clone();
        }
        let listed = choices(&schema);
        if !listed.is_empty() {
            return listed[self.chance.below(listed.len())].clone();
        }
        if let Some(default) = schema.get("default").filter(|_| self.chance.one_in(4)) {
            return default.clone();
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(ways) = schema.get(key).and_then(Value::as_array).filter(|ways| !ways.is_empty()) {
                let way = ways[self.chance.below(ways.len())].clone();
                return if depth < DEPTH { self.value(&way, known, depth + 1) } else { Value::Null };
            }
        }
        let kinds: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
            _ => vec!["string"],
        };
        match kinds.get(self.chance.below(kinds.len().max(1))).copied() {
            Some("boolean") => Value::Bool(self.chance.one_in(2)),
            Some("integer") => json!(self.whole(&schema)),
            Some("number") if self.chance.one_in(2) => json!(self.whole(&schema)),
            Some("number") => json!(self.whole(&schema) as f64 + 0.5),
            Some("null") => Value::Null,
            Some("array") => {
                let items = schema.get("items").cloned().unwrap_or_else(|| json!({ "type": "string" }));
                let known = known.and_then(|known| known.get(0));
                let least = size(&schema, "minItems").unwrap_or(0).min(8);
                let most = size(&schema, "maxItems").unwrap_or(3).min(8);
                let count =
                    if depth < DEPTH { least + self.chance.below(most.saturating_sub(least) + 1) } else { least };
                Value::Array((0..count).map(|_| self.value(&items, known, depth + 1)).collect())
            }
            Some("object") => self.object(&schema, known, depth),
            _ => Value::String(self.text(&schema, known)),
        }
    }

    /// A whole number within its bounds, at them more often than not.
    fn whole(&mut self, schema: &Value) -> i64 {
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64).map(|bound| bound as i64);
        let least = bound("minimum").or(bound("exclusiveMinimum").map(|least| least.saturating_add(1)));
        let most = bound("maximum").or(bound("exclusiveMaximum").map(|most| most.saturating_sub(1)));
        let (least, most) = (least.unwrap_or(-1_000_000), most.unwrap_or(1_000_000_000));
        match self.chance.below(4) {
            0 => least,
            1 => most,
            _ => {
                let span = most.saturating_sub(least).saturating_add(1).max(1);
                let offset = self.chance.below(usize::try_from(span).unwrap_or(usize::MAX));
                least.saturating_add(i64::try_from(offset).unwrap_or_default())
            }
        }
    }

    fn text(&mut self, schema: &Value, known: Option<&Value>) -> String {
        // What a pattern takes is not made here: what is known to fit it is.
        let patterned = schema.get("pattern").is_some() || schema.get("format").is_some();
        if let Some(known) = known.and_then(Value::as_str).filter(|_| patterned)
            && !self.chance.one_in(4)
        {
            return known.to_owned();
        }
        let mut text = TEXTS[self.chance.below(TEXTS.len())].to_owned();
        if patterned && known.is_none() {
            text = format!("a{}", self.chance.below(1000));
        }
        let least = size(schema, "minLength").unwrap_or(0).min(4096);
        while text.chars().count() < least {
            text.push('x');
        }
        if self.chance.one_in(8) {
            let most = size(schema, "maxLength").unwrap_or(300).min(4096);
            text = "x".repeat(most);
        }
        match size(schema, "maxLength") {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        }
    }

    /// Changes one place so that it fits no longer, or hardly.
    fn bend(&mut self, args: &mut Value) {
        let Value::Object(keys) = args else { return };
        let names: Vec<String> = keys.keys().cloned().collect();
        if names.is_empty() || self.chance.one_in(4) {
            keys.insert("unknown_key".to_owned(), Value::Bool(true));
            return;
        }
        let name = &names[self.chance.below(names.len())];
        if self.chance.one_in(4) {
            keys.remove(name);
            return;
        }
        let odd = [
            Value::Null,
            json!(-1),
            json!(9_007_199_254_740_991_i64),
            json!(1.5),
            json!([]),
            json!({}),
            json!(true),
            json!("-x"),
            json!("x".repeat(5000)),
            json!([null]),
        ];
        keys.insert(name.clone(), odd[self.chance.below(odd.len())].clone());
    }
}

fn size(schema: &Value, key: &str) -> Option<usize> {
    schema.get(key).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({ "type": "object", "required": ["n"], "additionalProperties": false, "properties": {
            "n": { "type": "integer", "minimum": 1, "maximum": 5 },
            "kind": { "enum": ["x", "y"] },
            "all": { "type": "array", "items": { "$ref": "#/$defs/part" }, "minItems": 1, "maxItems": 2 },
        }, "$defs": { "part": { "type": "object", "properties": { "part": { "$ref": "#/$defs/part" } } } } })
    }

    #[test]
    fn a_seed_gives_the_same_arguments_for_ever() {
        let made = |seed| arguments(&schema(), &[json!({ "n": 3 })], &mut Chance::new(seed));
        assert_eq!(made(7), made(7));
        assert_ne!((0..20).map(made).collect::<Vec<_>>(), (20..40).map(made).collect::<Vec<_>>());
        assert_eq!(Chance::new(1).next(), 0x910a_2dec_8902_5cc1, "seeds people wrote down stay good");
    }

    #[test]
    fn most_arguments_fit_and_some_do_not() {
        let fits = |args: &Value| {
            let keys = args.as_object().expect("an object");
            keys.get("n").and_then(Value::as_i64).is_some_and(|n| (1..=5).contains(&n))
                && keys.keys().all(|key| ["n", "kind", "all"].contains(&key.as_str()))
        };
        let made = (0..300).map(|seed| arguments(&schema(), &[], &mut Chance::new(seed)));
        let good = made.filter(fits).count();
        assert!((180..290).contains(&good), "{good} of 300 fit");
    }
}
