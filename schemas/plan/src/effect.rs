//! Effect classes: how much a plan can change, from harmless to root-equivalent.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Ordered from least to most; `max` of two effects is the effect of doing both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes nothing.
    Read,
    /// Changes state that can be changed back.
    Change,
    /// Removes something that cannot be had back.
    Destroy,
    /// Root-equivalent on the machine: any program, a privileged container, a host mount.
    Host,
}

impl Effect {
    /// All classes, least first.
    pub const ALL: [Effect; 4] = [Effect::Read, Effect::Change, Effect::Destroy, Effect::Host];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::Change => "change",
            Effect::Destroy => "destroy",
            Effect::Host => "host",
        }
    }

    /// The class called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Effect> {
        Effect::ALL.into_iter().find(|effect| effect.as_str() == name)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
