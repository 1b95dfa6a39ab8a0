//! Secret arguments: strings that a verb's schema marks with `x-secret`. A plugin, the store and everybody
//! who reads either sees a placeholder; the value goes to the agent sealed in the signed envelope, and from
//! there into a child's environment or standard input, never into its arguments.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::CommandId;
use crate::step::Plan;

/// The keyword of a schema.
pub const KEYWORD: &str = "x-secret";
/// Most secrets of one command, and most bytes of each.
pub const MAX_SECRETS: usize = 64;
/// See [`MAX_SECRETS`].
pub const MAX_SECRET_BYTES: usize = 32 * 1024;
/// What every placeholder begins with. No other argument may hold it.
pub const BEGIN: &str = "{viworks-secret:";
/// A placeholder fits where this many characters do.
const TOKEN_CHARS: u64 = 19;

const VALUE_CONTEXT: &str = "viworks-secret-v1";

/// The secrets of one command, in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The key of the values, wrapped so that only a host can unwrap it. The COMMAND frame carries it
    /// unwrapped.
    pub key: String,
    /// By placeholder: nonce and XChaCha20-Poly1305 ciphertext, base64url.
    pub values: BTreeMap<String, String>,
}

/// The key of a command's secrets on its way to the agent: 32 bytes, base64url.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyText(pub String);

impl fmt::Debug for KeyText {
    /// Nothing of it, for what prints a frame may be a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

/// Arguments without their secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The arguments with placeholders.
    pub args: Value,
    /// The values by placeholder.
    pub values: BTreeMap<String, String>,
}

/// Why secrets cannot be hidden or marked like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct SecretFault {
    /// JSON Pointer.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

fn fault(pointer: impl Into<String>, message: impl Into<String>) -> SecretFault {
    SecretFault { pointer: pointer.into(), message: message.into() }
}

fn token(n: usize) -> String {
    format!("{BEGIN}{n}}}")
}

fn is_marked(schema: &Value) -> bool {
    schema.get(KEYWORD) == Some(&Value::Bool(true))
}

/// Which properties are secret: of the whole value, or of each value of an object.
fn marked(schema: &Value) -> impl Iterator<Item = (&String, bool)> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.filter_map(|(name, property)| {
        let of_values = property.get("additionalProperties").is_some_and(is_marked);
        (is_marked(property) || of_values).then_some((name, of_values))
    })
}

/// Checks where a schema marks secrets: a string among the properties of the root, or the values of an object
/// there, without anything that a placeholder would break.
///
/// # Errors
/// The first place that is none.
pub fn check_schema(schema: &Value) -> Result<(), SecretFault> {
    let mut known = 0;
    for (name, of_values) in marked(schema) {
        let at =
            if of_values { format!("/properties/{name}/additionalProperties") } else { format!("/properties/{name}") };
        let place = schema.pointer(&at).unwrap_or(&Value::Null);
        let too_narrow = place.get("minLength").and_then(Value::as_u64).is_some_and(|least| least > TOKEN_CHARS - 3)
            || place.get("maxLength").and_then(Value::as_u64).is_some_and(|most| most < TOKEN_CHARS);
        let other = ["pattern", "format", "enum", "const", "default", "examples"]
            .into_iter()
            .find(|word| place.get(word).is_some());
        if place.get("type") != Some(&Value::from("string")) {
            return Err(fault(at, format!("`{KEYWORD}` marks a string")));
        }
        if let Some(word) = other {
            return Err(fault(at, format!("`{word}` cannot be asked of a secret")));
        }
        if too_narrow {
            return Err(fault(at, format!("a placeholder has 16 to {TOKEN_CHARS} characters, and does not fit")));
        }
        known += 1;
    }
    match count(schema) {
        n if n == known => Ok(()),
        _ => {
            let rule = "marks a property of the root, or the values of an object there, with `true`, and nothing else";
            Err(fault("", format!("`{KEYWORD}` {rule}")))
        }
    }
}

/// How often the keyword stands in a schema. A property may be called the same, and is then counted: it is refused.
fn count(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            usize::from(members.contains_key(KEYWORD)) + members.values().map(count).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Takes the secrets out of arguments that fit `schema`.
///
/// # Errors
/// Too many or too long, or a placeholder where none was put.
pub fn hide(schema: &Value, args: &Value) -> Result<Hidden, SecretFault> {
    if let Some(pointer) = named_in(args, String::new()) {
        let message = "this is the placeholder of a secret, and secrets are not kept to be used again: give the value";
        return Err(fault(pointer, message));
    }
    let (mut args, mut values) = (args.clone(), BTreeMap::new());
    for (pointer, value) in secrets(schema, &mut args) {
        if value.len() > MAX_SECRET_BYTES || values.len() >= MAX_SECRETS {
            return Err(fault(pointer, format!("at most {MAX_SECRETS} secrets of {MAX_SECRET_BYTES} bytes")));
        }
        let token = token(values.len());
        values.insert(token.clone(), std::mem::replace(value, token));
    }
    Ok(Hidden { args, values })
}

/// Arguments as they may be shown to who gave them: `***` for each secret.
pub fn masked(schema: &Value, args: &Value) -> Value {
    let mut args = args.clone();
    secrets(schema, &mut args).for_each(|(_, value)| "***".clone_into(value));
    args
}

/// Whether an argument of the root is secret, or has values that are.
pub fn is_secret(schema: &Value, name: &str) -> bool {
    marked(schema).any(|(known, _)| known == name)
}

/// Every secret in arguments, and where it is.
fn secrets<'a>(schema: &Value, args: &'a mut Value) -> impl Iterator<Item = (String, &'a mut String)> {
    let marked: BTreeMap<String, bool> = marked(schema).map(|(name, of_values)| (name.clone(), of_values)).collect();
    let members = args.as_object_mut().into_iter().flatten();
    let places = members.filter_map(move |(name, place)| marked.get(name).map(|of_values| (name, place, *of_values)));
    let texts = places.flat_map(|(name, place, of_values)| -> Vec<(String, &'a mut Value)> {
        match (place, of_values) {
            (Value::Object(members), true) => {
                members.iter_mut().map(|(key, value)| (format!("/{name}/{key}"), value)).collect()
            }
            (place, _) => vec![(format!("/{name}"), place)],
        }
    });
    texts.filter_map(|(pointer, value)| match value {
        Value::String(text) => Some((pointer, text)),
        _ => None,
    })
}

/// Where a value names a placeholder.
fn named_in(value: &Value, at: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains(BEGIN).then_some(at),
        Value::Array(items) => items.iter().enumerate().find_map(|(n, item)| named_in(item, format!("{at}/{n}"))),
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            if name.contains(BEGIN) { Some(at.clone()) } else { named_in(member, format!("{at}/{name}")) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Where a plan names a placeholder that everybody on the machine, or everybody who reads the plan, would see
/// filled in: anywhere but in values of the environment and in standard input.
pub fn exposed(plan: &Plan) -> Option<String> {
    let named = |text: &str| text.contains(BEGIN);
    let steps = plan.steps.iter().enumerate().find_map(|(n, step)| {
        let args = step.args.iter().position(|arg| named(arg)).map(|arg| format!("args/{arg}"));
        let env = step.env.keys().find(|name| named(name)).map(|_| "env".to_owned());
        let cwd = step.cwd.as_deref().filter(|cwd| named(cwd)).map(|_| "cwd".to_owned());
        let program = named(&step.program).then(|| "program".to_owned());
        args.or(env).or(cwd).or(program).map(|place| format!("/steps/{n}/{place}"))
    });
    let locks = || plan.locks.iter().position(|lock| named(lock)).map(|n| format!("/locks/{n}"));
    let summary = || named(&plan.summary).then(|| "/summary".to_owned());
    steps.or_else(locks).or_else(summary)
}

/// A text with its placeholders filled in, once: what comes out of a secret is not looked at.
pub fn filled(text: &str, values: &BTreeMap<String, String>) -> String {
    let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        whole.push_str(before);
        let end = from.find('}').map_or(from.len(), |end| end + 1);
        whole.push_str(values.get(&from[..end]).map_or(&from[..end], String::as_str));
        rest = &from[end..];
    }
    whole + rest
}

/// Seals `clear` under `key`, bound to `context`.
pub fn seal(key: &[u8; 32], nonce: [u8; 24], context: &str, clear: &[u8]) -> String {
    let payload = Payload { msg: clear, aad: context.as_bytes() };
    let sealed = XChaCha20Poly1305::new(key.into()).encrypt(&nonce.into(), payload);
    let sealed = sealed.expect("what is sealed here is far below 256 GiB");
    URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())
}

/// Opens what [`seal`] sealed; `None` for anything else.
pub fn open(key: &[u8; 32], context: &str, sealed: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk::<24>()?;
    let payload = Payload { msg: sealed, aad: context.as_bytes() };
    XChaCha20Poly1305::new(key.into()).decrypt(&(*nonce).into(), payload).ok()
}

/// What a value is bound to.
pub fn value_context(command: CommandId, token: &str) -> String {
    format!("{VALUE_CONTEXT}\0{command}\0{token}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::effect::Effect;
    use crate::step::Step;

    fn schema() -> Value {
        json!({ "type": "object", "properties": {
            "user": { "type": "string" },
            "password": { "type": "string", "x-secret": true, "maxLength": 100 },
            "env": { "type": "object", "additionalProperties": { "type": "string", "x-secret": true } }
        } })
    }

    #[test]
    fn secrets_leave_placeholders_behind() {
        assert_eq!(check_schema(&schema()), Ok(()));
        let args = json!({ "user": "ada", "password": "hunter2", "env": { "A": "one", "B": "two" } });
        let hidden = hide(&schema(), &args).expect("hidden");
        let text = hidden.args.to_string();
        assert!(["hunter2", "one", "two"].into_iter().all(|secret| !text.contains(secret)), "{text}");
        assert_eq!(hidden.values.len(), 3);
        let shown = json!({ "user": "ada", "password": "***", "env": { "A": "***", "B": "***" } });
        assert_eq!(masked(&schema(), &args), shown);
        assert_eq!(["user", "password", "env"].map(|name| is_secret(&schema(), name)), [false, true, true]);
        let back = filled(&text, &hidden.values);
        assert_eq!(serde_json::from_str::<Value>(&back).expect("JSON"), args);
        assert_eq!(hide(&schema(), &hidden.args).expect_err("placeholders are no secrets").pointer, "/env/A");
        assert_eq!(hide(&schema(), &json!({ "user": "ada" })).expect("nothing").values, BTreeMap::new());
    }

    #[test]
    fn a_command_has_so_many_secrets_of_such_a_length_and_no_more() {
        let long = |length: usize| hide(&schema(), &json!({ "password": "x".repeat(length) }));
        assert!(long(MAX_SECRET_BYTES).is_ok());
        assert_eq!(long(MAX_SECRET_BYTES + 1).expect_err("too long").pointer, "/password");
        let many = |count: usize| {
            let env: BTreeMap<String, String> = (0..count).map(|n| (format!("V{n}"), "x".to_owned())).collect();
            hide(&schema(), &json!({ "env": env }))
        };
        assert_eq!(many(MAX_SECRETS).expect("room").values.len(), MAX_SECRETS);
        let message = many(MAX_SECRETS + 1).expect_err("too many").message;
        assert_eq!(message, "at most 64 secrets of 32768 bytes");
    }

    #[test]
    fn only_strings_in_known_places_are_marked() {
        for bad in [
            json!({ "properties": { "a": { "type": "integer", "x-secret": true } } }),
            json!({ "properties": { "a": { "type": "string", "x-secret": true, "pattern": "^a" } } }),
            json!({ "properties": { "a": { "type": "string", "x-secret": true, "maxLength": 8 } } }),
            json!({ "properties": { "a": { "type": "string", "x-secret": "yes" } } }),
            json!({ "properties": { "a": { "type": "array", "items": { "type": "string", "x-secret": true } } } }),
            json!({ "$defs": { "a": { "type": "string", "x-secret": true } } }),
            json!({ "x-secret": true }),
        ] {
            assert!(check_schema(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plan_may_name_secrets_where_only_the_child_sees_them() {
        let mut step = Step::new("psql");
        step.env.insert("PGPASSWORD".into(), token(0));
        step.stdin = Some(format!("x {} y", token(1)));
        let plan = |step: Step, summary: &str| Plan {
            steps: vec![step],
            effect: Effect::Host,
            locks: vec![],
            summary: summary.into(),
        };
        assert_eq!(exposed(&plan(step.clone(), "s")), None);
        let with = |change: &dyn Fn(&mut Step)| {
            let mut step = step.clone();
            change(&mut step);
            exposed(&plan(step, "s"))
        };
        assert_eq!(with(&|step| step.args.push(format!("-p{}", token(0)))).as_deref(), Some("/steps/0/args/0"));
        assert_eq!(with(&|step| step.cwd = Some(token(0))).as_deref(), Some("/steps/0/cwd"));
        assert_eq!(with(&|step| _ = step.env.insert(token(0), String::new())).as_deref(), Some("/steps/0/env"));
        assert_eq!(exposed(&plan(step, &token(0))).as_deref(), Some("/summary"));
    }

    #[test]
    fn what_is_sealed_opens_under_its_key_and_context_only() {
        let sealed = seal(&[1; 32], [2; 24], "a", b"clear");
        assert_eq!(open(&[1; 32], "a", &sealed).as_deref(), Some(&b"clear"[..]));
        assert_eq!(open(&[2; 32], "a", &sealed), None);
        assert_eq!(open(&[1; 32], "b", &sealed), None);
        let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).expect("base64url");
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(open(&[1; 32], "a", &URL_SAFE_NO_PAD.encode(&bytes)), None, "{at}");
            bytes[at] ^= 1;
        }
    }
}
