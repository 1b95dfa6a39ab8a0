//! One enrolled machine and what is known of it.

use std::collections::BTreeMap;
use std::fmt;

use plan::id::AgentId;

use crate::time::Timestamp;
use crate::verb::Profile;

/// Whether work can reach an agent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentStatus {
    /// It has a session and its heartbeats arrive.
    Online,
    /// It has a session, but missed a heartbeat or reports trouble of its own.
    Degraded,
    /// It has no session.
    Offline,
    /// An operator took it out of `all` and site targets; alerts are mute.
    Maintenance,
    /// It joined and waits for an operator's approval; nothing is sent to it.
    Pending,
}

impl AgentStatus {
    /// All statuses.
    pub const ALL: [AgentStatus; 5] = [
        AgentStatus::Online,
        AgentStatus::Degraded,
        AgentStatus::Offline,
        AgentStatus::Maintenance,
        AgentStatus::Pending,
    ];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            AgentStatus::Online => "online",
            AgentStatus::Degraded => "degraded",
            AgentStatus::Offline => "offline",
            AgentStatus::Maintenance => "maintenance",
            AgentStatus::Pending => "pending",
        }
    }

    /// The status called `name`, if there is one.
    pub fn parse(name: &str) -> Option<AgentStatus> {
        AgentStatus::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl fmt::Display for AgentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An agent's unique name: `[a-z0-9][a-z0-9._-]{0,62}`, and never the text of a UUID.
pub fn is_agent_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '_', '-'])
        && text.parse::<AgentId>().is_err()
}

/// A site's name, a label's key or a label's value: 1 to 63 of `[A-Za-z0-9._/-]`.
pub fn is_label_text(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-');
    (1..=63).contains(&text.len()) && text.bytes().all(allowed)
}

/// What an agent said of its machine at its last HELLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Version of the agent program.
    pub version: String,
    /// Operating system.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Architecture.
    pub arch: String,
    /// Host name.
    pub hostname: String,
    /// Container engine and version, e.g. `docker 28.2.2`, or `docker unreachable`.
    pub container_engine: Option<String>,
    /// Flavour and version, e.g. `v2 2.26.1`.
    pub compose: Option<String>,
    /// Sorted capabilities.
    pub capabilities: Vec<String>,
    /// Labels from the agent's own configuration.
    pub labels: BTreeMap<String, String>,
    /// Changes with every boot.
    pub boot_id: String,
}

impl Facts {
    /// The kind of machine this is, for planning: names without versions, so that one plan serves many.
    pub fn profile(&self) -> Profile {
        let name = |fact: &Option<String>| fact.as_deref()?.split_whitespace().next().map(str::to_owned);
        Profile {
            os: self.os.clone(),
            arch: self.arch.clone(),
            container_engine: name(&self.container_engine),
            compose: name(&self.compose),
        }
    }
}

/// One enrolled machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its unique name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Labels set at the host; they win over the agent's own.
    pub labels: BTreeMap<String, String>,
    /// Its public key, base64url.
    pub public_key: String,
    /// What it said last; default before its first HELLO.
    pub facts: Facts,
    /// An operator took it out of `all` and site targets.
    pub maintenance: bool,
    /// It joined and waits for an operator's approval.
    pub awaits_approval: bool,
    /// When it was revoked, if it was. A revoked key is refused for ever.
    pub revoked_at: Option<Timestamp>,
    /// When it was deleted, if it was; then it is revoked, too. What is left of it is its history.
    pub deleted_at: Option<Timestamp>,
    /// When it was asked for another key that it has not proven yet.
    pub rotation_asked_at: Option<Timestamp>,
    /// When it joined.
    pub created_at: Timestamp,
    /// When it was last heard.
    pub last_seen: Option<Timestamp>,
    /// The number of its latest session; 0 before the first.
    pub session_epoch: u64,
    /// A session was open when its host last wrote about it: what reads `queued` may have been sent.
    pub maybe_sent: bool,
}

/// What operators change of an agent and ask of it, apart from all that changes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its site.
    pub site: String,
    /// Labels set at the host.
    pub labels: BTreeMap<String, String>,
    /// Taken out of `all` and site targets.
    pub maintenance: bool,
    /// Nobody has let it in yet.
    pub awaits_approval: bool,
    /// Since when another key is asked of it, until it has one.
    pub rotation_asked_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl Agent {
    /// As operators have it.
    pub fn placed(&self) -> Placed {
        let Agent { site, labels, maintenance, awaits_approval, rotation_asked_at, revoked_at, .. } = self;
        Placed {
            site: site.clone(),
            labels: labels.clone(),
            maintenance: *maintenance,
            awaits_approval: *awaits_approval,
            rotation_asked_at: *rotation_asked_at,
            revoked_at: *revoked_at,
        }
    }

    /// Its own labels overlaid with those set at the host.
    pub fn effective_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.facts.labels.clone();
        labels.extend(self.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        labels
    }

    /// The kind of machine it is, for planning.
    pub fn profile(&self) -> Profile {
        self.facts.profile()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_names_without_versions() {
        let facts = |engine: Option<&str>, compose: Option<&str>| Facts {
            container_engine: engine.map(str::to_owned),
            compose: compose.map(str::to_owned),
            ..Facts::default()
        };
        for (facts, engine, compose) in [
            (facts(None, None), None, None),
            (facts(Some("docker 28.2.2, client 27.5.1"), Some("v2 2.26.1")), Some("docker"), Some("v2")),
            (facts(Some("docker unreachable"), Some("v1 1.29.2")), Some("docker"), Some("v1")),
            (facts(Some("podman"), Some("v2-standalone 2.1")), Some("podman"), Some("v2-standalone")),
        ] {
            let profile = facts.profile();
            assert_eq!((profile.container_engine.as_deref(), profile.compose.as_deref()), (engine, compose));
        }
    }

    #[test]
    fn agent_names_are_never_ids() {
        for good in ["web-01", "a", "0", "db.eu_1", &"a".repeat(63)] {
            assert!(is_agent_name(good), "{good}");
        }
        for bad in ["", "-a", ".a", "Web", "a b", "a/b", "0193f2a4-7c1e-7abc-8def-0123456789ab", &"a".repeat(64)] {
            assert!(!is_agent_name(bad), "{bad}");
        }
    }
}
