//! Invocations that are held: what they would be sent, and sending something else.

use domain::attempt::Reason;
use domain::audit::Entry;
use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, CommandId};
use ports::commands::Due;
use ports::error::StoreError;

use super::failure::Failure;
use super::query::query;
use super::{SqliteStore, rows};

/// What a command holds back.
pub(super) fn held() -> String {
    format!(
        "select {}, {} from invocations i join commands c on c.id = i.command_id \
         where i.command_id = ? and i.agent_id > ? and i.state = 'held' and i.reason = ? \
         order by i.agent_id limit ?",
        rows::DUE,
        rows::COMMAND
    )
}

impl SqliteStore {
    pub(super) async fn held_of(
        &self,
        command: CommandId,
        reason: Reason,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        let after: Vec<u8> = after.map_or_else(Vec::new, |agent| agent.0.as_bytes().to_vec());
        let query = query(held()).bind(command.0).bind(after).bind(reason.as_str()).bind(limit);
        let found = query.fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(rows::due).collect()
    }

    pub(super) async fn replace_envelopes(
        &self,
        command: CommandId,
        envelopes: Vec<(AgentId, SignedEnvelope)>,
        audit: Entry,
    ) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                for (agent, envelope) in envelopes {
                    query(
                        "update invocations set signed = ?, signature = ? \
                         where command_id = ? and agent_id = ? and state = 'held'",
                    )
                    .bind(envelope.signed)
                    .bind(envelope.signature)
                    .bind(command.0)
                    .bind(agent.0)
                    .execute(&mut *connection)
                    .await?;
                }
                staged.audit(audit);
                Ok(())
            })
        })
        .await
    }
}
