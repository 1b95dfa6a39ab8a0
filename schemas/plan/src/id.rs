//! Typed ids. Every id is a UUIDv7 made by the host, so ids sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Declares one UUID newtype; a macro only because they must never drift apart.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Accepts the hyphenated form only, lower or upper case.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if text.len() != 36 {
                    return Err(InvalidId { text: text.chars().take(64).collect() });
                }
                Uuid::parse_str(text).map($name).map_err(|_| InvalidId { text: text.to_owned() })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            /// Documents have one form of each id: what is read is what would be written.
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                one_form(deserializer)
            }
        }
    };
}

/// Reads an id in the form it is written in, without upper-case letters.
fn one_form<'de, D: serde::Deserializer<'de>, T: FromStr<Err = InvalidId>>(deserializer: D) -> Result<T, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    let invalid = || InvalidId { text: text.chars().take(64).collect() };
    let lower = (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(text.as_ref()).ok_or_else(invalid);
    lower.and_then(str::parse).map_err(serde::de::Error::custom)
}

uuid_id! {
    /// One installation's identity, made at first start and pinned by every agent.
    ClusterId
}
uuid_id! {
    /// One enrolled machine. Never reused, not even after deletion.
    AgentId
}
uuid_id! {
    /// One accepted intent.
    CommandId
}
uuid_id! {
    /// One person or program that may log in.
    UserId
}
uuid_id! {
    /// One join token, by its public half.
    TokenId
}
uuid_id! {
    /// One chain of audit entries: those of one start of one host.
    ChainId
}

uuid_id! {
    /// One API key, by its public half.
    KeyId
}
uuid_id! {
    /// One alert: what a rule finds wrong with one thing of one agent, each time it does.
    AlertId
}
uuid_id! {
    /// One silence.
    SilenceId
}
uuid_id! {
    /// One place where people are told of alerts.
    ChannelId
}
uuid_id! {
    /// One message to one of those.
    NoticeId
}

/// Text that is not a hyphenated UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id (expected a UUID such as 0193f2a4-7c1e-7abc-8def-0123456789ab)")]
pub struct InvalidId {
    /// What was found, at most 64 characters of it.
    pub text: String,
}

/// One try of one invocation, as the agent that runs it knows it: the command and the number of the
/// try, from 1. The text form is `<command id>/<number>`.
///
/// The number is part of what the agent remembers, so a replayed frame can never start again under
/// a fresh name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// The command this is a try of.
    pub command: CommandId,
    /// From 1.
    pub number: u32,
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.command, self.number)
    }
}

impl FromStr for AttemptKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { text: text.chars().take(64).collect() };
        let (command, number) = text.split_once('/').ok_or_else(invalid)?;
        let canonical = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        let number: u32 = number.parse().map_err(|_| invalid())?;
        if !canonical || number == 0 {
            return Err(invalid());
        }
        Ok(AttemptKey { command: command.parse()?, number })
    }
}

impl Serialize for AttemptKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AttemptKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_form(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_key_reads_back_as_it_was_written() {
        let text = "0193f2a4-7c1e-7abc-8def-0123456789ab/3";
        let key: AttemptKey = text.parse().expect("valid key");
        assert_eq!((key.number, key.to_string().as_str()), (3, text));
    }

    #[test]
    fn a_document_has_one_form_of_an_id_and_people_may_shout() {
        let id = "0193f2a4-7c1e-7abc-8def-0123456789ab";
        let reads = |text: &str| serde_json::from_value::<CommandId>(text.into()).is_ok();
        let reads_attempt = |text: &str| serde_json::from_value::<AttemptKey>(format!("{text}/1").into()).is_ok();
        assert!(reads(id) && reads_attempt(id));
        let other = [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}")];
        for other in &other {
            assert!(!reads(other) && !reads_attempt(other), "{other}");
        }
        assert!(other[0].parse::<CommandId>().is_ok(), "in a path, say");
        let written = serde_json::to_value(id.parse::<CommandId>().expect("an id")).expect("text");
        assert_eq!(written, id);
    }

    #[test]
    fn odd_attempt_keys_are_refused() {
        let id = "0193f2a4-7c1e-7abc-8def-0123456789ab";
        for tail in ["", "/", "/0", "/01", "/+1", "/-1", "/x", "/4294967296", "/1/1"] {
            assert!(format!("{id}{tail}").parse::<AttemptKey>().is_err(), "{tail}");
        }
        assert!("{0193f2a4-7c1e-7abc-8def-0123456789ab}/1".parse::<AttemptKey>().is_err());
    }
}
