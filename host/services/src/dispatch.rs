//! Reads what waits for an agent, and leaves out what may no longer be sent: plans that the
//! operator's grant has stopped covering, envelopes somebody changed in the store, and commands whose submitter
//! may no longer have them run.

use std::sync::Arc;

use domain::attempt::{Event, Withdrawn};
use plan::effect::Effect;
use plan::id::{AgentId, AttemptKey};
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Due, Word};
use ports::error::StoreError;
use ports::plugins::Plugins;
use ports::seal::Seal;

use crate::directory::Directory;
use crate::lease::Lease;
use crate::standing::{Objection, Standing, Verdict};

/// The use case.
pub struct Dispatch {
    /// Where commands are kept.
    pub commands: Arc<dyn Commands>,
    /// Grants in force.
    pub plugins: Arc<dyn Plugins>,
    /// Opens envelopes.
    pub seal: Arc<dyn Seal>,
    /// What submitters may.
    pub standing: Arc<Standing>,
    /// At which site an agent is now.
    pub directory: Arc<Directory>,
    /// Whether this host may send.
    pub lease: Arc<Lease>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Dispatch {
    /// What waits for `agent`, in queue order, at most `limit`, and whether there may be more. Asked for its
    /// session `epoch`, whose word counts on what was not sent.
    ///
    /// # Errors
    /// The store's.
    pub async fn due(&self, agent: AgentId, epoch: u64, limit: u32) -> Result<(Vec<Due>, bool), StoreError> {
        self.lease.held().await;
        let word = Word::Session(epoch);
        let rows = self.commands.due(agent, limit).await?;
        self.standing.learn(rows.iter().map(|row| &*row.command)).await?;
        let more = rows.len() >= limit as usize;
        let mut due = Vec::with_capacity(rows.len());
        for row in rows {
            if row.halted {
                let (key, at) = (row.key(), self.clock.now());
                let advance = Advance { key, agent, events: vec![Event::Halt], at, message: None, end: None, word };
                self.commands.advance(advance).await?;
                continue;
            }
            match self.objection(&row) {
                None => due.push(row),
                Some(objection) => self.reject(row.key(), agent, word, objection).await?,
            }
        }
        Ok((due, more))
    }

    /// Ends an invocation that must not be sent.
    ///
    /// # Errors
    /// The store's.
    pub async fn reject(
        &self,
        key: AttemptKey,
        agent: AgentId,
        word: Word,
        Objection { why, message }: Objection,
    ) -> Result<(), StoreError> {
        tracing::warn!(command = %key.command, %agent, ?why, message, "not sent");
        let (at, message) = (self.clock.now(), Some(message));
        self.commands
            .advance(Advance { key, agent, events: vec![Event::Withdraw(why)], at, message, end: None, word })
            .await?;
        Ok(())
    }

    /// Whether its submitter may still have it run, asked right before it is sent, with the effect its envelope
    /// claims. Never waits.
    pub fn verdict(&self, due: &Due, effect: Option<Effect>) -> Verdict {
        // Whoever reads it from the store waits until this host may send again.
        if !self.lease.is_held() {
            return Verdict::Unknown;
        }
        let Some(effect) = effect else {
            return Verdict::MayNot(objection(Withdrawn::Envelope, "its stored envelope cannot be read"));
        };
        match self.directory.get(due.agent) {
            Some(known) => self.standing.verdict(&due.command, effect, &known.agent.site),
            None => Verdict::MayNot(objection(Withdrawn::Agent, "its agent is not known here")),
        }
    }

    /// Why a stored invocation must not be sent, if it must not.
    fn objection(&self, due: &Due) -> Option<Objection> {
        let forged = |message| Some(objection(Withdrawn::Envelope, message));
        let Some(envelope) = self.seal.open(&due.envelope) else {
            return forged("its stored envelope was not signed by this cluster");
        };
        if envelope.verb != due.command.verb.as_str() || envelope.plugin_digest != due.command.plugin_digest {
            return forged("its stored command names another verb or plugin than its envelope");
        }
        if envelope.agent_id != due.agent || envelope.command_id != due.command.id {
            return forged("its stored envelope belongs to another invocation");
        }
        let plugin = &due.command.plugin;
        if let Some(grant) = self.plugins.grant(plugin) {
            let denied = grant.cover(&envelope.plan, envelope.limits.run_timeout_ms).err();
            return denied.map(|denied| objection(Withdrawn::Plugin, denied.to_string()));
        }
        // A plugin whose file is gone keeps its word: queued commands run from their stored plan. One
        // that an operator switched off, or has not approved, does not.
        let stopped = self
            .plugins
            .plugins()
            .into_iter()
            .find(|status| status.name == *plugin && matches!(status.state, "disabled" | "needs_approval"));
        stopped.map(|status| objection(Withdrawn::Plugin, format!("plugin `{plugin}` is {}", status.state)))
    }
}

fn objection(why: Withdrawn, message: impl Into<String>) -> Objection {
    Objection { why, message: message.into() }
}
