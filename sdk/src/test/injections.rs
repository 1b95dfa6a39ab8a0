//! Hostile text in every place where a schema takes text. What comes of it must be a refusal that
//! names the place, or a plan in which it stands where no program reads an option.

use std::collections::BTreeSet;

use plan::step;
use serde_json::{Map, Value, json};

use super::{context, violations};
use crate::failure::{Code, Failure, push_key};
use crate::manifest::Plugin;
use crate::text::text_of;
use crate::verb::Entry;

/// How a try of [`injections`] went, summed over all verbs.
///
/// ```
/// use viworks_sdk::test::Injected;
///
/// let tried = Injected { places: 2, refused: 30, planned: 10 };
/// assert!(tried.places > 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Places that take text.
    pub places: usize,
    /// Texts that were refused where they stood.
    pub refused: usize,
    /// Texts that were planned, each as one argument or a part of one.
    pub planned: usize,
}

/// Puts hostile text into every place of every verb's arguments that takes text: the fields of its
/// schema, items of lists, keys and values of maps. There is text that looks like an option, ends
/// arguments early, wants a shell, looks like other text, changes the direction of writing, or is too long.
///
/// # Panics
/// When a text is refused without saying where, when it reaches a program's arguments in a place where
/// it could be read as an option, or when it becomes more than one argument.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// Says hello.
/// #[derive(Args)]
/// struct Hello {
///     /// Whom to.
///     #[arg(example = "you")]
///     name: String,
/// }
///
/// #[verb(name = "hello.say", effect = Read, example = json!({ "name": "you" }))]
/// impl Verb for Hello {
///     type Output = ();
///     fn plan(&self, _: &Context) -> Result<Plan> {
///         program("echo").operand(&self.name).plan()
///     }
///     fn interpret(&self, _: &Outputs) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// plugin!(name = "hello", summary = "Greetings", verbs: [Hello], grants: [allow("echo")]);
///
/// let tried = viworks_sdk::test::injections(&PLUGIN);
/// assert_eq!(tried.places, 1);
/// assert!(tried.planned > 0 && tried.refused > 0);
/// ```
pub fn injections(plugin: &Plugin) -> Injected {
    let mut sum = Injected::default();
    for verb in plugin.verbs {
        let facts = verb.manifest();
        let mut bases: Vec<Value> = facts.examples.into_iter().map(|example| example.args).collect();
        bases.push(sample(&facts.args_schema).unwrap_or_else(|| json!({})));
        let mut places = Vec::new();
        find(&facts.args_schema, &mut Vec::new(), &mut places);
        for place in &places {
            sum.places += 1;
            let mut reached = false;
            for base in &bases {
                reached |= Attempt { verb, schema: &facts.args_schema, place, base }.run(&mut sum);
            }
            assert!(reached, "{}: nothing could be put at {}: give the field an example", verb.name, shown(place));
        }
    }
    sum
}

/// One step towards a place in arguments.
#[derive(Clone, Debug)]
enum Towards<'a> {
    /// A named field, and the schema of the object around it.
    Field(&'a str, &'a Value),
    /// The only item of a list.
    Item,
    /// The value of a map's only member, whose keys fit the schema.
    Member(Option<&'a Value>),
    /// The key of a map's only member, whose value fits the schema.
    Key(&'a Value),
}

/// Every place below `schema` that takes text.
fn find<'a>(schema: &'a Value, way: &mut Vec<Towards<'a>>, places: &mut Vec<Vec<Towards<'a>>>) {
    let mut deeper = |step: Towards<'a>, schema: &'a Value| {
        way.push(step);
        find(schema, way, places);
        way.pop();
    };
    match schema["type"].as_str() {
        Some("string") => places.push(way.clone()),
        Some("array") => deeper(Towards::Item, &schema["items"]),
        Some("object") => {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                deeper(Towards::Field(name, schema), field);
            }
            let values = &schema["additionalProperties"];
            if values.is_object() {
                deeper(Towards::Member(schema.get("propertyNames")), values);
                way.push(Towards::Key(values));
                places.push(way.clone());
                way.pop();
            }
        }
        _ => {}
    }
}

fn shown(place: &[Towards<'_>]) -> String {
    let mut pointer = String::new();
    for step in place {
        match step {
            Towards::Field(name, _) => push_key(&mut pointer, name),
            Towards::Item => pointer.push_str("/0"),
            Towards::Member(_) => pointer.push_str("/(a value)"),
            Towards::Key(_) => pointer.push_str("/(a key)"),
        }
    }
    pointer
}

struct Attempt<'a> {
    verb: &'a Entry,
    schema: &'a Value,
    place: &'a [Towards<'a>],
    base: &'a Value,
}

impl Attempt<'_> {
    /// Whether the place could be reached at all.
    fn run(&self, sum: &mut Injected) -> bool {
        let mut shapes = BTreeSet::new();
        for text in hostile() {
            let Some(args) = put(self.base.clone(), self.place, &text) else { return false };
            match self.plan(&args) {
                Err(failure) => {
                    self.check_refusal(&failure, &text);
                    sum.refused += 1;
                }
                Ok(plan) => {
                    self.check_plan(&plan, &args, &text);
                    shapes.insert(plan.steps.iter().map(|step| step.args.len()).collect::<Vec<_>>());
                    sum.planned += 1;
                }
            }
        }
        assert!(
            shapes.len() <= 1,
            "{}: text at {} becomes a different number of arguments by what it says: {shapes:?}",
            self.verb.name,
            shown(self.place)
        );
        true
    }

    fn plan(&self, args: &Value) -> Result<step::Plan, Failure> {
        let issues = violations(self.schema, args);
        match issues.is_empty() {
            true => self.verb.plan(&context(), &text_of(args)),
            false => Err(Failure::issues(issues)),
        }
    }

    fn check_refusal(&self, failure: &Failure, text: &str) {
        let place = shown(self.place);
        let named = failure.code == Code::InvalidArgs
            && !failure.issues.is_empty()
            && failure.issues.iter().all(|issue| issue.pointer.starts_with('/'));
        assert!(named, "{}: {text:?} at {place} is refused without saying where: {failure}", self.verb.name);
    }

    fn check_plan(&self, plan: &step::Plan, args: &Value, text: &str) {
        let place = shown(self.place);
        let allowed = self.verb.dashes(&context(), args);
        for step in &plan.steps {
            assert!(step::is_program(&step.program), "{}: {text:?} at {place} chose a program", self.verb.name);
            for arg in step.args.iter().take_while(|arg| *arg != "--") {
                // Short text is the beginning of many an argument; where longer text stands, short text would too.
                let begins = arg == text && text != "--" || text.len() >= 5 && arg.starts_with(text);
                let as_option = begins && text.starts_with('-');
                let free = allowed.iter().any(|free| place.starts_with(free.as_str()));
                assert!(
                    !as_option || free,
                    "{}: {text:?} at {place} stands where an option is read: {:?}; use `opt` or `operand`",
                    self.verb.name,
                    step.args
                );
            }
        }
    }
}

/// `base` with `text` at the end of `way`; `None` when something on the way cannot be made up.
fn put(base: Value, way: &[Towards<'_>], text: &str) -> Option<Value> {
    let Some((step, rest)) = way.split_first() else { return Some(Value::from(text)) };
    let member = |key: String, value: Value| Value::Object(Map::from_iter([(key, value)]));
    Some(match step {
        Towards::Field(name, around) => {
            let mut object = match base {
                Value::Object(object) => object,
                _ => sample(around)?.as_object()?.clone(),
            };
            let inner = object.remove(*name).unwrap_or_default();
            object.insert((*name).to_owned(), put(inner, rest, text)?);
            Value::Object(object)
        }
        Towards::Item => json!([put(Value::Null, rest, text)?]),
        Towards::Member(keys) => {
            let key = keys.map_or(Some(json!("a")), |keys| sample(&with_type(keys)))?;
            member(key.as_str()?.to_owned(), put(Value::Null, rest, text)?)
        }
        Towards::Key(values) => member(text.to_owned(), sample(values)?),
    })
}

fn with_type(keys: &Value) -> Value {
    let mut keys = keys.clone();
    keys["type"] = json!("string");
    keys
}

/// Something that fits `schema`, if it can be guessed.
fn sample(schema: &Value) -> Option<Value> {
    let fits = |value: &Value| violations(schema, value).is_empty();
    let given = schema["examples"].get(0).or_else(|| schema["enum"].get(0)).or_else(|| schema.get("default"));
    if let Some(given) = given.filter(|given| fits(given)) {
        return Some(given.clone());
    }
    let guesses = match schema["type"].as_str()? {
        "string" => ["a", "A", "a1", "/a", "1", "1s", "10.0.0.1", "aa"].map(Value::from).to_vec(),
        "integer" | "number" => [0, 1, 2, 10, 100].map(Value::from).to_vec(),
        "boolean" => vec![Value::Bool(false)],
        "array" => vec![json!([]), json!([sample(&schema["items"])])],
        "object" => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = required.map(|name| Some((name.to_owned(), sample(&schema["properties"][name])?)));
            vec![Value::Object(fields.collect::<Option<Map<String, Value>>>()?)]
        }
        _ => Vec::new(),
    };
    guesses.into_iter().find(fits)
}

/// Text that means harm.
fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = HOSTILE.iter().map(|text| (*text).to_owned()).collect();
    texts.push("a".repeat(step::MAX_ARG_BYTES + 1));
    texts.push("-".repeat(300));
    texts.push("\u{e9}".repeat(step::MAX_ARG_BYTES));
    texts
}

const HOSTILE: &[&str] = &[
    // Options and their ends.
    "-",
    "--",
    "---",
    "-x",
    "-rf",
    "--help",
    "--privileged=true",
    "--output=/etc/passwd",
    "-v/:/host",
    " -x",
    "\t--x",
    "-\u{0}",
    "-\n",
    "x=-y",
    // Ends of text and lines.
    "",
    " ",
    "\u{0}",
    "a\u{0}b",
    "a\nb",
    "a\r\n--privileged",
    "a\u{b}b",
    "a\u{85}b",
    "a\u{2028}b",
    "\u{1b}[31m",
    "\u{7f}",
    // What a shell, a template or a path would read.
    "$(id)",
    "`id`",
    "${IFS}id",
    ";id",
    "|id",
    "&&id",
    ">/etc/passwd",
    "a b",
    "'",
    "\"",
    "\\",
    "*",
    "~",
    "~root",
    "../../etc/passwd",
    "/etc/../etc/passwd",
    "{{.}}",
    "{{json .}}",
    "%s%n",
    "!!python/object",
    "@/etc/passwd",
    "file:///etc/passwd",
    // Other text in disguise.
    "\u{2010}x",
    "\u{2012}x",
    "\u{2013}x",
    "\u{2014}help",
    "\u{2212}x",
    "\u{fe63}x",
    "\u{ff0d}x",
    "\u{ff0d}\u{ff0d}privileged",
    "\u{ff0f}etc",
    "\u{2215}etc",
    "\u{430}dmin",
    "\u{ff41}",
    "e\u{301}",
    "ho\u{ad}st",
    // Text that is shown otherwise than it is read.
    "\u{202e}gpj.exe",
    "\u{2066}x\u{2069}",
    "\u{200b}x",
    "\u{200d}",
    "\u{feff}-x",
    "\u{e0041}",
    "\u{10ffff}",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    /// Does what it should not.
    #[derive(Args)]
    struct Careless {
        /// Anything.
        word: String,
    }

    #[verb(name = "careless.run", effect = Read, example = json!({ "word": "a" }))]
    impl Verb for Careless {
        type Output = ();

        fn plan(&self, _: &Context) -> Result<Plan> {
            let words: Vec<String> = self.word.split_whitespace().map(str::to_owned).collect();
            program("x").operand(words).plan()
        }

        fn interpret(&self, _: &Outputs) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    #[should_panic(expected = "becomes a different number of arguments")]
    fn text_that_becomes_several_arguments_is_found() {
        static CARELESS: &[Entry] = &[Entry::of::<Careless>()];
        injections(&Plugin {
            rule: None,
            name: "careless",
            version: "1.0.0",
            summary: "Careless",
            verbs: CARELESS,
            grants: Vec::new,
            effects: &[],
            config_schema: None,
        });
    }

    #[test]
    fn every_place_that_takes_text_is_found() {
        let schema = json!({
            "type": "object",
            "properties": {
                "a": { "type": "string" },
                "b": { "type": "array", "items": { "type": "string" } },
                "c": { "type": "object", "additionalProperties": { "type": "string" } },
                "d": { "type": "object", "properties": { "e": { "type": "string" }, "f": { "type": "integer" } } },
            },
        });
        let mut places = Vec::new();
        find(&schema, &mut Vec::new(), &mut places);
        let shown: Vec<String> = places.iter().map(|place| shown(place)).collect();
        assert_eq!(shown, ["/a", "/b/0", "/c/(a value)", "/c/(a key)", "/d/e"]);
        let put = put(json!({ "b": ["x", "y"] }), &places[3], "-k").expect("made up");
        assert_eq!(put, json!({ "b": ["x", "y"], "c": { "-k": "a" } }));
    }

    #[test]
    fn samples_fit_their_schema() {
        for (schema, expected) in [
            (json!({ "type": "string", "pattern": "^/" }), Some(json!("/a"))),
            (json!({ "type": "string", "minLength": 2 }), Some(json!("a1"))),
            (json!({ "type": "string", "pattern": "^zz9$" }), None),
            (json!({ "type": "string", "pattern": "^zz9$", "examples": ["zz9"] }), Some(json!("zz9"))),
            (json!({ "type": "array", "minItems": 1, "items": { "type": "integer" } }), Some(json!([0]))),
            (json!({ "type": "integer", "minimum": 5 }), Some(json!(10))),
        ] {
            assert_eq!(sample(&schema), expected, "{schema}");
        }
    }
}
