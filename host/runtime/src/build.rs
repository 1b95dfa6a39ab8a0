//! A plugin's bytes once they passed the gates: what they are, what they provide, how they behave.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use domain::verb::VerbTraits;
use plan::manifest::{Example, Manifest};
use ports::plugins::{PluginIdentity, VerbContract};

use crate::abi::Prepared;
use crate::schema::Schema;

/// A component that passed gates 1 to 8.
pub(crate) struct Build {
    pub(crate) identity: PluginIdentity,
    pub(crate) manifest: Manifest,
    pub(crate) imports: Vec<String>,
    pub(crate) prepared: Prepared,
    pub(crate) verbs: Vec<Arc<VerbBuild>>,
    pub(crate) config_schema: Option<Schema>,
    /// Faults of these bytes since they were loaded.
    pub(crate) faults: Faults,
}

/// One verb of it.
pub(crate) struct VerbBuild {
    pub(crate) traits: VerbTraits,
    pub(crate) contract: VerbContract,
    pub(crate) args: Schema,
    pub(crate) result: Schema,
    pub(crate) examples: Vec<Example>,
}

/// Counted, not judged: what follows from a count is decided elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// All of them.
    pub(crate) total: AtomicU64,
    /// Those since the last call that went well.
    pub(crate) in_a_row: AtomicU64,
}

impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", self.identity.name, self.identity.version, self.identity.digest)
    }
}
