//! What is known of a plugin beyond its file: the versions there were, how each of them stands, and what people
//! decided. It outlives the host that learned it.
//!
//! Invariant: a version changes its state here only, by [`life::Life::step`].

pub mod breaker;
pub mod life;

use std::time::Duration;

use plan::policy::Rules;

use crate::time::Timestamp;
use life::{Happening, Life, Step};

/// How long a new version may be sent back by itself.
pub const PROBATION: Duration = Duration::from_secs(5 * 60);
/// Versions of a plugin that are kept: the one that serves and those it may be sent back to.
pub const RETAINED: usize = 3;
/// Versions that are only remembered: held back, refused, gone.
const REMEMBERED: usize = 8;

/// One plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The manifest's name.
    pub name: String,
    /// Its file in the plugin folder.
    pub file: String,
    /// Whether people let it serve; its operator's file may still switch it off.
    pub enabled: bool,
    /// Newest first: what serves, what served, what wants to.
    pub versions: Vec<Version>,
}

/// One version of it, by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// SHA-256 of the file, lower-case hex.
    pub digest: String,
    /// The manifest's version.
    pub version: String,
    /// Names of the verbs it provides.
    pub verbs: Vec<String>,
    /// Where it stands.
    pub life: Life,
    /// Since when.
    pub since: Timestamp,
    /// Why it stands there, where the state alone does not say.
    pub why: Option<String>,
    /// Whether it ever served out its probation, or had nothing to prove.
    pub proven: bool,
    /// What it may plan by what it asked for; absent while nobody consented, or where an operator's file says it.
    pub grant: Option<Rules>,
    /// Whether a person consented to that grant, and to commands it may break.
    pub approved: bool,
}

/// One change in the life of a plugin, for its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// When.
    pub at: Timestamp,
    /// The manifest's name, or the file's stem while there is none.
    pub plugin: String,
    /// The version it is about, if it is about one: its number and digest.
    pub version: Option<(String, String)>,
    /// Where it stood.
    pub from: Option<String>,
    /// Where it stands.
    pub to: String,
    /// Why, in one line.
    pub why: Option<String>,
    /// Who wanted it; absent for what the host does by itself.
    pub actor: Option<String>,
}

/// What a person may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Let it serve again.
    Enable,
    /// Switch it off.
    Disable,
    /// Go back to the version before.
    Rollback,
    /// Try again what was refused or held back.
    Retry,
    /// Consent to what the waiting version asks for.
    Approve,
}

impl Order {
    /// All of them.
    pub const ALL: [Order; 5] = [Order::Enable, Order::Disable, Order::Rollback, Order::Retry, Order::Approve];

    /// The name used in paths, audit and history.
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Enable => "enable",
            Order::Disable => "disable",
            Order::Rollback => "rollback",
            Order::Retry => "retry",
            Order::Approve => "approve",
        }
    }
}

/// Why an order does nothing now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// It is as wanted already.
    #[error("plugin `{0}` is not disabled by anybody here; see `enabled` in its operator's file")]
    Enabled(String),
    /// It is as wanted already.
    #[error("plugin `{0}` is disabled already")]
    Disabled(String),
    /// Nothing serves that could be sent back.
    #[error("plugin `{0}` has no version that serves")]
    NothingServes(String),
    /// Nothing to go back to.
    #[error("plugin `{0}` has no earlier version to go back to")]
    NothingKept(String),
    /// Nothing held back.
    #[error("plugin `{0}` has no version that was refused, quarantined or rolled back")]
    NothingHeld(String),
    /// Nothing waits.
    #[error("plugin `{0}` has no version that waits for approval")]
    NothingWaits(String),
}

impl Record {
    /// One nobody knows anything of yet.
    pub fn new(name: impl Into<String>, file: impl Into<String>) -> Record {
        Record { name: name.into(), file: file.into(), enabled: true, versions: Vec::new() }
    }

    /// The version with this digest.
    pub fn version(&self, digest: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.digest == digest)
    }

    /// The version that serves.
    pub fn serving(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.life.serves())
    }

    /// Versions that may be gone back to when `digest` cannot serve, best first.
    pub fn fallbacks<'a>(&'a self, digest: &'a str) -> impl Iterator<Item = &'a Version> {
        let good = |version: &&Version| matches!(version.life, Life::Probation | Life::Active | Life::Kept);
        self.versions.iter().filter(good).filter(move |version| version.digest != digest)
    }

    /// What the last version that served, or was approved, was granted; with `approved`, by a person only.
    pub fn granted(&self, approved: bool) -> Option<&Rules> {
        self.versions.iter().filter(|version| version.approved || !approved).find_map(|version| version.grant.as_ref())
    }

    /// Notes that there is such a version.
    pub fn see(&mut self, digest: &str, version: &str, verbs: impl FnOnce() -> Vec<String>, now: Timestamp) {
        if self.version(digest).is_none() {
            self.versions.insert(
                0,
                Version {
                    digest: digest.to_owned(),
                    version: version.to_owned(),
                    verbs: verbs(),
                    life: Life::Found,
                    since: now,
                    why: None,
                    proven: false,
                    grant: None,
                    approved: false,
                },
            );
        }
    }

    /// Lets something happen to a version; what changed, if anything did.
    pub fn step(&mut self, digest: &str, happening: Happening, why: Option<String>, now: Timestamp) -> Option<Passage> {
        let index = self.versions.iter().position(|version| version.digest == digest)?;
        let version = &mut self.versions[index];
        let Step::To(to) = version.life.step(happening) else {
            // The same sight for another reason is worth knowing, and no news.
            if why.is_some() && version.life.step(happening) == Step::Stay && !version.life.is_held_back() {
                version.why = why;
            }
            return None;
        };
        let passage = Passage {
            at: now,
            plugin: self.name.clone(),
            version: Some((version.version.clone(), version.digest.clone())),
            from: Some(version.life.as_str().to_owned()),
            to: to.as_str().to_owned(),
            why: why.clone(),
            actor: None,
        };
        version.proven |= to == Life::Active;
        (version.life, version.since, version.why) = (to, now, why);
        if to.serves() && index > 0 {
            let version = self.versions.remove(index);
            self.versions.insert(0, version);
        }
        Some(passage)
    }

    /// When the probation of what serves is over.
    pub fn probation_ends(&self) -> Option<Timestamp> {
        self.serving().filter(|version| version.life == Life::Probation).map(|version| version.since + PROBATION)
    }

    /// Carries out what `actor` wants. `waiting` is the version that lies in the folder.
    ///
    /// # Errors
    /// Why there is nothing to carry out.
    pub fn order(
        &mut self,
        order: Order,
        waiting: Option<&str>,
        actor: &str,
        now: Timestamp,
    ) -> Result<Passage, NotNow> {
        let name = self.name.clone();
        let present = |life: fn(Life) -> bool| {
            let mut fitting = self.versions.iter().filter(|version| life(version.life));
            fitting.find(|version| waiting.is_none_or(|digest| digest == version.digest)).map(|v| v.digest.clone())
        };
        let (digest, happening) = match order {
            Order::Enable if self.enabled => return Err(NotNow::Enabled(name)),
            Order::Disable if !self.enabled => return Err(NotNow::Disabled(name)),
            Order::Enable | Order::Disable => {
                self.enabled = order == Order::Enable;
                let version = self.versions.first().map(|v| (v.version.clone(), v.digest.clone()));
                let [from, to] = if self.enabled { ["disabled", "enabled"] } else { ["enabled", "disabled"] };
                return Ok(Passage {
                    at: now,
                    plugin: name,
                    version,
                    from: Some(from.to_owned()),
                    to: to.to_owned(),
                    why: Some(order.as_str().to_owned()),
                    actor: Some(actor.to_owned()),
                });
            }
            Order::Rollback => {
                let Some(serving) = self.serving().map(|version| version.digest.clone()) else {
                    return Err(NotNow::NothingServes(name));
                };
                if self.fallbacks(&serving).next().is_none() {
                    return Err(NotNow::NothingKept(name));
                }
                (serving, Happening::Rollback)
            }
            Order::Retry => {
                let held = present(|life| life.is_held_back() || life == Life::Refused);
                (held.ok_or(NotNow::NothingHeld(name))?, Happening::Retry)
            }
            Order::Approve => {
                let waits = present(|life| life == Life::NeedsApproval);
                (waits.ok_or(NotNow::NothingWaits(name))?, Happening::Approve)
            }
        };
        let why = format!("{} by {actor}", order.as_str());
        let passage =
            self.step(&digest, happening, Some(why), now).ok_or_else(|| NotNow::NothingHeld(self.name.clone()))?;
        if order == Order::Approve
            && let Some(version) = self.versions.iter_mut().find(|version| version.digest == digest)
        {
            version.approved = true;
        }
        Ok(Passage { actor: Some(actor.to_owned()), ..passage })
    }

    /// Sets what a version may plan by what it asked for.
    pub fn grant(&mut self, digest: &str, grant: Option<Rules>) {
        if let Some(version) = self.versions.iter_mut().find(|version| version.digest == digest) {
            version.grant = grant;
        }
    }

    /// Forgets versions beyond those that are kept, and the oldest of those that are only remembered.
    pub fn trim(&mut self) {
        let (mut kept, mut remembered) = (0, 0);
        self.versions.retain(|version| match version.life {
            Life::Probation | Life::Active | Life::Kept => {
                kept += 1;
                kept <= RETAINED
            }
            Life::Found
            | Life::NeedsApproval
            | Life::Refused
            | Life::Disabled
            | Life::Quarantined
            | Life::RolledBack
            | Life::Removed => {
                remembered += 1;
                remembered <= REMEMBERED
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// A plugin whose versions `a`, `b`, … came one after the other and stand like this, newest first.
    fn record(lives: &[(&str, Life)]) -> Record {
        let mut record = Record::new("demo", "demo.wasm");
        for (digest, life) in lives.iter().rev() {
            record.see(digest, "1.0.0", Vec::new, NOW);
            record.versions[0].life = *life;
        }
        record
    }

    fn lives(record: &Record) -> Vec<(&str, Life)> {
        record.versions.iter().map(|version| (version.digest.as_str(), version.life)).collect()
    }

    #[test]
    fn a_version_that_fails_on_probation_leaves_the_one_before_to_go_back_to() {
        let mut record = record(&[("b", Life::Found), ("a", Life::Active)]);
        record.step("b", Happening::Try, None, NOW).expect("begins");
        record.step("a", Happening::Supersede, None, NOW).expect("steps back");
        assert_eq!(record.probation_ends(), Some(NOW + PROBATION));
        let passage = record.step("b", Happening::Trip, Some("5 faults in a row".into()), NOW).expect("sent back");
        assert_eq!((passage.from.as_deref(), passage.to.as_str()), (Some("probation"), "quarantined"));
        assert_eq!(record.fallbacks("b").map(|version| version.digest.as_str()).collect::<Vec<_>>(), ["a"]);
        record.step("a", Happening::Begin, None, NOW).expect("comes back");
        assert_eq!(lives(&record), [("a", Life::Active), ("b", Life::Quarantined)]);
        // The same file is looked at again and again; it stays where it is, and so does the reason.
        assert_eq!(record.step("b", Happening::Begin, Some("seen again".into()), NOW), None);
        assert_eq!(record.versions[1].why.as_deref(), Some("5 faults in a row"));
    }

    #[test]
    fn an_order_does_what_it_says_or_says_why_not() {
        use Life::*;
        for (before, order, after) in [
            (vec![("b", Active), ("a", Kept)], Order::Rollback, Ok(vec![("b", RolledBack), ("a", Kept)])),
            (vec![("b", Active)], Order::Rollback, Err(NotNow::NothingKept("demo".into()))),
            (vec![("b", Quarantined)], Order::Rollback, Err(NotNow::NothingServes("demo".into()))),
            (vec![("a", Active), ("b", Quarantined)], Order::Retry, Ok(vec![("a", Active), ("b", Found)])),
            (vec![("b", RolledBack)], Order::Retry, Ok(vec![("b", Found)])),
            (vec![("b", Active)], Order::Retry, Err(NotNow::NothingHeld("demo".into()))),
            (vec![("b", NeedsApproval), ("a", Active)], Order::Approve, Ok(vec![("b", Found), ("a", Active)])),
            (vec![("b", Active)], Order::Approve, Err(NotNow::NothingWaits("demo".into()))),
            (vec![("b", Active)], Order::Enable, Err(NotNow::Enabled("demo".into()))),
            (vec![("b", Active)], Order::Disable, Ok(vec![("b", Active)])),
        ] {
            let mut record = record(&before);
            let done = record.order(order, Some("b"), "ada", NOW);
            assert_eq!(done.clone().map(|_| lives(&record)), after, "{order:?} {before:?}");
            assert!(done.is_err() || done.is_ok_and(|passage| passage.actor.as_deref() == Some("ada")));
        }
        let mut off = record(&[("b", Active)]);
        off.order(Order::Disable, None, "ada", NOW).expect("off");
        assert_eq!(
            (off.enabled, off.order(Order::Disable, None, "ada", NOW)),
            (false, Err(NotNow::Disabled("demo".into())))
        );
        off.order(Order::Enable, None, "ada", NOW).expect("on again");
        assert!(off.enabled);
    }

    #[test]
    fn only_what_somebody_consented_to_counts_where_nothing_is_granted_by_itself() {
        let mut record = record(&[("b", Life::NeedsApproval), ("a", Life::Active)]);
        record.grant("a", Some(Rules::default()));
        assert_eq!((record.granted(false).is_some(), record.granted(true).is_some()), (true, false));
        record.order(Order::Approve, Some("b"), "ada", NOW).expect("approved");
        record.grant("b", Some(Rules::default()));
        assert!(record.granted(true).is_some());
    }

    #[test]
    fn three_versions_are_kept_and_a_few_more_remembered() {
        let mut record = Record::new("demo", "demo.wasm");
        for n in 0..30 {
            record.see(&n.to_string(), "1.0.0", Vec::new, NOW);
            record.versions[0].life = if n % 2 == 0 { Life::Kept } else { Life::Quarantined };
        }
        record.trim();
        let count = |life| record.versions.iter().filter(|version| version.life == life).count();
        assert_eq!((count(Life::Kept), count(Life::Quarantined)), (RETAINED, REMEMBERED));
        assert_eq!(record.versions[0].digest, "29");
    }
}
