//! Commands: accepting them, and the port they are asked through.

use std::collections::BTreeSet;
use std::ops::Range;

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

use std::sync::atomic::Ordering;

use super::bulk::{Bulk, Savepoint, Script};
use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Error, Row};
use super::{SqliteStore, list, replies, rows};
use crate::job::{Job, Reply};
use crate::rollup::Tallied;
use crate::staged::Staged;
use crate::{terms, text};

pub(super) static COMMANDS: Bulk = Bulk::new(
    "insert into commands (id, correlation_id, verb, status, priority, created_at, max_retries, start_by, run_timeout_ms, \
     parent_id, counts, plugin, plugin_version, plugin_digest, actor, traceparent, summary, target, terms, args, \
     agent_targets) values",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
pub(super) static SITES: Bulk = Bulk::new("insert into command_sites (site, command_id) values", "(?, ?)", "");
pub(super) static INVOCATIONS: Bulk = Bulk::new(
    "insert into invocations (command_id, agent_id, attempt, state, reason, turn, start_by, created_at, changed_at, \
     agent_name, site, signature, signed) values",
    "(?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);

/// Runs the script, which begins a transaction, and stores commands, all by the same few statements. Without any,
/// nothing is run yet. On a conflict nothing says whose it was, and some
/// rows may have been written: the transaction has to be rolled back and [`insert_apart`] tried.
pub(super) async fn insert(
    tx: &mut Sqlite,
    script: &mut Script,
    accepts: &[(NewCommand, Reply<()>)],
) -> Result<(), Failure> {
    if accepts.is_empty() {
        return Ok(());
    }
    let all: Vec<&NewCommand> = accepts.iter().map(|(command, _)| command).collect();
    Ok(insert_rows(tx, script, &all).await?)
}

/// Stores commands one by one, each in a savepoint, so that only those that conflict are refused.
pub(super) async fn insert_apart(
    tx: &mut Sqlite,
    accepts: &[(NewCommand, Reply<()>)],
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    let mut results = Vec::with_capacity(accepts.len());
    for (new, _) in accepts {
        Savepoint::BEGIN.run(tx)?;
        match insert_rows(tx, &mut Script::default(), &[new]).await.map_err(Failure::from) {
            Ok(()) => {
                Savepoint::KEEP.run(tx)?;
                results.push(Ok(()));
            }
            Err(failure) => {
                let Some(message) = failure.constraint() else { return Err(failure) };
                let conflict = StoreError::Conflict(explain(message, &new.command));
                Savepoint::UNDO.run(tx)?;
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
    } else if message.contains("FOREIGN KEY") {
        format!("command `{id}` names an agent that is not enrolled")
    } else {
        format!("command `{id}` is stored already, or names an agent twice ({message})")
    }
}

async fn insert_rows(tx: &mut Sqlite, script: &mut Script, new: &[&NewCommand]) -> Result<(), Error> {
    script.add(&COMMANDS, new, |new, values| {
        let Command {
            id,
            verb,
            plugin,
            plugin_version,
            plugin_digest,
            args,
            target,
            priority,
            submitter,
            principal,
            created_at,
            start_by,
            run_timeout_ms,
            terms: command_terms,
            parent,
            summary,
            correlation_id,
            traceparent,
        } = &*new.command;
        let names: Vec<&str> = new.invocations.iter().map(|invocation| invocation.agent_name.as_str()).collect();
        let tallied = Tallied::new(&new.invocations);
        values
            .put(id.0)
            .put(correlation_id.as_str())
            .put(verb.as_str())
            .put(Status::of(&tallied.counts).as_str())
            .put(priority.as_str())
            .put(created_at.0)
            .put(i64::from(command_terms.retry.max_attempts) - 1)
            .put(start_by.0)
            .put(i64::try_from(*run_timeout_ms).unwrap_or(i64::MAX))
            .put(parent.map(|parent| parent.0))
            .put(text::tallied_text(&tallied))
            .put(plugin.as_str())
            .put(plugin_version.as_str())
            .put(plugin_digest.as_str())
            .put(text::json(&text::Actor::of(submitter, *principal)))
            .put(traceparent.as_deref())
            .put(summary.as_str())
            .put(target.as_str())
            .put(terms::text_of(command_terms))
            .put(args.as_str())
            .put(text::json(&names));
    });

    let mut sites: Vec<(&str, CommandId)> = Vec::with_capacity(new.len());
    for new in new {
        let at: BTreeSet<&str> = new.invocations.iter().map(|invocation| invocation.site.as_str()).collect();
        sites.extend(at.into_iter().map(|site| (site, new.command.id)));
    }
    script.add(&SITES, &sites, |(site, id), values| _ = values.put(site).put(id.0));

    let invocations: Vec<(&Command, &NewInvocation)> =
        new.iter().flat_map(|new| new.invocations.iter().map(|invocation| (&*new.command, invocation))).collect();
    script.add(&INVOCATIONS, &invocations, |(command, invocation), values| {
        let NewInvocation { agent, agent_name, site, envelope, held: _ } = invocation;
        values
            .put(command.id.0)
            .put(agent.0)
            .put(invocation.state().as_str())
            .put(invocation.reason().map(|reason| reason.as_str()))
            .put(command.priority.turn(command.created_at))
            .put(command.start_by.0)
            .put(command.created_at.0)
            .put(command.created_at.0)
            .put(agent_name.as_str())
            .put(site.as_str())
            .put(envelope.signature.as_str())
            .put(envelope.signed.as_str());
    });
    script.run(tx)?;
    replies::insert(tx, new.iter().filter_map(|new| new.once.as_ref())).await
}

#[async_trait]
impl Commands for SqliteStore {
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
        Ok(list::one(&self.readers, id).await?)
    }

    async fn commands(&self, filter: &CommandFilter, page: &Page) -> Result<Vec<CommandView>, StoreError> {
        Ok(list::page(&self.readers, filter, page).await?)
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

    async fn let_go(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        gone: Range<u64>,
    ) -> Result<(), StoreError> {
        self.let_go_of(key, agent, stream, gone).await
    }

    async fn forget_output(&self, before: Timestamp) -> Result<bool, StoreError> {
        self.forget_oldest(before).await
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

/// Rows of a list back into views.
pub(super) fn views(found: &[Row]) -> Result<Vec<CommandView>, StoreError> {
    found.iter().map(rows::view).collect()
}
