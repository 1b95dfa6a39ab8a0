//! Learns what other hosts did: which agents came, went or were changed there, and what was accepted there for
//! agents that have their session here. Takes no input: it looks at the store; a call makes it look sooner.

use std::sync::Arc;
use std::time::Duration;

use domain::agent::Agent;
use ports::error::StoreError;
use ports::hosts::{Found, Hosts};
use ports::link::Link;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::rhythm::Rhythm;

/// Between looks: this is how late a word of another host may come.
const EVERY: Duration = Duration::from_millis(500);
/// Events read at once.
const STEP: u32 = 1_000;
/// Between looks at every agent there is.
const WHOLE_EVERY: u32 = 60;

/// The use case.
pub struct Neighbours {
    /// The others.
    pub hosts: Arc<dyn Hosts>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Sessions here.
    pub link: Arc<dyn Link>,
    /// Rung when somebody told of something.
    pub call: Arc<Notify>,
    /// The last event that was looked at.
    pub after: u64,
}

impl Neighbours {
    /// Looks until told to stop; at once over when no other host can share the store.
    pub async fn run(mut self, stop: CancellationToken) {
        if !self.hosts.is_shared() {
            return;
        }
        let mut rhythm = Rhythm::new(EVERY, stop);
        let mut looks = 0_u32;
        loop {
            let call = self.call.clone();
            tokio::select! {
                more = rhythm.next() => {
                    if !more {
                        return;
                    }
                    looks = looks.wrapping_add(1);
                    if looks.is_multiple_of(WHOLE_EVERY) && let Err(error) = self.whole().await {
                        tracing::debug!(%error, "agents could not be read; trying again in a while");
                    }
                }
                () = call.notified() => {}
            }
            if let Err(error) = self.step().await {
                tracing::debug!(%error, "other hosts' work could not be looked for; trying again in a moment");
            }
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// The store's; what was taken in until then stays so.
    pub async fn step(&mut self) -> Result<(), StoreError> {
        for (agent, first) in self.hosts.waiting().await? {
            self.link.look(agent, first);
        }
        loop {
            let changes = self.hosts.agents_since(self.after, STEP).await?;
            let over = changes.upto == self.after;
            changes.agents.into_iter().for_each(|found| self.take(found));
            self.after = changes.upto;
            if over {
                return Ok(());
            }
        }
    }

    /// Every agent: what no event told of is found here.
    async fn whole(&self) -> Result<(), StoreError> {
        self.hosts.agents_anywhere().await?.into_iter().for_each(|found| self.take(found));
        Ok(())
    }

    fn take(&self, found: Found) {
        let Agent { id, session_epoch, revoked_at, rotation_asked_at, .. } = found.agent;
        self.link.latest(id, session_epoch, found.open);
        self.directory.found(found);
        if revoked_at.is_some() {
            self.link.cut(id, "the key was revoked at another host");
        } else if rotation_asked_at.is_some() {
            self.link.ask_key(id);
        }
    }
}
