//! Reads what waits for an agent, and leaves out what may no longer be sent: plans that the
//! operator's grant has stopped covering, envelopes somebody changed in the store, and commands whose submitter
//! may no longer have them run.

use std::sync::Arc;

use domain::attempt::Event;
use plan::effect::Effect;
use plan::id::{AgentId, AttemptKey};
use ports::clock::Clock;
use ports::commands::{Advance, Commands, Due, Word};
use ports::error::StoreError;
use ports::plugins::Plugins;
use ports::seal::Seal;

use crate::directory::Directory;
use crate::standing::{Standing, Verdict};

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
                Some(message) => self.reject(row.key(), agent, word, message).await?,
            }
        }
        Ok((due, more))
    }

    /// Ends an invocation that must not be sent.
    ///
    /// # Errors
    /// The store's.
    pub async fn reject(&self, key: AttemptKey, agent: AgentId, word: Word, message: String) -> Result<(), StoreError> {
        tracing::warn!(command = %key.command, %agent, message, "not sent");
        let (at, message) = (self.clock.now(), Some(message));
        self.commands
            .advance(Advance { key, agent, events: vec![Event::Revoke], at, message, end: None, word })
            .await?;
        Ok(())
    }

    /// Whether its submitter may still have it run, asked right before it is sent, with the effect its envelope
    /// claims. Never waits.
    pub fn verdict(&self, due: &Due, effect: Option<Effect>) -> Verdict {
        let Some(effect) = effect else {
            return Verdict::MayNot("its stored envelope cannot be read".to_owned());
        };
        match self.directory.get(due.agent) {
            Some(known) => self.standing.verdict(&due.command, effect, &known.agent.site),
            None => Verdict::MayNot("its agent is not known here".to_owned()),
        }
    }

    /// Why a stored invocation must not be sent, if it must not.
    fn objection(&self, due: &Due) -> Option<String> {
        let Some(envelope) = self.seal.open(&due.envelope) else {
            return Some("its stored envelope was not signed by this cluster".to_owned());
        };
        if envelope.verb != due.command.verb.as_str() || envelope.plugin_digest != due.command.plugin_digest {
            return Some("its stored command names another verb or plugin than its envelope".to_owned());
        }
        if envelope.agent_id != due.agent || envelope.command_id != due.command.id {
            return Some("its stored envelope belongs to another invocation".to_owned());
        }
        let plugin = &due.command.plugin;
        if let Some(grant) = self.plugins.grant(plugin) {
            return grant.permit(&envelope.plan).err().map(|denied| denied.to_string());
        }
        // A plugin whose file is gone keeps its word: queued commands run from their stored plan. One
        // that an operator switched off, or has not approved, does not.
        let stopped = self
            .plugins
            .plugins()
            .into_iter()
            .find(|status| status.name == *plugin && matches!(status.state, "disabled" | "needs_approval"));
        stopped.map(|status| format!("plugin `{plugin}` is {}", status.state))
    }
}
