//! Reads for those who ask, within their sight: what is out of it does not exist.

use std::ops::Range;
use std::sync::Arc;

use domain::access::Caller;
use domain::attempt::State;
use domain::command::{Attempt, CommandView, Invocation};
use domain::event::Event;
use domain::rollout::Share;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::Stream;
use ports::commands::{Chunk, CommandFilter, Commands, Group, Page};
use ports::error::StoreError;
use ports::journal::Journal;
use ports::live::{Live, Subscription};

/// Rows read at once while looking for some that are in sight.
const READ_AHEAD: u32 = 500;

/// The use case.
pub struct Browse {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// The event log.
    pub journal: Arc<dyn Journal>,
    /// Live events.
    pub live: Arc<dyn Live>,
}

/// Why there is nothing to read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrowseError {
    /// Not there, or out of the caller's sight.
    #[error("not found")]
    NotFound,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Browse {
    /// One command. It is in sight when one of its invocations is.
    ///
    /// # Errors
    /// See [`BrowseError`].
    pub async fn command(&self, caller: &Caller, id: CommandId) -> Result<CommandView, BrowseError> {
        let view = self.commands.command(id).await?.ok_or(BrowseError::NotFound)?;
        if caller.sees_all_sites() || self.any_in_sight(caller, id).await? {
            Ok(view)
        } else {
            Err(BrowseError::NotFound)
        }
    }

    /// Commands that pass `filter`, newest first. `sites` are all sites there are, for callers who do
    /// not see every one.
    ///
    /// # Errors
    /// The store's.
    pub async fn commands(
        &self,
        caller: &Caller,
        mut filter: CommandFilter,
        page: &Page,
        sites: impl FnOnce() -> Vec<String>,
    ) -> Result<Vec<CommandView>, StoreError> {
        if !caller.sees_all_sites() {
            let visible = filter.sites.take().unwrap_or_else(sites);
            filter.sites = Some(visible.into_iter().filter(|site| caller.sees_site(site)).collect());
        }
        self.commands.commands(&filter, page).await
    }

    /// Invocations of one command in sight, by agent id, those after `after`.
    ///
    /// # Errors
    /// See [`BrowseError`].
    pub async fn invocations(
        &self,
        caller: &Caller,
        command: CommandId,
        state: Option<State>,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Invocation>, BrowseError> {
        self.command(caller, command).await?;
        if caller.sees_all_sites() {
            return Ok(self.commands.invocations(command, state, after, limit).await?);
        }
        // Rows out of sight do not count, or a page could be short, even empty, with more to come.
        let (limit, mut after) = (limit as usize, after);
        let mut in_sight = Vec::new();
        while in_sight.len() < limit {
            let page = self.commands.invocations(command, state, after, READ_AHEAD).await?;
            let ended = page.len() < READ_AHEAD as usize;
            after = page.last().map(|last| last.agent).or(after);
            in_sight.extend(page.into_iter().filter(|invocation| caller.sees_site(&invocation.site)));
            if ended {
                break;
            }
        }
        in_sight.truncate(limit);
        Ok(in_sight)
    }

    /// One invocation.
    ///
    /// # Errors
    /// See [`BrowseError`].
    pub async fn invocation(
        &self,
        caller: &Caller,
        command: CommandId,
        agent: AgentId,
    ) -> Result<Invocation, BrowseError> {
        let invocation = self.commands.invocation(command, agent).await?;
        invocation.filter(|invocation| caller.sees_site(&invocation.site)).ok_or(BrowseError::NotFound)
    }

    /// Earlier attempts of an invocation, first to last.
    ///
    /// # Errors
    /// See [`BrowseError`].
    pub async fn attempts(
        &self,
        caller: &Caller,
        command: CommandId,
        agent: AgentId,
    ) -> Result<Vec<Attempt>, BrowseError> {
        self.invocation(caller, command, agent).await?;
        Ok(self.commands.attempts(command, agent).await?)
    }

    /// A command's invocations in sight, counted by site, state and reason.
    ///
    /// # Errors
    /// See [`BrowseError`].
    pub async fn rollup(&self, caller: &Caller, command: CommandId) -> Result<Vec<Share>, BrowseError> {
        let mut shares = self.commands.rollup(command).await?;
        shares.retain(|share| caller.sees_site(&share.site));
        if shares.is_empty() { Err(BrowseError::NotFound) } else { Ok(shares) }
    }

    /// A command's ended invocations by their typed result. Only for callers who see all of them: a count
    /// tells of what is out of sight.
    ///
    /// # Errors
    /// See [`BrowseError`].
    pub async fn groups(
        &self,
        caller: &Caller,
        command: CommandId,
        by: &[String],
        limit: u32,
    ) -> Result<Vec<Group>, BrowseError> {
        let shares = self.commands.rollup(command).await?;
        if shares.is_empty() || !shares.iter().all(|share| caller.sees_site(&share.site)) {
            return Err(BrowseError::NotFound);
        }
        Ok(self.commands.groups(command, by, limit).await?)
    }

    /// Kept output of an invocation's latest attempt from `offset` on, at most `limit` bytes.
    ///
    /// # Errors
    /// The store's; call only for an invocation that is in sight.
    pub async fn output(
        &self,
        invocation: &Invocation,
        stream: Stream,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<Chunk>, StoreError> {
        let key = AttemptKey { command: invocation.command, number: invocation.attempt };
        self.commands.output(key, invocation.agent, stream, offset, limit).await
    }

    /// Which bytes of an invocation's latest attempt are kept, ascending.
    ///
    /// # Errors
    /// The store's; call only for an invocation that is in sight.
    pub async fn stored(&self, invocation: &Invocation, stream: Stream) -> Result<Vec<Range<u64>>, StoreError> {
        let key = AttemptKey { command: invocation.command, number: invocation.attempt };
        self.commands.stored(key, invocation.agent, stream).await
    }

    /// The trace that a command belongs to.
    ///
    /// # Errors
    /// The store's; call only for a command that is in sight.
    pub async fn trace(&self, command: CommandId) -> Result<Option<String>, StoreError> {
        Ok(self.commands.command(command).await?.and_then(|view| view.command.traceparent))
    }

    /// Listens to one command that is in sight. Subscribe before reading the log, so that nothing
    /// falls between the two.
    pub fn subscribe(&self, command: CommandId) -> Box<dyn Subscription> {
        self.live.subscribe(Some(command))
    }

    /// Logged events of one command after `after`.
    ///
    /// # Errors
    /// The store's.
    pub async fn events(&self, command: CommandId, after: u64, limit: u32) -> Result<Vec<Arc<Event>>, StoreError> {
        self.journal.events(Some(command), after, limit).await
    }

    /// Listens to everything but output. Subscribe before reading the log, as for one command.
    pub fn subscribe_all(&self) -> Box<dyn Subscription> {
        self.live.subscribe(None)
    }

    /// Logged events of everything but output after `after`; whoever shows them looks at each first.
    ///
    /// # Errors
    /// The store's.
    pub async fn everything(&self, after: u64, limit: u32) -> Result<Vec<Arc<Event>>, StoreError> {
        self.journal.events(None, after, limit).await
    }

    /// The number of the latest event.
    ///
    /// # Errors
    /// The store's.
    pub async fn last_event(&self) -> Result<u64, StoreError> {
        self.journal.last_seq().await
    }

    async fn any_in_sight(&self, caller: &Caller, command: CommandId) -> Result<bool, StoreError> {
        let mut after = None;
        loop {
            let page = self.commands.invocations(command, None, after, READ_AHEAD).await?;
            if page.iter().any(|invocation| caller.sees_site(&invocation.site)) {
                return Ok(true);
            }
            match page.last() {
                Some(last) if page.len() == READ_AHEAD as usize => after = Some(last.agent),
                _ => return Ok(false),
            }
        }
    }
}
