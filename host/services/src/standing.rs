//! What the submitters of waiting commands may do now. A command is checked when it is submitted and again when
//! it is sent; between the two its submitter may have lost a grant, a key or their account.
//!
//! Whoever sends asks from memory, which is read anew every two seconds, and at once when this host changed
//! something. While the store is away the latest word stands.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use domain::access::{Caller, Permission, Principal};
use domain::command::Command;
use plan::effect::Effect;
use plan::id::{KeyId, UserId};
use ports::api_keys::{ApiKey, ApiKeys};
use ports::clock::Clock;
use ports::error::StoreError;
use ports::users::{User, Users};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Between looks.
const EVERY: Duration = Duration::from_secs(2);
/// Most submitters remembered; beyond it all are forgotten, and read again when they are asked for.
const CAPACITY: usize = 20_000;

/// Submitters and what they may.
pub struct Standing {
    /// Where users are kept.
    pub users: Arc<dyn Users>,
    /// Where keys are kept.
    pub keys: Arc<dyn ApiKeys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is known.
    pub known: Known,
}

/// What is known of submitters; `None` = they are gone.
#[derive(Default)]
pub struct Known {
    callers: RwLock<HashMap<Who, Option<Caller>>>,
    stale: Notify,
}

impl Known {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Who, Option<Caller>>> {
        self.callers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Who, Option<Caller>>> {
        self.callers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A submitter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    /// By what is stored with the command.
    Is(Principal),
    /// By name alone: an earlier version stored the command.
    Named(String),
}

impl Who {
    fn of(command: &Command) -> Who {
        command.principal.map_or_else(|| Who::Named(command.submitter.clone()), Who::Is)
    }
}

/// What is to become of a command that is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its submitter may still have it run.
    May,
    /// They may not, and why.
    MayNot(String),
    /// Nobody has looked yet: see [`Standing::learn`].
    Unknown,
}

impl Standing {
    /// Whether `command` may run with `effect` at `site`. Never waits.
    pub fn verdict(&self, command: &Command, effect: Effect, site: &str) -> Verdict {
        let who = Who::of(command);
        // What another issuer said was good when it was submitted; nothing is stored that could be asked.
        if who == Who::Is(Principal::Guest) {
            return Verdict::May;
        }
        let callers = self.known.read();
        match callers.get(&who) {
            None => Verdict::Unknown,
            Some(None) => Verdict::MayNot(match who {
                Who::Is(Principal::Key { .. }) => {
                    format!("the API key of `{}` that submitted it is no longer good", command.submitter)
                }
                Who::Is(Principal::User(_) | Principal::Guest) | Who::Named(_) => {
                    format!("`{}`, who submitted it, was deleted", command.submitter)
                }
            }),
            Some(Some(caller)) => match caller.may_run(&command.verb, effect, site) {
                Ok(()) => Verdict::May,
                Err(error) => Verdict::MayNot(format!("`{}`, who submitted it, may no longer: {error}", caller.name)),
            },
        }
    }

    /// Takes in somebody who was let submit just now.
    pub fn note(&self, caller: &Caller) {
        if caller.may(Permission::RunCommands).is_ok() {
            self.known.write().entry(Who::Is(caller.principal)).or_insert_with(|| Some(caller.clone()));
        }
    }

    /// Reads whoever submitted these and is not known yet.
    ///
    /// # Errors
    /// The store's.
    pub async fn learn(&self, commands: impl IntoIterator<Item = &Command> + Send) -> Result<(), StoreError> {
        let unknown: BTreeSet<Who> = {
            let callers = self.known.read();
            commands.into_iter().map(Who::of).filter(|who| !callers.contains_key(who)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let rows = self.read().await?;
        let mut callers = self.known.write();
        if callers.len() + unknown.len() > CAPACITY {
            callers.clear();
        }
        for who in unknown {
            let caller = rows.caller(&who);
            callers.insert(who, caller);
        }
        Ok(())
    }

    /// Says that users or keys have changed.
    pub fn changed(&self) {
        self.known.stale.notify_one();
    }

    /// Looks again and again until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.known.stale.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "what submitters may could not be looked at; trying again in a moment");
            }
        }
    }

    /// Reads everybody known anew.
    ///
    /// # Errors
    /// The store's; what was known stands then.
    pub async fn look(&self) -> Result<(), StoreError> {
        let asked: Vec<Who> = self.known.read().keys().cloned().collect();
        if asked.is_empty() {
            return Ok(());
        }
        let rows = self.read().await?;
        let mut callers = self.known.write();
        for who in asked {
            let caller = rows.caller(&who);
            callers.insert(who, caller);
        }
        Ok(())
    }

    async fn read(&self) -> Result<Rows, StoreError> {
        let now = self.clock.now();
        let users = self.users.users().await?.into_iter().map(|user| (user.id, user)).collect();
        let keys = self.keys.api_keys(None).await?.into_iter().filter(|key| key.is_good(now));
        Ok(Rows { users, keys: keys.map(|key| (key.id, key)).collect() })
    }
}

/// Users and good keys as they are stored.
struct Rows {
    users: HashMap<UserId, User>,
    keys: HashMap<KeyId, ApiKey>,
}

impl Rows {
    fn caller(&self, who: &Who) -> Option<Caller> {
        match who {
            Who::Is(Principal::User(user)) => self.users.get(user).map(User::caller),
            Who::Is(Principal::Key { key, owner }) => {
                let (key, owner) = (self.keys.get(key)?, self.users.get(owner)?);
                (key.owner == owner.id).then(|| key.caller(owner))
            }
            Who::Is(Principal::Guest) => None,
            Who::Named(name) => self.users.values().find(|user| user.name == *name).map(User::caller),
        }
    }
}
