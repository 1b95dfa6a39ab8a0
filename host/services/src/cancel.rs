//! Asks a command to end, as far as its caller sees it.
//!
//! The wish is recorded first. What was never sent then never runs; what may have been sent is for
//! the agent to end and to confirm.

use std::sync::Arc;

use domain::access::{Caller, Forbidden};
use domain::attempt::Event;
use domain::command::Status;
use plan::id::CommandId;
use ports::clock::Clock;
use ports::commands::{Advance, Advanced, Commands, Open, Word};
use ports::error::StoreError;
use ports::link::{Link, Settle};

use crate::browse::{Browse, BrowseError};
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
    /// Invocations in sight that were open and have been asked to end; 0 when it was over already.
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
    /// Asks every open invocation of `command` in the caller's sight to end; what is out of it goes on.
    ///
    /// # Errors
    /// See [`CancelError`]; nothing was asked then.
    pub async fn run(&self, caller: &Caller, command: CommandId, origin: &Origin) -> Result<Answer, CancelError> {
        caller.may(domain::access::Permission::RunCommands)?;
        let view = match self.browse.command(caller, command).await {
            Ok(view) => view,
            Err(BrowseError::NotFound) => return Err(CancelError::NotFound),
            Err(BrowseError::Store(error)) => return Err(error.into()),
        };
        if view.status.is_terminal() {
            return Ok(Answer { status: view.status, requested: 0 });
        }
        let sites = self.sites(caller, command).await?;
        let now = self.clock.now();
        let mut audit = origin.entry(now, "command.cancel", Some(&caller.name));
        audit.resource = Some(("command", command.to_string()));
        let open = self.commands.request_cancel(command, sites, now, audit).await?;
        for open in &open {
            if !self.link.settle(*open, Settle::Cancel) {
                self.settle.run(*open, Settle::Cancel).await?;
            }
        }
        let status = self.commands.command(command).await?.map_or(view.status, |view| view.status);
        Ok(Answer { status, requested: open.len() as u64 })
    }

    /// The command's sites in sight; `None` where that is all of them.
    async fn sites(&self, caller: &Caller, command: CommandId) -> Result<Option<Vec<String>>, CancelError> {
        if caller.sees_all_sites() {
            return Ok(None);
        }
        match self.browse.rollup(caller, command).await {
            Ok(shares) => Ok(Some(shares.into_iter().map(|share| share.site).collect())),
            Err(BrowseError::NotFound) => Err(CancelError::NotFound),
            Err(BrowseError::Store(error)) => Err(error.into()),
        }
    }
}

/// Settles attempts of agents that have no session here, by what the store is certain of.
pub struct SettleUnowned {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl SettleUnowned {
    /// Ends what was certainly never sent. What may have been sent is left to the host that owns the agent's
    /// session, which hears of it by [`crate::wishes`], or for the agent's next HELLO (a cancel), or becomes
    /// `lost` (a deadline), never `cancelled` or `expired`.
    ///
    /// # Errors
    /// The store's.
    pub async fn run(&self, open: Open, why: Settle) -> Result<(), StoreError> {
        let event = match why {
            Settle::Cancel => Event::CancelUnsent,
            Settle::Halt => Event::Halt,
            Settle::StartDeadline => Event::StartDeadline,
        };
        let stands = self.advance(open, vec![event], Word::NeverSent).await?;
        let maybe_sent = stands.is_some_and(|stands| !stands.moved && !stands.state.is_terminal());
        if why == Settle::StartDeadline && maybe_sent {
            self.advance(open, vec![Event::Send, Event::StartDeadline], Word::NoSession).await?;
        }
        Ok(())
    }

    async fn advance(&self, open: Open, events: Vec<Event>, word: Word) -> Result<Option<Advanced>, StoreError> {
        let (key, agent, at) = (open.key, open.agent, self.clock.now());
        self.commands.advance(Advance { key, agent, events, at, message: None, end: None, word }).await
    }
}
