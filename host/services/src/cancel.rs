//! Asks a command, or its invocation on one agent, to end.
//!
//! The wish is recorded first. What was never sent then never runs; what may have been sent is for
//! the agent to end and to confirm.

use std::sync::Arc;

use domain::access::{Caller, Forbidden};
use domain::attempt::{Event, State};
use domain::command::Status;
use plan::id::{AgentId, CommandId};
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Open};
use ports::error::StoreError;
use ports::link::{Link, Settle};

use crate::browse::{Browse, BrowseError};
use crate::directory::Directory;
use crate::origin::Origin;

/// The use case.
pub struct Cancel {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Who may see what.
    pub browse: Arc<Browse>,
    /// Settles what no session here owns.
    pub settle: Arc<SettleUnowned>,
    /// Connected agents.
    pub link: Arc<dyn Link>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The command's status now.
    pub status: Status,
    /// Invocations that were open and have been asked to end; 0 when it was over already.
    pub requested: u64,
}

/// Why nothing was asked to end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CancelError {
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

impl Cancel {
    /// Asks every open invocation of `command`, or the one on `agent`, to end.
    ///
    /// # Errors
    /// See [`CancelError`]; nothing was asked then.
    pub async fn run(
        &self,
        caller: &Caller,
        command: CommandId,
        agent: Option<AgentId>,
        origin: &Origin,
    ) -> Result<Answer, CancelError> {
        caller.may(domain::access::Permission::RunCommands)?;
        let view = match self.browse.command(caller, command).await {
            Ok(view) => view,
            Err(BrowseError::NotFound) => return Err(CancelError::NotFound),
            Err(BrowseError::Store(error)) => return Err(error.into()),
        };
        if view.status.is_terminal() {
            return Ok(Answer { status: view.status, requested: 0 });
        }
        let now = self.clock.now();
        let mut audit = origin.entry(now, "command.cancel", Some(&caller.name));
        audit.resource = Some(("command", command.to_string()));
        let open = self.commands.request_cancel(command, agent, now, audit).await?;
        for open in &open {
            if !self.link.settle(*open, Settle::Cancel) {
                self.settle.run(*open, Settle::Cancel).await?;
            }
        }
        let status = self.commands.command(command).await?.map_or(view.status, |view| view.status);
        Ok(Answer { status, requested: open.len() as u64 })
    }
}

/// Settles attempts of agents that have no session here, by what is certain about them.
pub struct SettleUnowned {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl SettleUnowned {
    /// Ends what was certainly never sent. What may have been sent is left for the agent's next
    /// HELLO (a cancel) or becomes `lost` (a deadline), never `cancelled` or `expired`.
    ///
    /// # Errors
    /// The store's.
    pub async fn run(&self, open: Open, why: Settle) -> Result<(), StoreError> {
        // What is held was not sent, whatever else was; unless it came out of a backup.
        let held = open.state == State::Held && !open.is_restored();
        let maybe_sent = !held && self.directory.get(open.agent).is_none_or(|known| known.agent.maybe_sent);
        let events = match (why, maybe_sent) {
            // Its agent will say at its next HELLO; what it does not know is not sent again.
            (Settle::Cancel | Settle::Halt, true) => return Ok(()),
            (Settle::Halt, false) => vec![Event::Halt],
            (Settle::Cancel, false) => vec![Event::CancelUnsent],
            (Settle::StartDeadline, true) => vec![Event::Send, Event::StartDeadline],
            (Settle::StartDeadline, false) => vec![Event::StartDeadline],
        };
        let advance =
            Advance { key: open.key, agent: open.agent, events, at: self.clock.now(), message: None, end: None };
        self.commands.advance(advance).await?;
        Ok(())
    }
}
