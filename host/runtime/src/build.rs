//! A plugin's bytes once they passed the gates: what they are, what they provide, how they behave.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::plugin::breaker::{Breaker, Limits};
use domain::verb::VerbTraits;
use plan::manifest::{Example, Manifest};
use ports::plugins::{PluginIdentity, VerbContract};

use crate::abi::Prepared;
use crate::schema::Schema;
use crate::signature::Signer;
use crate::tier::Tier;

/// A component that passed gates 1 to 8.
pub(crate) struct Build {
    pub(crate) identity: PluginIdentity,
    pub(crate) manifest: Manifest,
    pub(crate) imports: Vec<String>,
    pub(crate) tier: Tier,
    pub(crate) prepared: Prepared,
    pub(crate) verbs: Vec<Arc<VerbBuild>>,
    pub(crate) config_schema: Option<Schema>,
    /// Who signed these bytes.
    pub(crate) signer: Signer,
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

/// How these bytes behave, counted over all configurations they serve under.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// All of them.
    pub(crate) total: AtomicU64,
    watch: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    breaker: Breaker,
    tripped: Option<String>,
}

impl Faults {
    /// Counts one call; true when it was the one too many.
    pub(crate) fn note(&self, limits: Limits, well: bool, at: Duration) -> bool {
        if !well {
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        match watch.breaker.note(limits, well, at) {
            Some(why) => {
                watch.tripped = Some(why);
                true
            }
            None => false,
        }
    }

    /// Why there should be no more calls, if so.
    pub(crate) fn tripped(&self) -> Option<String> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).tripped.clone()
    }

    /// Somebody wants it tried again.
    pub(crate) fn forgive(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.breaker.reset();
        watch.tripped = None;
    }
}

impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", self.identity.name, self.identity.version, self.identity.digest)
    }
}
