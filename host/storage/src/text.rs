//! The text forms of what the databases keep as JSON, and the ways back. Both adapters write the
//! same words, so that a person finds the same thing in either.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use domain::access::{Grant, Principal};
use domain::agent::Facts;
use domain::attempt::State;
use domain::counts::Counts;
use plan::effect::Effect;
use plan::id::{KeyId, UserId};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::rollup::Tallied;

const BY_ROLLOUT: &str = "held:rollout";
const BUSY: &str = "rejected:busy";

/// Anything of strings and numbers as compact JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, numbers, lists and maps of them are always JSON")
}

/// Reads what [`json`] wrote.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// JSON text in one form: keys in order, no spaces, no NUL in strings; what is no JSON becomes a string. `jsonb`
/// gives back another order than it was given, and this is the same for both.
pub(crate) fn canonical(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(value) => self::json(&Ordered(&value)),
        Err(_) => self::json(&json.replace('\0', "\u{fffd}")),
    }
}

/// A value whose objects are written in the order of their keys, whatever map they are kept in.
struct Ordered<'v>(&'v Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = |text: &str| text.replace('\0', "\u{fffd}");
        match self.0 {
            Value::String(text) if text.contains('\0') => serializer.serialize_str(&plain(text)),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
            Value::Object(members) => {
                let ordered: BTreeMap<String, Ordered<'_>> =
                    members.iter().map(|(key, value)| (plain(key), Ordered(value))).collect();
                serializer.collect_map(ordered)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => self.0.serialize(serializer),
        }
    }
}

/// Counts as a JSON object from state to number, states with none left out.
pub(crate) fn counts_text(counts: &Counts) -> String {
    let mut text = String::with_capacity(32);
    for (state, n) in counts.iter() {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&format!("\"{state}\":{n}"));
    }
    if text.is_empty() {
        text.push('{');
    }
    text.push('}');
    text
}

/// The same with `held:rollout` and `rejected:busy`, which the two states include.
pub(crate) fn tallied_text(tallied: &Tallied) -> String {
    let mut text = counts_text(&tallied.counts);
    for (name, n) in [(BY_ROLLOUT, tallied.by_rollout), (BUSY, tallied.busy)].into_iter().filter(|(_, n)| *n > 0) {
        text.truncate(text.len() - 1);
        text.push_str(&format!(",\"{name}\":{n}}}"));
    }
    text
}

/// Reads what [`counts_text`] wrote, or the counts of [`tallied_text`].
pub(crate) fn parse_counts(text: &str) -> Result<Counts, String> {
    Ok(parse_tallied(text)?.counts)
}

/// Reads what [`tallied_text`] wrote.
pub(crate) fn parse_tallied(text: &str) -> Result<Tallied, String> {
    let by_name: BTreeMap<&str, u32> = parse(text)?;
    let mut tallied = Tallied::default();
    for (name, n) in by_name {
        match name {
            BY_ROLLOUT => tallied.by_rollout = n,
            BUSY => tallied.busy = n,
            name => tallied.counts.add(State::parse(name).ok_or_else(|| format!("`{name}` is not a state"))?, n),
        }
    }
    Ok(tallied)
}

/// Who asked, in the form of the `actor` column.
#[derive(Serialize, Deserialize)]
pub(crate) struct Actor<'a> {
    /// The user's name.
    name: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Uuid>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    guest: bool,
}

impl<'a> Actor<'a> {
    /// Somebody as they were when they asked.
    pub fn of(name: &'a str, principal: Option<Principal>) -> Actor<'a> {
        let key = match principal {
            Some(Principal::Key { key, owner: _ }) => Some(key.0),
            Some(Principal::User(_) | Principal::Guest) | None => None,
        };
        let user = principal.and_then(Principal::user).map(|user| user.0);
        Actor { name: name.into(), user, key, guest: principal == Some(Principal::Guest) }
    }

    fn principal(&self) -> Option<Principal> {
        match (self.user, self.key) {
            (Some(owner), Some(key)) => Some(Principal::Key { key: KeyId(key), owner: UserId(owner) }),
            (Some(user), None) => Some(Principal::User(UserId(user))),
            (None, _) => self.guest.then_some(Principal::Guest),
        }
    }
}

/// Reads who asked: the name, and what their authority is looked up by.
pub(crate) fn submitter(actor: &str) -> Result<(String, Option<Principal>), String> {
    let actor: Actor<'_> = parse(actor)?;
    let principal = actor.principal();
    Ok((actor.name.into_owned(), principal))
}

/// The facts that have no column of their own, in the form of the `connection_info` column.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectionInfo {
    arch: String,
    hostname: String,
    compose: Option<String>,
    boot_id: String,
    labels: BTreeMap<String, String>,
}

impl ConnectionInfo {
    /// The part of `facts` that goes there.
    pub fn of(facts: &Facts) -> ConnectionInfo {
        let Facts {
            version: _,
            os: _,
            kernel: _,
            arch,
            hostname,
            container_engine: _,
            compose,
            capabilities: _,
            labels,
            boot_id,
        } = facts;
        ConnectionInfo {
            arch: arch.clone(),
            hostname: hostname.clone(),
            compose: compose.clone(),
            boot_id: boot_id.clone(),
            labels: labels.clone(),
        }
    }

    /// Puts it back beside the facts that have columns.
    pub fn into_facts(self, facts: Facts) -> Facts {
        let ConnectionInfo { arch, hostname, compose, boot_id, labels } = self;
        Facts { arch, hostname, compose, boot_id, labels, ..facts }
    }
}

/// A grant as its three JSON arrays: sites, verbs, effects.
pub(crate) fn grant_texts(grant: &Grant) -> [String; 3] {
    let Grant { sites, verbs, effects } = grant;
    let effects: Vec<&str> = effects.iter().map(|effect| effect.as_str()).collect();
    [json(sites), json(verbs), json(&effects)]
}

/// Reads what [`grant_texts`] wrote.
pub(crate) fn parse_grant(sites: &str, verbs: &str, effects: &str) -> Result<Grant, String> {
    let names: Vec<String> = parse(effects)?;
    let effect = |name: &String| Effect::parse(name).ok_or_else(|| format!("`{name}` is not an effect"));
    Ok(Grant {
        sites: parse(sites)?,
        verbs: parse(verbs)?,
        effects: names.iter().map(effect).collect::<Result<_, _>>()?,
    })
}

/// One grant in the form of the column `grants` of API keys.
#[derive(Serialize, Deserialize)]
struct Written {
    sites: Vec<String>,
    verbs: Vec<String>,
    effects: Vec<String>,
}

/// Grants as a JSON array of objects.
pub(crate) fn grants_text(grants: &[Grant]) -> String {
    let written = grants.iter().map(|Grant { sites, verbs, effects }| Written {
        sites: sites.clone(),
        verbs: verbs.clone(),
        effects: effects.iter().map(|effect| effect.as_str().to_owned()).collect(),
    });
    json(&written.collect::<Vec<_>>())
}

/// Reads what [`grants_text`] wrote.
pub(crate) fn parse_grants(text: &str) -> Result<Vec<Grant>, String> {
    let written: Vec<Written> = parse(text)?;
    let effect = |name: &String| Effect::parse(name).ok_or_else(|| format!("`{name}` is not an effect"));
    let read = |Written { sites, verbs, effects }: Written| {
        Ok(Grant { sites, verbs, effects: effects.iter().map(effect).collect::<Result<_, String>>()? })
    };
    written.into_iter().map(read).collect()
}

/// Most different words [`word`] keeps.
const WORDS: usize = 4096;

/// The one copy of a word of the audit log's small vocabulary, which code names by `&'static str`.
/// `None` past [`WORDS`] different ones: then they are no vocabulary.
pub(crate) fn word(text: &str) -> Option<&'static str> {
    static KNOWN: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(word) = known.get(text) {
        return Some(word);
    }
    if known.len() >= WORDS {
        return None;
    }
    let word: &'static str = Box::leak(text.to_owned().into_boxed_str());
    known.insert(word);
    Some(word)
}

/// An agent's name in the column `agent_id`: what is left of a deleted one has `~` and its id behind it.
pub(crate) fn name_of(written: String) -> String {
    match written.split_once('~') {
        Some((name, _)) => name.to_owned(),
        None => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_back_as_written() {
        let cases = [vec![], vec![State::Queued], vec![State::TimedOut, State::Lost, State::Lost]];
        for states in cases {
            let counts: Counts = states.into_iter().collect();
            assert_eq!(parse_counts(&counts_text(&counts)), Ok(counts));
        }
        assert_eq!(counts_text(&[State::Queued; 3].into_iter().collect()), r#"{"queued":3}"#);
        assert_eq!(parse_counts(r#"{"asleep":1}"#), Err("`asleep` is not a state".to_owned()));
    }

    #[test]
    fn a_grant_reads_back_as_written() {
        let grant = Grant::ordinary();
        let [sites, verbs, effects] = grant_texts(&grant);
        assert_eq!(parse_grant(&sites, &verbs, &effects), Ok(grant));
        assert!(parse_grant("[]", "[]", r#"["all"]"#).is_err());
        for grants in [vec![], vec![Grant::ordinary(), Grant::all()]] {
            assert_eq!(parse_grants(&grants_text(&grants)), Ok(grants));
        }
    }

    #[test]
    fn who_asked_reads_back_as_written() {
        let (user, key) = (UserId(Uuid::from_u128(1)), KeyId(Uuid::from_u128(2)));
        let of_key = Principal::Key { key, owner: user };
        for principal in [None, Some(Principal::User(user)), Some(of_key), Some(Principal::Guest)] {
            let written = json(&Actor::of("ada", principal));
            assert_eq!(submitter(&written), Ok(("ada".to_owned(), principal)), "{written}");
        }
        assert_eq!(json(&Actor::of("ada", None)), r#"{"name":"ada"}"#, "as earlier versions wrote it");
    }

    #[test]
    fn a_word_is_kept_once() {
        let first = word("command.submit").expect("room");
        assert!(std::ptr::eq(first, word(&String::from("command.submit")).expect("room")));
    }
}
