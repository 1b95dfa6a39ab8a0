//! Lets go what is held because it came out of a backup.
//!
//! The attempt keeps its number, so an agent that had it already runs nothing twice: it answers with
//! what its journal remembers. The envelope is signed again, because agents refuse the epoch of before.

use std::sync::Arc;

use domain::access::{Caller, Forbidden, Permission};
use domain::attempt::{Event, Reason, State};
use domain::command::Status;
use plan::id::{AgentId, CommandId};
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Due, Word};
use ports::error::StoreError;
use ports::link::Link;
use ports::seal::Seal;

use crate::browse::{Browse, BrowseError};
use crate::origin::Origin;

/// Invocations let go by one commit.
const PART: u32 = 500;

/// The use case.
pub struct Release {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Who may see what.
    pub browse: Arc<Browse>,
    /// Connected agents.
    pub link: Arc<dyn Link>,
    /// Signs envelopes.
    pub seal: Arc<dyn Seal>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The command's status now.
    pub status: Status,
    /// Invocations that were held and are not any more.
    pub released: u64,
}

/// Why nothing was let go.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReleaseError {
    /// No such command, or out of the caller's sight.
    #[error("no such command")]
    NotFound,
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Release {
    /// Lets go every invocation of `command` that is held since a restore. Doing it again does no harm.
    ///
    /// # Errors
    /// See [`ReleaseError`]; what was let go until then stays so.
    pub async fn run(&self, caller: &Caller, command: CommandId, origin: &Origin) -> Result<Released, ReleaseError> {
        caller.may(Permission::RunCommands)?;
        let view = match self.browse.command(caller, command).await {
            Ok(view) => view,
            Err(BrowseError::NotFound) => return Err(ReleaseError::NotFound),
            Err(BrowseError::Store(error)) => return Err(error.into()),
        };
        let mut released = 0;
        let mut after: Option<AgentId> = None;
        loop {
            let held = self.commands.held(command, Reason::Restored, after, PART).await?;
            let Some(last) = held.last() else { break };
            after = Some(last.agent);
            released += self.part(caller, command, held, origin).await?;
        }
        if released == 0 {
            return Ok(Released { status: view.status, released });
        }
        let status = self.commands.command(command).await?.map_or(view.status, |view| view.status);
        Ok(Released { status, released })
    }

    async fn part(
        &self,
        caller: &Caller,
        command: CommandId,
        held: Vec<Due>,
        origin: &Origin,
    ) -> Result<u64, ReleaseError> {
        let now = self.clock.now();
        let cluster = self.seal.cluster();
        let mut due = Vec::with_capacity(held.len());
        for mut held in held {
            // What this cluster did not sign is nobody's word; it stays held.
            let Some(mut envelope) = self.seal.open(&held.envelope) else {
                tracing::warn!(%command, agent = %held.agent, "held, and its stored envelope was not signed by this cluster");
                continue;
            };
            caller.may_run(&held.command.verb, envelope.plan.effect, &self.site_of(command, held.agent).await?)?;
            envelope.epoch = cluster.epoch;
            held.envelope = self.seal.seal(&envelope);
            due.push(held);
        }
        if due.is_empty() {
            return Ok(0);
        }
        let mut audit = origin.entry(now, "command.release", Some(&caller.name));
        audit.resource = Some(("command", command.to_string()));
        let envelopes = due.iter().map(|due| (due.agent, due.envelope.clone())).collect();
        self.commands.reseal(command, envelopes, audit).await?;
        let advances = due.iter().map(|due| {
            let (key, agent, events) = (due.key(), due.agent, vec![Event::Release]);
            self.commands.advance(Advance { key, agent, events, at: now, message: None, end: None, word: Word::Anyone })
        });
        let moved = futures_util::future::try_join_all(advances).await?;
        let mut offered = Vec::with_capacity(due.len());
        for (due, moved) in due.into_iter().zip(moved) {
            if moved.is_some_and(|moved| moved.moved && moved.state == State::Queued) {
                offered.push(due);
            }
        }
        let released = offered.len() as u64;
        self.link.offer(offered);
        Ok(released)
    }

    async fn site_of(&self, command: CommandId, agent: AgentId) -> Result<String, StoreError> {
        let row = self.commands.invocation(command, agent).await?;
        Ok(row.map(|row| row.site).unwrap_or_default())
    }
}
