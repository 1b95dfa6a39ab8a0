//! Invocations that are held: what they would be sent, and sending something else.

use domain::attempt::Reason;
use domain::audit::Entry;
use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, CommandId};
use ports::commands::Due;
use ports::error::StoreError;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::read::Statement;
use super::{PostgresStore, rows};

impl PostgresStore {
    pub(super) async fn held_of(
        &self,
        command: CommandId,
        reason: Reason,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        let text = format!(
            "select {}, {} from invocations i join commands c on c.id = i.command_id \
             where i.command_id = $1 and i.agent_id > $2 and i.state = 'held' and i.reason = $3 \
             order by i.agent_id limit $4",
            rows::DUE,
            rows::COMMAND
        );
        let statement = Statement::new(text)
            .bind(command.0)
            .bind(after.map_or(Uuid::nil(), |agent| agent.0))
            .bind(reason.as_str())
            .bind(i64::from(limit));
        self.rows(statement).await?.iter().map(rows::due).collect()
    }

    pub(super) async fn replace_envelopes(
        &self,
        command: CommandId,
        envelopes: Vec<(AgentId, SignedEnvelope)>,
        audit: Entry,
    ) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            let audit = audit.clone();
            let agents: Vec<Uuid> = envelopes.iter().map(|(agent, _)| agent.0).collect();
            let (signed, signatures): (Vec<String>, Vec<String>) =
                envelopes.iter().map(|(_, envelope)| (envelope.signed.clone(), envelope.signature.clone())).unzip();
            Box::pin(async move {
                sqlx::query(AssertSqlSafe(
                    "update invocations i set signed = n.signed, signature = n.signature \
                     from unnest($2::uuid[], $3::text[], $4::text[]) n (agent_id, signed, signature) \
                     where i.command_id = $1 and i.agent_id = n.agent_id and i.state = 'held'"
                        .to_owned(),
                ))
                .bind(command.0)
                .bind(agents)
                .bind(signed)
                .bind(signatures)
                .execute(connection)
                .await?;
                staged.audit(audit);
                Ok(())
            })
        })
        .await
    }
}
