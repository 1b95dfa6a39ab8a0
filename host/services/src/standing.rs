//! What the submitters of waiting commands may do now. A command is checked when it is submitted and again when
//! it is sent; between the two its submitter may have lost a grant, a key or their account.
//!
//! Whoever sends asks from memory. Every two seconds, and at once when this host changed something, the audit log
//! says whether memory is behind. While the store is away the latest word stands.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use domain::access::{Caller, Permission, Principal};
use domain::attempt::Withdrawn;
use domain::command::Command;
use domain::time::Timestamp;
use plan::effect::Effect;
use ports::api_keys::{ApiKey, ApiKeys};
use ports::clock::Clock;
use ports::error::StoreError;
use ports::journal::Journal;
use ports::users::{User, Users};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Between looks.
const EVERY: Duration = Duration::from_secs(2);
/// Most submitters remembered; beyond it all are forgotten, and read again when they are asked for.
const CAPACITY: usize = 20_000;
/// How often somebody is read because a look came between; whoever sends asks again for those who were not learned.
const TRIES: usize = 5;

/// What is recorded in the transaction of whatever changes who somebody is or what they may.
const CHANGES: [&str; 4] = ["users.create", "users.change", "users.delete", "auth.revoke_api_key"];

/// Submitters and what they may.
pub struct Standing {
    users: Arc<dyn Users>,
    keys: Arc<dyn ApiKeys>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    memory: RwLock<Memory>,
    /// The newest of [`CHANGES`] that was looked at; `None` before the first look.
    seen: Mutex<Option<u64>>,
    stale: Notify,
}

/// Who is known.
#[derive(Debug, Default)]
struct Memory {
    callers: HashMap<Who, Option<Held>>,
    /// How many looks have asked what changed. What was read before the last of them may be older than what it saw, and
    /// nothing would have it read again.
    looks: u64,
}

/// What is known of a submitter who is there.
#[derive(Clone, Debug)]
struct Held {
    caller: Caller,
    /// When it is over by itself; `None` until it was read, and for users.
    until: Option<Timestamp>,
    /// From a row, and not from what it came with.
    read: bool,
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
    MayNot(Objection),
    /// Nobody has looked yet: see [`Standing::learn`].
    Unknown,
}

/// Why a command is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// Whose doing it is.
    pub why: Withdrawn,
    /// More of it, for people.
    pub message: String,
}

impl Verdict {
    fn may_not(message: String) -> Verdict {
        Verdict::MayNot(Objection { why: Withdrawn::Submitter, message })
    }
}

impl Standing {
    /// Nobody is known yet.
    pub fn new(
        users: Arc<dyn Users>,
        keys: Arc<dyn ApiKeys>,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
    ) -> Standing {
        let (memory, seen, stale) = (RwLock::default(), Mutex::default(), Notify::new());
        Standing { users, keys, journal, clock, memory, seen, stale }
    }

    fn known(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn know(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `command` may run with `effect` at `site`. Never waits.
    pub fn verdict(&self, command: &Command, effect: Effect, site: &str) -> Verdict {
        let who = Who::of(command);
        // What another issuer said was good when it was submitted; nothing is stored that could be asked.
        if who == Who::Is(Principal::Guest) {
            return Verdict::May;
        }
        let memory = self.known();
        let held = memory.callers.get(&who).map(|held| held.as_ref().filter(|held| held.is_good(&self.clock)));
        match held {
            None => Verdict::Unknown,
            Some(None) => Verdict::may_not(match who {
                Who::Is(Principal::Key { .. }) => {
                    format!("the API key of `{}` that submitted it is no longer good", command.submitter)
                }
                Who::Is(Principal::User(_) | Principal::Guest) | Who::Named(_) => {
                    format!("`{}`, who submitted it, was deleted", command.submitter)
                }
            }),
            Some(Some(Held { caller, .. })) => match caller.may_run(&command.verb, effect, site) {
                Ok(()) => Verdict::May,
                Err(error) => Verdict::may_not(format!("`{}`, who submitted it, may no longer: {error}", caller.name)),
            },
        }
    }

    /// Takes in somebody who was let submit just now.
    pub fn note(&self, caller: &Caller) {
        if caller.may(Permission::RunCommands).is_ok() {
            let held = || Some(Held { caller: caller.clone(), until: None, read: false });
            self.know().callers.entry(Who::Is(caller.principal)).or_insert_with(held);
        }
    }

    /// Reads whoever submitted these and is not known yet. Nothing is taken in that was read before a look and comes
    /// after it: that look did not know them, and the next one finds nothing new to read them again for.
    ///
    /// # Errors
    /// The store's.
    pub async fn learn(&self, commands: impl IntoIterator<Item = &Command> + Send) -> Result<(), StoreError> {
        let unknown: BTreeSet<Who> = {
            let memory = self.known();
            commands.into_iter().map(Who::of).filter(|who| !memory.callers.contains_key(who)).collect()
        };
        if self.known().callers.len() + unknown.len() > CAPACITY {
            self.know().callers.clear();
        }
        for who in unknown {
            for _ in 0..TRIES {
                let looks = self.known().looks;
                let held = self.read(&who).await?;
                let mut memory = self.know();
                if memory.looks == looks {
                    memory.callers.insert(who, held);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Says that users or keys have changed.
    pub fn changed(&self) {
        self.stale.notify_one();
    }

    /// Looks again and again until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.stale.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "what submitters may could not be looked at; trying again in a moment");
            }
        }
    }

    /// Reads anew whoever is known, if anything was changed since the last look: what a change is recorded with says
    /// so, however many users there are. Who was only noted is read in any case.
    ///
    /// # Errors
    /// The store's; what was known stands then.
    pub async fn look(&self) -> Result<(), StoreError> {
        // Before the rows, so that no change falls between the two.
        let newest = self.journal.newest_audit(&CHANGES).await?;
        let same = *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == Some(newest);
        let is_stale = |held: &Option<Held>| !same || held.as_ref().is_some_and(|held| !held.read);
        let stale: Vec<Who> = {
            let mut memory = self.know();
            memory.looks += 1;
            memory.callers.iter().filter(|(_, held)| is_stale(held)).map(|(who, _)| who.clone()).collect()
        };
        let mut read = Vec::with_capacity(stale.len());
        for who in stale {
            let held = self.read(&who).await?;
            read.push((who, held));
        }
        self.know().callers.extend(read);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
        Ok(())
    }

    /// Somebody as they are stored; `None` when they are not there, or no longer good.
    async fn read(&self, who: &Who) -> Result<Option<Held>, StoreError> {
        Ok(match who {
            Who::Is(Principal::User(user)) => self.users.user(*user).await?.map(|user| Held::user(&user)),
            Who::Is(Principal::Key { key, owner }) => match self.keys.api_key(*key).await? {
                Some(key) if key.owner == *owner && key.revoked_at.is_none() => {
                    self.users.user(*owner).await?.map(|owner| Held::key(&key, &owner))
                }
                Some(_) | None => None,
            },
            Who::Is(Principal::Guest) => None,
            Who::Named(name) => self.users.user_named(name).await?.map(|user| Held::user(&user)),
        })
    }
}

impl Held {
    fn user(user: &User) -> Held {
        Held { caller: user.caller(), until: None, read: true }
    }

    fn key(key: &ApiKey, owner: &User) -> Held {
        Held { caller: key.caller(owner), until: Some(key.expires_at), read: true }
    }

    fn is_good(&self, clock: &Arc<dyn Clock>) -> bool {
        self.until.is_none_or(|until| clock.now() < until)
    }
}
