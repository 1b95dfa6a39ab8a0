//! Commands: accepting them, and the port they are asked through.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use domain::attempt::{Reason, State};
use domain::audit::Entry;
use domain::command::{Attempt, Command, CommandView, Invocation, NewInvocation, Status};
use domain::event::What;
use domain::rollout::Share;
use domain::time::Timestamp;
use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::Stream;
use ports::commands::{
    Advance, Advanced, Chunk, CommandFilter, Commands, Due, Group, NewCommand, Open, Overdue, Page, Place,
};
use ports::error::StoreError;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::failure::Failure;
use super::micros::micros;
use super::{PostgresStore, list, replies};
use crate::job::{Job, Reply};
use crate::rollup::Tallied;
use crate::staged::Staged;
use crate::{terms, text};

pub(super) const COMMANDS: &str = "insert into commands (id, correlation_id, verb, status, priority, created_at, start_by, \
     run_timeout_ms, counts, plugin, plugin_version, plugin_digest, actor, traceparent, summary, target, args, agent_targets, \
     max_retries, parent_id, terms) \
     select n.id, n.correlation_id, n.verb, n.status, n.priority, n.created_at, n.start_by, n.run_timeout_ms, \
     n.counts::jsonb, n.plugin, n.plugin_version, n.plugin_digest, n.actor::jsonb, n.traceparent, \
     n.summary, n.target::jsonb, n.args::jsonb, array(select jsonb_array_elements_text(n.agent_targets::jsonb)), \
     n.max_retries, n.parent_id, n.terms::jsonb \
     from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], \
     $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], \
     $17::text[], $18::text[], $19::integer[], $20::uuid[], $21::text[]) as n (id, correlation_id, verb, status, priority, created_at, start_by, run_timeout_ms, \
     counts, plugin, plugin_version, plugin_digest, actor, traceparent, summary, target, args, agent_targets, max_retries, \
     parent_id, terms)";
pub(super) const SITES: &str =
    "insert into command_sites (site, command_id) select * from unnest($1::text[], $2::uuid[])";
pub(super) const INVOCATIONS: &str = "insert into invocations (command_id, agent_id, attempt, state, reason, turn, start_by, \
     created_at, changed_at, agent_name, site, signature, signed) \
     select n.command_id, n.agent_id, 1, n.state, n.reason, n.turn, n.start_by, n.created_at, n.created_at, n.agent_name, \
     n.site, n.signature, n.signed \
     from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], \
     $8::text[], $9::text[], $10::text[], $11::text[]) \
     as n (command_id, agent_id, turn, start_by, created_at, agent_name, site, signature, signed, state, reason)";

/// Stores commands, all by the same few statements. On a conflict nothing says whose it was: the
/// transaction has to be rolled back and [`insert_apart`] tried.
pub(super) async fn insert(
    tx: &mut PgConnection,
    accepts: &[(NewCommand, Reply<()>)],
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    let all: Vec<&NewCommand> = accepts.iter().map(|(command, _)| command).collect();
    match insert_rows(tx, &all).await.map_err(Failure::from) {
        Ok(()) => Ok(vec![Ok(()); accepts.len()]),
        Err(failure) => match failure.refused_row() {
            Some(message) => Err(Failure::Clash(message.to_owned())),
            None => Err(failure),
        },
    }
}

/// Stores commands one by one, each in a savepoint, so that only those that conflict are refused.
pub(super) async fn insert_apart(
    tx: &mut PgConnection,
    accepts: &[(NewCommand, Reply<()>)],
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    let mut results = Vec::with_capacity(accepts.len());
    for (new, _) in accepts {
        let mut savepoint = tx.begin().await?;
        match insert_rows(&mut savepoint, &[new]).await.map_err(Failure::from) {
            Ok(()) => {
                savepoint.commit().await?;
                results.push(Ok(()));
            }
            Err(failure) => {
                let Some(message) = failure.refused_row() else { return Err(failure) };
                let conflict = StoreError::Conflict(explain(message, &new.command));
                savepoint.rollback().await?;
                results.push(Err(conflict));
            }
        }
    }
    Ok(results)
}

/// Adds the first status event and the audit entry of each command that was stored.
pub(super) fn stage(accepts: &[(NewCommand, Reply<()>)], results: &[Result<(), StoreError>], staged: &mut Staged) {
    for ((new, _), result) in accepts.iter().zip(results) {
        if result.is_ok() {
            let counts = Tallied::new(&new.invocations).counts;
            let status = What::Status { command: new.command.id, status: Status::of(&counts), counts };
            staged.event(new.command.created_at, status);
            staged.audit(new.audit.clone());
        }
    }
}

fn explain(message: &str, command: &Command) -> String {
    let id = command.id;
    if message.contains("idempotency") {
        "a reply is kept under this key already".to_owned()
    } else if message.contains("foreign key") {
        format!("command `{id}` names an agent that is not enrolled")
    } else if message.contains("duplicate key") {
        format!("command `{id}` is stored already, or names an agent twice ({message})")
    } else {
        format!("command `{id}` holds something PostgreSQL cannot keep, such as the character NUL ({message})")
    }
}

async fn insert_rows(tx: &mut PgConnection, new: &[&NewCommand]) -> Result<(), sqlx::Error> {
    if new.is_empty() {
        return Ok(());
    }
    let of = |read: fn(&Command) -> &str| -> Vec<&str> { new.iter().map(|new| read(&new.command)).collect() };
    let tallied: Vec<Tallied> = new.iter().map(|new| Tallied::new(&new.invocations)).collect();
    let names = |new: &&NewCommand| {
        let names: Vec<&str> = new.invocations.iter().map(|invocation| invocation.agent_name.as_str()).collect();
        text::json(&names)
    };
    let actor = |command: &Command| text::json(&text::Actor::of(&command.submitter, command.principal));
    sqlx::query(COMMANDS)
        .bind(new.iter().map(|new| new.command.id.0).collect::<Vec<_>>())
        .bind(of(|command| &command.correlation_id))
        .bind(of(|command| command.verb.as_str()))
        .bind(tallied.iter().map(|tallied| Status::of(&tallied.counts).as_str()).collect::<Vec<_>>())
        .bind(of(|command| command.priority.as_str()))
        .bind(new.iter().map(|new| micros(new.command.created_at)).collect::<Vec<_>>())
        .bind(new.iter().map(|new| micros(new.command.start_by)).collect::<Vec<_>>())
        .bind(new.iter().map(|new| i64::try_from(new.command.run_timeout_ms).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(tallied.iter().map(text::tallied_text).collect::<Vec<_>>())
        .bind(of(|command| &command.plugin))
        .bind(of(|command| &command.plugin_version))
        .bind(of(|command| &command.plugin_digest))
        .bind(new.iter().map(|new| actor(&new.command)).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.command.traceparent.as_deref()).collect::<Vec<_>>())
        .bind(of(|command| &command.summary))
        .bind(of(|command| &command.target))
        .bind(of(|command| &command.args))
        .bind(new.iter().map(names).collect::<Vec<_>>())
        .bind(new.iter().map(|new| retries(&new.command)).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.command.parent.map(|parent| parent.0)).collect::<Vec<_>>())
        .bind(new.iter().map(|new| terms::text_of(&new.command.terms)).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;

    let mut sites: Vec<(&str, Uuid)> = Vec::with_capacity(new.len());
    for new in new {
        let at: BTreeSet<&str> = new.invocations.iter().map(|invocation| invocation.site.as_str()).collect();
        sites.extend(at.into_iter().map(|site| (site, new.command.id.0)));
    }
    let (sites, ids): (Vec<&str>, Vec<Uuid>) = sites.into_iter().unzip();
    sqlx::query(SITES).bind(sites).bind(ids).execute(&mut *tx).await?;

    let all: Vec<(&Command, &NewInvocation)> =
        new.iter().flat_map(|new| new.invocations.iter().map(|invocation| (&*new.command, invocation))).collect();
    let of = |read: fn(&NewInvocation) -> &str| -> Vec<&str> { all.iter().map(|(_, one)| read(one)).collect() };
    sqlx::query(INVOCATIONS)
        .bind(all.iter().map(|(command, _)| command.id.0).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, invocation)| invocation.agent.0).collect::<Vec<_>>())
        .bind(all.iter().map(|(command, _)| command.priority.turn(command.created_at)).collect::<Vec<_>>())
        .bind(all.iter().map(|(command, _)| micros(command.start_by)).collect::<Vec<_>>())
        .bind(all.iter().map(|(command, _)| micros(command.created_at)).collect::<Vec<_>>())
        .bind(of(|invocation| &invocation.agent_name))
        .bind(of(|invocation| &invocation.site))
        .bind(of(|invocation| &invocation.envelope.signature))
        .bind(of(|invocation| &invocation.envelope.signed))
        .bind(of(|invocation| invocation.state().as_str()))
        .bind(all.iter().map(|(_, one)| one.reason().map(|reason| reason.as_str())).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    replies::insert(tx, new.iter().filter_map(|new| new.once.as_ref())).await
}

/// Attempts after the first.
fn retries(command: &Command) -> i32 {
    i32::try_from(command.terms.retry.max_attempts.saturating_sub(1)).unwrap_or(i32::MAX)
}

#[async_trait]
impl Commands for PostgresStore {
    async fn accept(&self, command: NewCommand) -> Result<(), StoreError> {
        let rows = command.invocations.len();
        if rows == 0 {
            return Err(StoreError::Conflict(format!("command `{}` has no invocation", command.command.id)));
        }
        self.write(rows, |reply| Job::Accept(command, reply)).await
    }

    async fn advance(&self, advance: Advance) -> Result<Option<Advanced>, StoreError> {
        self.write(1, |reply| Job::Advance(advance, Some(reply))).await
    }

    fn note(&self, advance: Advance) {
        if self.shared.intake.note(Job::Advance(advance, None), 1).is_err() {
            self.shared.tally.note_refused();
        }
    }

    fn append(&self, chunk: Chunk) {
        let bytes = chunk.data.len();
        if bytes > 0 && self.shared.intake.bytes(Job::Append(chunk), bytes).is_err() {
            self.shared.tally.chunks_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn request_cancel(
        &self,
        command: CommandId,
        sites: Option<Vec<String>>,
        at: Timestamp,
        audit: Entry,
    ) -> Result<Vec<Open>, StoreError> {
        self.cancel(command, sites, at, audit).await
    }

    async fn command(&self, id: CommandId) -> Result<Option<CommandView>, StoreError> {
        list::one(self, id).await
    }

    async fn commands(&self, filter: &CommandFilter, page: &Page) -> Result<Vec<CommandView>, StoreError> {
        list::page(self, filter, page).await
    }

    async fn invocations(
        &self,
        command: CommandId,
        state: Option<State>,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Invocation>, StoreError> {
        self.invocation_page(command, state, after, limit).await
    }

    async fn invocation(&self, command: CommandId, agent: AgentId) -> Result<Option<Invocation>, StoreError> {
        self.one_invocation(command, agent).await
    }

    async fn attempts(&self, command: CommandId, agent: AgentId) -> Result<Vec<Attempt>, StoreError> {
        self.attempts_of(command, agent).await
    }

    async fn rollup(&self, command: CommandId) -> Result<Vec<Share>, StoreError> {
        self.shares_of(command).await
    }

    async fn groups(&self, command: CommandId, by: &[String], limit: u32) -> Result<Vec<Group>, StoreError> {
        self.grouped(command, by, limit).await
    }

    async fn due(&self, agent: AgentId, limit: u32) -> Result<Vec<Due>, StoreError> {
        self.due_of(agent, limit).await
    }

    async fn held(
        &self,
        command: CommandId,
        reason: Reason,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        self.held_of(command, reason, after, limit).await
    }

    async fn reseal(
        &self,
        command: CommandId,
        envelopes: Vec<(AgentId, SignedEnvelope)>,
        audit: Entry,
    ) -> Result<(), StoreError> {
        self.replace_envelopes(command, envelopes, audit).await
    }

    async fn open(&self, agent: AgentId) -> Result<Vec<Open>, StoreError> {
        self.open_of(agent).await
    }

    async fn overdue(&self, now: Timestamp, after: Option<Place>, limit: u32) -> Result<Vec<Overdue>, StoreError> {
        self.past_deadline(now, after, limit).await
    }

    async fn abandoned(&self, seen_before: Timestamp, limit: u32) -> Result<Vec<Open>, StoreError> {
        self.without_agent(seen_before, limit).await
    }

    async fn forget_output(&self, before: Timestamp) -> Result<bool, StoreError> {
        self.forget_days(before).await
    }

    async fn output(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<Chunk>, StoreError> {
        self.output_from(key, agent, stream, offset, limit).await
    }

    async fn stored(&self, key: AttemptKey, agent: AgentId, stream: Stream) -> Result<Vec<Range<u64>>, StoreError> {
        self.stored_of(key, agent, stream).await
    }
}
