//! Output: each byte of a stream stored once, in the order of arrival, and read back by offset.

use std::collections::HashMap;
use std::ops::Range;

use domain::event::What;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::Stream;
use ports::commands::Chunk;
use ports::error::StoreError;
use sqlx::PgConnection;

use super::PostgresStore;
use super::failure::Failure;
use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use crate::coverage::Coverage;
use crate::intake::Entry;
use crate::staged::Staged;

/// The stored ranges of the streams of attempts, merged where they touch. Read anew for every batch: what
/// one host remembers, another may have added to. No output is older than its command, but for clocks that differ:
/// that leaves out the days before.
pub(super) const STORED: &str = "select w.command_id, w.agent_id, w.attempt, s.stream, lower(s.part), upper(s.part) \
     from unnest($1::uuid[], $2::uuid[], $3::integer[]) as w (command_id, agent_id, attempt) \
     join commands c on c.id = w.command_id cross join lateral (select o.stream, unnest(range_agg(int8range(o.byte_offset, o.byte_offset + length(o.data)))) as part \
     from outputs o where o.command_id = w.command_id and o.agent_id = w.agent_id and o.attempt = w.attempt \
     and o.at >= c.created_at - interval '1 day' group by o.stream) as s";
pub(super) const INSERT: &str = "insert into outputs (seq, command_id, agent_id, attempt, stream, byte_offset, at, data) \
     select * from unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::bigint[], $7::timestamptz[], \
     $8::bytea[])";

type Attempt = (CommandId, AgentId, u32);

fn attempt(chunk: &Chunk) -> Attempt {
    (chunk.key.command, chunk.agent, chunk.key.number)
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// New parts of chunks, in order.
pub(super) struct Cut<'a> {
    parts: Vec<(&'a Chunk, Range<u64>)>,
    refused: u64,
}

/// The same with their numbers, counted from where this transaction's begin.
#[derive(Default)]
pub(super) struct Numbered<'a> {
    parts: Vec<(u64, &'a Chunk, Range<u64>)>,
    /// Chunks that belong to no stored attempt.
    pub refused: u64,
}

/// Cuts chunks to what is not stored yet. `latest` says which attempt an invocation is at; its row is
/// locked, so nobody else adds to its output meanwhile.
pub(super) async fn cut<'a>(
    tx: &mut PgConnection,
    chunks: &'a [Entry<Chunk>],
    latest: impl Fn(CommandId, AgentId) -> Option<u32>,
) -> Result<Cut<'a>, Failure> {
    if chunks.is_empty() {
        return Ok(Cut { parts: Vec::new(), refused: 0 });
    }
    let exists = |(command, agent, number): &Attempt| latest(*command, *agent).is_some_and(|last| *number <= last);
    let mut streams: HashMap<Attempt, [Coverage; 2]> = HashMap::new();
    for key in chunks.iter().map(|entry| attempt(&entry.job)).filter(exists) {
        streams.entry(key).or_default();
    }
    stored(tx, &mut streams).await?;

    let mut cut = Cut { parts: Vec::with_capacity(chunks.len()), refused: 0 };
    for Entry { job: chunk, .. } in chunks {
        let end = chunk.offset.checked_add(chunk.data.len() as u64).filter(|end| i64::try_from(*end).is_ok());
        match (streams.get_mut(&attempt(chunk)), end) {
            (Some(coverage), Some(end)) => {
                let new = coverage[index(chunk.stream)].add(chunk.offset..end);
                cut.parts.extend(new.into_iter().map(|part| (chunk, part)));
            }
            (None, _) | (_, None) => cut.refused += 1,
        }
    }
    Ok(cut)
}

async fn stored(tx: &mut PgConnection, streams: &mut HashMap<Attempt, [Coverage; 2]>) -> Result<(), Failure> {
    if streams.is_empty() {
        return Ok(());
    }
    let found = sqlx::query(STORED)
        .bind(streams.keys().map(|(command, _, _)| command.0).collect::<Vec<_>>())
        .bind(streams.keys().map(|(_, agent, _)| agent.0).collect::<Vec<_>>())
        .bind(streams.keys().map(|(_, _, number)| i32::try_from(*number).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .fetch_all(tx)
        .await?;
    for row in &found {
        let mut cells = Cells::new(row, "outputs");
        let (command, agent) = cells.pair()?;
        let number = cells.attempt()?;
        let stream = rows::stream(&mut cells)?;
        let (start, end): (u64, u64) = (cells.number()?, cells.number()?);
        if let Some(coverage) = streams.get_mut(&(command, agent, number)) {
            coverage[index(stream)].add(start..end);
        }
    }
    Ok(())
}

fn bytes<'a>(chunk: &'a Chunk, part: &Range<u64>) -> &'a [u8] {
    let at = |offset: u64| usize::try_from(offset - chunk.offset).expect("a part lies inside its chunk");
    &chunk.data[at(part.start)..at(part.end)]
}

impl<'a> Cut<'a> {
    /// Adds an event for each part, which gives it its number.
    pub fn stage(self, staged: &mut Staged) -> Numbered<'a> {
        let Cut { parts, refused } = self;
        let number = |(chunk, part): (&'a Chunk, Range<u64>)| {
            let what = What::Output {
                command: chunk.key.command,
                agent: chunk.agent,
                attempt: chunk.key.number,
                stream: chunk.stream,
                offset: part.start,
                data: bytes(chunk, &part).to_vec(),
            };
            (staged.event(chunk.at, what), chunk, part)
        };
        Numbered { parts: parts.into_iter().map(number).collect(), refused }
    }
}

/// Stores the parts, their numbers moved up by `base`.
pub(super) async fn insert(tx: &mut PgConnection, numbered: &Numbered<'_>, base: u64) -> Result<(), sqlx::Error> {
    let parts = &numbered.parts;
    if parts.is_empty() {
        return Ok(());
    }
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query(INSERT)
        .bind(parts.iter().map(|(seq, _, _)| number(seq + base)).collect::<Vec<_>>())
        .bind(parts.iter().map(|(_, chunk, _)| chunk.key.command.0).collect::<Vec<_>>())
        .bind(parts.iter().map(|(_, chunk, _)| chunk.agent.0).collect::<Vec<_>>())
        .bind(parts.iter().map(|(_, chunk, _)| i32::try_from(chunk.key.number).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .bind(parts.iter().map(|(_, chunk, _)| chunk.stream.as_str()).collect::<Vec<_>>())
        .bind(parts.iter().map(|(_, _, part)| number(part.start)).collect::<Vec<_>>())
        .bind(parts.iter().map(|(_, chunk, _)| micros(chunk.at)).collect::<Vec<_>>())
        .bind(parts.iter().map(|(_, chunk, part)| bytes(chunk, part)).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// Stored output from `offset` on: chunks as long as those before them hold fewer than `limit` bytes of it.
/// Only these are read; of the others the lengths are enough, which are known without the bytes.
pub(super) fn from(key: AttemptKey, agent: AgentId, stream: Stream, offset: u64, limit: u64) -> Statement {
    // Chunks do not overlap, so only the last one that begins at or before `offset` can reach it.
    let text = "select p.byte_offset, p.at, p.data from ( \
             select o.byte_offset, o.at, o.data, \
                 sum(greatest(length(o.data) - greatest($5::bigint - o.byte_offset, 0), 0)) \
                     over (order by o.byte_offset rows between unbounded preceding and 1 preceding) as bytes_before \
             from outputs o where o.command_id = $1 and o.agent_id = $2 and o.attempt = $3 and o.stream = $4 \
             and o.at >= (select created_at - interval '1 day' from commands where id = $1) \
             and o.byte_offset >= coalesce((select l.byte_offset from outputs l where l.command_id = $1 \
                 and l.agent_id = $2 and l.attempt = $3 and l.stream = $4 and l.byte_offset <= $5 \
                 and l.at >= (select created_at - interval '1 day' from commands where id = $1) \
                 order by l.byte_offset desc limit 1), 0) \
         ) p where coalesce(p.bytes_before, 0) < $6::bigint order by p.byte_offset";
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Statement::new(text)
        .bind(key.command.0)
        .bind(agent.0)
        .bind(i32::try_from(key.number).unwrap_or(i32::MAX))
        .bind(stream.as_str())
        .bind(number(offset))
        .bind(number(limit.max(1)))
}

/// Which bytes of a stream there are, without the bytes.
pub(super) fn lengths(key: AttemptKey, agent: AgentId, stream: Stream) -> Statement {
    let text = "select byte_offset, length(data)::bigint from outputs where command_id = $1 and agent_id = $2 \
         and attempt = $3 and stream = $4 and at >= (select created_at - interval '1 day' from commands where id = $1) \
         order by byte_offset";
    Statement::new(text)
        .bind(key.command.0)
        .bind(agent.0)
        .bind(i32::try_from(key.number).unwrap_or(i32::MAX))
        .bind(stream.as_str())
}

impl PostgresStore {
    pub(super) async fn output_from(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<Chunk>, StoreError> {
        let found = self.rows(from(key, agent, stream, offset, limit)).await?;
        let mut chunks: Vec<Chunk> = Vec::with_capacity(found.len());
        let mut room = limit;
        for row in &found {
            let mut cells = Cells::new(row, "outputs");
            let mut start = cells.numbered()?;
            let (at, mut data): (_, Vec<u8>) = (cells.time()?, cells.take()?);
            if start < offset {
                let before = usize::try_from(offset - start).unwrap_or(usize::MAX).min(data.len());
                data.drain(..before);
                start = offset;
            }
            let length = data.len() as u64;
            if length == 0 {
                continue;
            }
            if length > room && !chunks.is_empty() {
                break;
            }
            room = room.saturating_sub(length);
            chunks.push(Chunk { key, agent, stream, offset: start, data, at });
        }
        Ok(chunks)
    }
    pub(super) async fn stored_of(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
    ) -> Result<Vec<Range<u64>>, StoreError> {
        let found = self.rows(lengths(key, agent, stream)).await?;
        let range = |row| {
            let mut cells = Cells::new(row, "outputs");
            let (start, length) = (cells.numbered()?, cells.number::<u64>()?);
            Ok(start..start.saturating_add(length))
        };
        found.iter().map(range).collect()
    }
}
