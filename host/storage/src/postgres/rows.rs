//! Rows back into domain types. A row that cannot be read is named, with its table and key.

use std::fmt;
use std::sync::Arc;

use domain::agent::{Agent, Facts};
use domain::attempt::{Reason, State};
use domain::command::{Command, CommandView, Invocation, Status};
use domain::counts::Counts;
use domain::priority::Priority;
use domain::time::Timestamp;
use domain::verb::VerbName;
use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::{Outcome, Stream};
use ports::commands::{Due, Open, Overdue};
use ports::error::StoreError;
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use uuid::Uuid;

use super::micros::Micros;
use super::plain;
use crate::{terms, text};

/// One row read from left to right.
pub(super) struct Cells<'r> {
    row: &'r PgRow,
    next: usize,
    table: &'static str,
    key: Key,
}

/// What names a row, as far as it has been read.
enum Key {
    Unread,
    Id(Uuid),
    Pair(Uuid, Uuid),
    Text(String),
    Number(i64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Unread => f.write_str("?"),
            Key::Id(id) => write!(f, "{id}"),
            Key::Pair(a, b) => write!(f, "{a}/{b}"),
            Key::Text(text) => f.write_str(text),
            Key::Number(n) => write!(f, "{n}"),
        }
    }
}

impl<'r> Cells<'r> {
    /// A row of `table`.
    pub fn new(row: &'r PgRow, table: &'static str) -> Cells<'r> {
        Cells { row, next: 0, table, key: Key::Unread }
    }

    /// The error that says what is wrong with this row.
    pub fn corrupt(&self, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt { table: self.table, key: self.key.to_string(), what: what.into() }
    }

    /// The next cell as it is.
    pub fn take<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T, StoreError> {
        let cell = self.row.try_get(self.next).map_err(|error| self.corrupt(error.to_string()))?;
        self.next += 1;
        Ok(cell)
    }

    /// Leaves `n` cells out.
    pub fn skip(&mut self, n: usize) {
        self.next += n;
    }

    /// The next cell, text in a form that `read` knows.
    pub fn read<T>(&mut self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, StoreError> {
        let text: &'r str = self.take()?;
        read(text).map_err(|what| self.corrupt(what))
    }

    /// As [`read`](Self::read), for a cell that may be empty.
    pub fn read_some<T>(&mut self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, StoreError> {
        let text: Option<&'r str> = self.take()?;
        text.map(read).transpose().map_err(|what| self.corrupt(what))
    }

    /// The next cell, JSON text.
    pub fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        self.read(|text| text::parse(text))
    }

    /// The next cell, `jsonb` as text, in its compact form.
    pub fn compact(&mut self) -> Result<String, StoreError> {
        self.take().map(plain::compact)
    }

    /// As [`compact`](Self::compact), for a cell that may be empty.
    pub fn compact_if_any(&mut self) -> Result<Option<String>, StoreError> {
        Ok(self.take::<Option<&'r str>>()?.map(plain::compact))
    }

    /// The next cell, a `bigint` that fits `T`.
    pub fn number<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let number: i64 = self.take()?;
        T::try_from(number).map_err(|_| self.corrupt(format!("{number} is out of range")))
    }

    /// The next cell, an `integer`: the number of an attempt.
    pub fn attempt(&mut self) -> Result<u32, StoreError> {
        let number: i32 = self.take()?;
        u32::try_from(number).map_err(|_| self.corrupt(format!("{number} is no attempt")))
    }

    /// The next cell, an instant.
    pub fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.take().map(|Micros(at)| at)
    }

    /// The next cell, an instant that may not have come.
    pub fn time_if_any(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.take::<Option<Micros>>()?.map(|Micros(at)| at))
    }

    /// The next cell, which names the row.
    pub fn id(&mut self) -> Result<Uuid, StoreError> {
        let id = self.take()?;
        self.key = Key::Id(id);
        Ok(id)
    }

    /// The next two cells, command and agent, which name the row.
    pub fn pair(&mut self) -> Result<(CommandId, AgentId), StoreError> {
        let (command, agent) = (self.take()?, self.take()?);
        self.key = Key::Pair(command, agent);
        Ok((CommandId(command), AgentId(agent)))
    }

    /// The next cell, text which names the row.
    pub fn name(&mut self) -> Result<String, StoreError> {
        let name: String = self.take()?;
        self.key = Key::Text(name.clone());
        Ok(name)
    }

    /// The next cell, a number which names the row.
    pub fn numbered(&mut self) -> Result<u64, StoreError> {
        let number: i64 = self.take()?;
        self.key = Key::Number(number);
        u64::try_from(number).map_err(|_| self.corrupt("its number is negative"))
    }
}

/// Reads a word of a closed set.
pub(super) fn word<T>(what: &'static str, parse: impl Fn(&str) -> Option<T>) -> impl Fn(&str) -> Result<T, String> {
    move |text| parse(text).ok_or_else(|| format!("`{text}` is not a {what}"))
}

pub(super) fn state(cells: &mut Cells<'_>) -> Result<State, StoreError> {
    cells.read(word("state", State::parse))
}

pub(super) fn reason(cells: &mut Cells<'_>) -> Result<Option<Reason>, StoreError> {
    cells.read_some(word("reason", Reason::parse))
}

pub(super) fn status(cells: &mut Cells<'_>) -> Result<Status, StoreError> {
    cells.read(word("status", Status::parse))
}

pub(super) fn counts(cells: &mut Cells<'_>) -> Result<Counts, StoreError> {
    cells.read(text::parse_counts)
}

pub(super) fn stream(cells: &mut Cells<'_>) -> Result<Stream, StoreError> {
    cells.read(word("stream", Stream::parse))
}

/// Columns of [`command`], of `commands c`.
pub(super) const COMMAND: &str = "c.id, c.actor::text, c.correlation_id, c.verb, c.priority, c.created_at, c.start_by, \
     c.run_timeout_ms, c.parent_id, c.plugin, c.plugin_version, c.plugin_digest, c.traceparent, c.summary, \
     c.target::text, c.terms::text, c.args::text";

pub(super) fn command(cells: &mut Cells<'_>) -> Result<Command, StoreError> {
    let id = CommandId(cells.id()?);
    let (submitter, principal) = cells.read(text::submitter)?;
    Ok(Command {
        id,
        correlation_id: cells.take()?,
        verb: cells.read(word("verb", VerbName::parse))?,
        priority: cells.read(word("priority", Priority::parse))?,
        created_at: cells.time()?,
        start_by: cells.time()?,
        run_timeout_ms: cells.number()?,
        parent: cells.take::<Option<Uuid>>()?.map(CommandId),
        plugin: cells.take()?,
        plugin_version: cells.take()?,
        plugin_digest: cells.take()?,
        submitter,
        principal,
        traceparent: cells.take()?,
        summary: cells.take()?,
        target: cells.compact()?,
        terms: cells.read(terms::parse)?,
        args: cells.compact()?,
    })
}

/// Columns of [`view`] after those of [`COMMAND`].
pub(super) const VIEW: &str = "c.status, c.counts::text, c.completed_at, c.error_message";

pub(super) fn view(row: &PgRow) -> Result<CommandView, StoreError> {
    let mut cells = Cells::new(row, "commands");
    Ok(CommandView {
        command: command(&mut cells)?,
        status: status(&mut cells)?,
        counts: counts(&mut cells)?,
        completed_at: cells.time_if_any()?,
        halted: cells.take()?,
    })
}

/// Columns of [`invocation`], of `invocations i`.
pub(super) const INVOCATION: &str = "i.command_id, i.agent_id, i.agent_name, i.site, i.attempt, i.state, i.reason, \
     i.message, i.cancel_requested_at, i.created_at, i.due_at, i.started_at, i.changed_at, i.summary, i.parse_fault, \
     i.outcome::text, i.result::text";

pub(super) fn invocation(row: &PgRow) -> Result<Invocation, StoreError> {
    let mut cells = Cells::new(row, "invocations");
    let (command, agent) = cells.pair()?;
    Ok(Invocation {
        command,
        agent,
        agent_name: cells.take()?,
        site: cells.take()?,
        attempt: cells.attempt()?,
        state: state(&mut cells)?,
        reason: reason(&mut cells)?,
        message: cells.take()?,
        cancel_requested_at: cells.time_if_any()?,
        created_at: cells.time()?,
        due_at: cells.time_if_any()?,
        started_at: cells.time_if_any()?,
        changed_at: cells.time()?,
        summary: cells.take()?,
        parse_fault: cells.take()?,
        outcome: cells.read_some(|text| text::parse::<Outcome>(text))?,
        result: cells.take()?,
    })
}

/// Columns of [`due`] before those of [`COMMAND`], of `invocations i` and `commands c`.
pub(super) const DUE: &str = "i.command_id, i.agent_id, i.attempt, i.start_by, c.error_message is not null, i.signed, \
     i.signature";

/// [`DUE`] and then [`COMMAND`].
pub(super) fn due(row: &PgRow) -> Result<Due, StoreError> {
    due_with(row, |cells| Ok(Arc::new(command(cells)?)))
}

/// [`DUE`] of a command that was read before: what many invocations share is read once.
pub(super) fn due_of(row: &PgRow, whole: &Arc<Command>) -> Result<Due, StoreError> {
    due_with(row, |_| Ok(Arc::clone(whole)))
}

fn due_with(
    row: &PgRow,
    command: impl FnOnce(&mut Cells<'_>) -> Result<Arc<Command>, StoreError>,
) -> Result<Due, StoreError> {
    let mut cells = Cells::new(row, "invocations");
    let (_, agent) = cells.pair()?;
    let (attempt, start_by, halted) = (cells.attempt()?, cells.time()?, cells.take()?);
    let envelope = SignedEnvelope { signed: cells.take()?, signature: cells.take()? };
    cells.table = "commands";
    Ok(Due { command: command(&mut cells)?, agent, attempt, start_by, halted, envelope })
}

/// Columns of [`open`], of `invocations i`.
pub(super) const OPEN: &str = "i.command_id, i.agent_id, i.attempt, i.state, i.reason, i.cancel_requested_at";

pub(super) fn open(row: &PgRow) -> Result<Open, StoreError> {
    open_of(&mut Cells::new(row, "invocations"))
}

/// A row of [`OPEN`], and when it was to start.
pub(super) fn overdue(row: &PgRow) -> Result<Overdue, StoreError> {
    let mut cells = Cells::new(row, "invocations");
    Ok(Overdue { open: open_of(&mut cells)?, start_by: cells.time()? })
}

fn open_of(cells: &mut Cells<'_>) -> Result<Open, StoreError> {
    let (command, agent) = cells.pair()?;
    Ok(Open {
        key: AttemptKey { command, number: cells.attempt()? },
        agent,
        state: state(cells)?,
        reason: reason(cells)?,
        cancel_requested: cells.time_if_any()?.is_some(),
    })
}

/// Columns of [`agent`], of `agents`.
pub(super) const AGENT: &str = "id, agent_id, site, labels::text, public_key, version, os, kernel, container_engine, \
     capabilities, connection_info::text, maintenance, awaits_approval, revoked_at, deleted_at, rotation_asked_at, created_at, last_seen, \
     session_epoch, maybe_sent";

pub(super) fn agent(cells: &mut Cells<'_>) -> Result<Agent, StoreError> {
    let id = AgentId(cells.id()?);
    let (name, site) = (text::name_of(cells.take()?), cells.take()?);
    let labels = cells.json()?;
    let public_key = cells.take()?;
    let facts = Facts {
        version: cells.take()?,
        os: cells.take()?,
        kernel: cells.take()?,
        container_engine: cells.take()?,
        capabilities: cells.take()?,
        ..Facts::default()
    };
    let facts = cells.json::<text::ConnectionInfo>()?.into_facts(facts);
    Ok(Agent {
        id,
        name,
        site,
        labels,
        public_key,
        facts,
        maintenance: cells.take()?,
        awaits_approval: cells.take()?,
        revoked_at: cells.time_if_any()?,
        deleted_at: cells.time_if_any()?,
        rotation_asked_at: cells.time_if_any()?,
        created_at: cells.time()?,
        last_seen: cells.time_if_any()?,
        session_epoch: cells.number()?,
        maybe_sent: cells.take()?,
    })
}
