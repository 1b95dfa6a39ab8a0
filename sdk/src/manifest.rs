//! What a plugin says of itself, and the grants it asks for.

use plan::manifest::{ABI, Manifest, RULE_ABI};
use plan::policy::{ProgramRule, Rules};
use serde_json::{Map, Value};

use crate::failure::Result;
use crate::text::text_of;
use crate::verb::{Entry, unknown};
use crate::{Effect, rule, schema};

pub use plan::manifest::{Example, Golden, VerbManifest};

/// A whole plugin. Made by `plugin!` as `PLUGIN`.
///
/// ```
/// # use viworks_sdk::prelude::*;
/// # /// Since when a machine runs.
/// # #[derive(Args)]
/// # struct Uptime;
/// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
/// # impl Verb for Uptime {
/// #     type Output = ();
/// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
/// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
/// # }
/// plugin!(name = "host", version = "1.0.0", summary = "Hosts", verbs: [Uptime], grants: [allow("uptime")]);
/// let plugin: &viworks_sdk::Plugin = &PLUGIN;
/// assert_eq!((plugin.name, plugin.verbs[0].name), ("host", "host.uptime"));
/// ```
#[derive(Clone, Copy)]
pub struct Plugin {
    /// Identity: `[a-z][a-z0-9_-]{0,62}`.
    pub name: &'static str,
    /// Semantic version.
    pub version: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Its verbs; none if it is a rule.
    pub verbs: &'static [Entry],
    /// The rule it is, if it is one.
    pub rule: Option<rule::Entry>,
    /// The programs its plans run.
    pub grants: fn() -> Vec<ProgramRule>,
    /// Effects that its plans may raise to, besides its verbs' own.
    pub effects: &'static [Effect],
    /// The schema of its configuration, if it takes one.
    pub config_schema: Option<fn() -> Value>,
}

impl Plugin {
    /// The manifest that `describe` answers.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// Since when a machine runs.
    /// # #[derive(Args)]
    /// # struct Uptime;
    /// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
    /// # impl Verb for Uptime {
    /// #     type Output = ();
    /// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
    /// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
    /// # }
    /// plugin!(name = "host", version = "1.0.0", summary = "Hosts", verbs: [Uptime], grants: [allow("uptime")]);
    /// assert_eq!(PLUGIN.manifest().verbs[0].summary, "Since when a machine runs.");
    /// ```
    pub fn manifest(&self) -> Manifest {
        Manifest { rule: self.rule.as_ref().map(rule::Entry::manifest), ..self.outline() }
    }

    /// The manifest without what there is to say of a rule.
    fn outline(&self) -> Manifest {
        let named = |effect: &Effect| self.effects.contains(effect) || self.verbs.iter().any(|v| v.effect == *effect);
        Manifest {
            abi: if self.rule.is_some() { RULE_ABI } else { ABI }.to_owned(),
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            summary: self.summary.to_owned(),
            verbs: self.verbs.iter().map(Entry::manifest).collect(),
            grants: Rules { effects: Effect::ALL.into_iter().filter(named).collect(), programs: (self.grants)() },
            config_schema: match self.rule {
                Some(rule) => Some(rule.config_schema()),
                None => self.config_schema.map(|config| {
                    let mut config = config();
                    if let Value::Object(object) = &mut config {
                        object.insert("$schema".into(), schema::DIALECT.into());
                    }
                    config
                }),
            },
            rule: None,
        }
    }

    /// The JSON text of the manifest. The same as serde's, without a serializer in every component.
    #[cfg_attr(
        not(target_family = "wasm"),
        expect(dead_code, reason = "only components are asked to describe themselves")
    )]
    pub(crate) fn describe(&self) -> String {
        text_of(&self.to_json())
    }

    fn to_json(self) -> Value {
        let mut manifest = manifest_json(self.outline());
        if let (Value::Object(object), Some(rule)) = (&mut manifest, self.rule) {
            put(object, "rule", rule.to_json());
        }
        manifest
    }

    /// The verb called `name`.
    ///
    /// # Errors
    /// When there is none; the message lists those there are.
    ///
    /// ```
    /// # use viworks_sdk::prelude::*;
    /// # /// Since when a machine runs.
    /// # #[derive(Args)]
    /// # struct Uptime;
    /// # #[verb(name = "host.uptime", effect = Read, example = json!({}))]
    /// # impl Verb for Uptime {
    /// #     type Output = ();
    /// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
    /// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
    /// # }
    /// plugin!(name = "host", version = "1.0.0", summary = "Hosts", verbs: [Uptime], grants: [allow("uptime")]);
    /// assert!(PLUGIN.verb("host.uptime").is_ok());
    /// assert!(PLUGIN.verb("host.downtime").is_err());
    /// ```
    pub fn verb(&self, name: &str) -> Result<&Entry> {
        self.verbs.iter().find(|verb| verb.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.verbs.iter().map(|verb| verb.name).collect();
            unknown(name, &names)
        })
    }
}

fn manifest_json(manifest: Manifest) -> Value {
    let Manifest { abi, name, version, summary, verbs, grants, config_schema, rule: _ } = manifest;
    let mut object = Map::new();
    put(&mut object, "abi", abi);
    put(&mut object, "name", name);
    put(&mut object, "version", version);
    put(&mut object, "summary", summary);
    if !verbs.is_empty() {
        put(&mut object, "verbs", list(verbs, verb_json));
    }
    let Rules { effects, programs } = grants;
    if !effects.is_empty() || !programs.is_empty() {
        let mut rules = Map::new();
        put(&mut rules, "effects", list(effects, |effect| effect.as_str().into()));
        put(&mut rules, "programs", list(programs, rule_json));
        put(&mut object, "grants", rules);
    }
    if let Some(schema) = config_schema {
        put(&mut object, "config_schema", schema);
    }
    Value::Object(object)
}

fn verb_json(verb: VerbManifest) -> Value {
    let VerbManifest { name, summary, effect, idempotent, cancel, default_timeout_ms, needs, .. } = verb;
    let mut object = Map::new();
    put(&mut object, "name", name);
    put(&mut object, "summary", summary);
    put(&mut object, "effect", effect.as_str());
    put(&mut object, "idempotent", idempotent);
    put(&mut object, "cancel", cancel);
    put(&mut object, "default_timeout_ms", default_timeout_ms);
    if let Some(needs) = needs {
        put(&mut object, "needs", needs);
    }
    put(&mut object, "args_schema", verb.args_schema);
    put(&mut object, "result_schema", verb.result_schema);
    put(&mut object, "examples", list(verb.examples, example_json));
    Value::Object(object)
}

fn example_json(example: Example) -> Value {
    let mut object = Map::new();
    put(&mut object, "args", example.args);
    if let Some(Golden { exit_code, stdout, stderr, result }) = example.golden {
        let mut golden = Map::new();
        put(&mut golden, "exit_code", exit_code);
        put(&mut golden, "stdout", stdout);
        put(&mut golden, "stderr", stderr);
        put(&mut golden, "result", result);
        put(&mut object, "golden", golden);
    }
    Value::Object(object)
}

fn rule_json(rule: ProgramRule) -> Value {
    let ProgramRule { program, path, args, env, cwd, stdin, max_timeout_ms } = rule;
    let mut object = Map::new();
    put(&mut object, "program", program);
    if let Some(path) = path {
        put(&mut object, "path", path);
    }
    put(&mut object, "args", list(args, |pattern| list(pattern, Value::String)));
    if !env.is_empty() {
        put(&mut object, "env", list(env, Value::String));
    }
    if !cwd.is_empty() {
        put(&mut object, "cwd", list(cwd, Value::String));
    }
    if stdin {
        put(&mut object, "stdin", stdin);
    }
    if let Some(limit) = max_timeout_ms {
        put(&mut object, "max_timeout_ms", limit);
    }
    Value::Object(object)
}

fn put(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    object.insert(key.to_owned(), value.into());
}

fn list<T>(items: Vec<T>, json: fn(T) -> Value) -> Value {
    let mut list = Vec::with_capacity(items.len());
    for item in items {
        list.push(json(item));
    }
    Value::Array(list)
}

/// Asks the operator to allow a program, with any arguments unless [`Grant::args`] says which.
///
/// ```
/// use viworks_sdk::manifest::{Grant, allow};
/// use viworks_sdk::prelude::*;
///
/// let rule: Grant = allow("docker").args(["ps", "**"]).args(["logs", "**"]).env("DOCKER_*");
/// ```
pub fn allow(program: impl Into<String>) -> Grant {
    let mut rule = ProgramRule::any_args(program);
    rule.args.clear();
    Grant { rule }
}

/// One program that the plugin's plans run, for `plugin!(grants: […])`.
///
/// ```
/// use viworks_sdk::manifest::{Grant, allow};
///
/// fn docker() -> Grant {
///     allow("docker").env("DOCKER_*")
/// }
/// docker();
/// ```
#[derive(Clone, Debug)]
pub struct Grant {
    rule: ProgramRule,
}

impl Grant {
    /// One accepted argument list: `*` stands for any run of characters within an argument, a last
    /// `**` for all that follow. Call it again for a further list.
    ///
    /// ```
    /// use viworks_sdk::manifest::allow;
    ///
    /// allow("docker").args(["ps", "**"]).args(["inspect", "--type=*", "--", "*"]);
    /// ```
    pub fn args<const N: usize>(mut self, pattern: [&str; N]) -> Grant {
        self.rule.args.push(pattern.map(str::to_owned).to_vec());
        self
    }

    /// A variable a step may set; a trailing `*` is a prefix.
    ///
    /// ```
    /// use viworks_sdk::manifest::allow;
    ///
    /// allow("df").env("LC_ALL").env("DF_*");
    /// ```
    pub fn env(mut self, name: &str) -> Grant {
        self.rule.env.push(name.to_owned());
        self
    }

    /// A directory a step may run in, with all below it.
    ///
    /// ```
    /// use viworks_sdk::manifest::allow;
    ///
    /// allow("make").cwd("/srv/app");
    /// ```
    pub fn cwd(mut self, directory: &str) -> Grant {
        self.rule.cwd.push(directory.to_owned());
        self
    }

    /// Steps may feed the program standard input.
    ///
    /// ```
    /// use viworks_sdk::manifest::allow;
    ///
    /// allow("tee").args(["--", "/srv/motd"]).stdin();
    /// ```
    pub fn stdin(mut self) -> Grant {
        self.rule.stdin = true;
        self
    }
}

impl From<Grant> for ProgramRule {
    fn from(Grant { mut rule }: Grant) -> ProgramRule {
        if rule.args.is_empty() {
            rule.args.push(vec!["**".to_owned()]);
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Plan;

    #[test]
    fn a_component_describes_itself_as_serde_would() {
        let full = ProgramRule {
            path: Some("/bin/x".into()),
            max_timeout_ms: Some(7),
            ..allow("x").args(["a", "**"]).env("E").cwd("/srv").stdin().into()
        };
        let golden = Golden { exit_code: 1, stdout: "o".into(), stderr: "e".into(), result: Value::Null };
        let verb = VerbManifest {
            name: "a.b".into(),
            summary: "A".into(),
            effect: Effect::Host,
            idempotent: true,
            cancel: "clean".into(),
            default_timeout_ms: 5,
            needs: Some("docker".into()),
            args_schema: Value::Bool(true),
            result_schema: Value::Bool(false),
            examples: vec![
                Example { args: Value::Null, golden: Some(golden) },
                Example { args: Value::Null, golden: None },
            ],
        };
        let manifest = Manifest {
            abi: ABI.into(),
            name: "a".into(),
            version: "1.0.0".into(),
            summary: "A".into(),
            verbs: vec![verb.clone(), VerbManifest { needs: None, ..verb }],
            grants: Rules { effects: Effect::ALL.to_vec(), programs: vec![full, allow("y").into()] },
            config_schema: Some(Value::Bool(true)),
            rule: None,
        };
        assert_eq!(manifest_json(manifest.clone()), serde_json::to_value(&manifest).expect("serializes"));
        let bare = Manifest { config_schema: None, ..manifest };
        assert_eq!(manifest_json(bare.clone()), serde_json::to_value(&bare).expect("serializes"));
    }

    #[test]
    fn a_rule_describes_itself_as_serde_would() {
        const FACTS: rule::Facts = rule::Facts { reads: &["cpu.total"], state_version: 2 };
        let example =
            crate::verb::Json::Text(r#"{ "turns": [{ "at_s": 5, "heard_s": 1, "found": { "": "warning" } }] }"#);
        let entry = rule::Entry::with(FACTS, &schema::Node::Any, Box::leak(Box::new([example])));
        let plugin = Plugin {
            name: "a",
            version: "1.0.0",
            summary: "A",
            verbs: &[],
            rule: Some(entry),
            grants: Vec::new,
            effects: &[],
            config_schema: None,
        };
        assert_eq!(plugin.to_json(), serde_json::to_value(plugin.manifest()).expect("serializes"));
        assert_eq!(plugin.manifest().abi, RULE_ABI);
    }

    #[test]
    fn a_grant_without_patterns_allows_any_arguments() {
        let rules = Rules { effects: vec![Effect::Read], programs: vec![allow("x").into()] };
        let mut step = crate::step::Step::new("x");
        step.args = vec!["anything".into()];
        let plan = Plan { steps: vec![step], effect: Effect::Read, locks: Vec::new(), summary: String::new() };
        assert_eq!(rules.permit(&plan), Ok(()));
    }
}
