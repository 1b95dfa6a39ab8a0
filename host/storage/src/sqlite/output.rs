//! Output: each byte of a stream stored once, in the order of arrival, and read back by offset.

use std::collections::HashMap;
use std::ops::Range;

use domain::event::What;
use domain::time::Timestamp;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::Stream;
use ports::commands::Chunk;
use ports::error::StoreError;

use super::bulk::{Bulk, Script};
use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Row, query};
use super::rows::{self, Cells};
use super::{SqliteStore, copier};
use crate::coverage::Coverage;
use crate::intake::Entry;
use crate::staged::Staged;

/// Attempts whose coverage is remembered; past this all are forgotten and read again when needed.
const REMEMBERED: usize = 4096;

pub(super) static STORED: Bulk = Bulk::new(
    "with wanted (command_id, agent_id, attempt) as (values",
    "(?, ?, ?)",
    ") select o.command_id, o.agent_id, o.attempt, o.stream, o.byte_offset, length(o.data) \
     from wanted w cross join outputs o \
     on o.command_id = w.command_id and o.agent_id = w.agent_id and o.attempt = w.attempt",
);
pub(super) static INSERT: Bulk = Bulk::new(
    "insert into outputs (seq, command_id, agent_id, attempt, stream, byte_offset, at, data) values",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);

/// Stored output from an offset on. Chunks do not overlap, so only the last one that begins at or before it
/// can reach it.
pub(super) const FROM: &str = "select byte_offset, at, data from outputs \
     where command_id = ?1 and agent_id = ?2 and attempt = ?3 and stream = ?4 and byte_offset >= coalesce( \
         (select max(byte_offset) from outputs where command_id = ?1 and agent_id = ?2 and attempt = ?3 \
          and stream = ?4 and byte_offset <= ?5), 0) \
     order by byte_offset";

/// Which bytes of a stream there are, without the bytes.
pub(super) const LENGTHS: &str = "select byte_offset, length(data) from outputs \
     where command_id = ? and agent_id = ? and attempt = ? and stream = ? order by byte_offset";

/// What goes in one step of forgetting: so many rows, and of those so many bytes, for pages are freed one by one.
const ROWS_AT_ONCE: i64 = 200;
const BYTES_AT_ONCE: i64 = 1 << 20;
/// The oldest output has the lowest numbers.
pub(super) const FORGET: &str = "delete from outputs where seq in (select seq from \
         (select seq, at, row_number() over (order by seq) as n, sum(length(data)) over (order by seq) as bytes \
             from (select seq, at, data from outputs order by seq limit ?2)) \
     where at < ?1 and (n = 1 or bytes <= ?3))";

type Attempt = (CommandId, AgentId, u32);

/// What is stored of the streams that are being written.
#[derive(Default)]
pub(super) struct Streams(HashMap<Attempt, [Coverage; 2]>);

fn attempt(chunk: &Chunk) -> Attempt {
    (chunk.key.command, chunk.agent, chunk.key.number)
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Streams {
    /// Invocations of chunks whose attempt is not remembered.
    pub fn unknown<'a>(&'a self, chunks: &'a [Entry<Chunk>]) -> impl Iterator<Item = (CommandId, AgentId)> + 'a {
        let unknown = |chunk: &&Chunk| !self.0.contains_key(&attempt(chunk));
        chunks.iter().map(|entry| &entry.job).filter(unknown).map(|chunk| (chunk.key.command, chunk.agent))
    }
}

/// New parts of chunks, in order.
pub(super) struct Cut<'a> {
    parts: Vec<(&'a Chunk, Range<u64>)>,
    refused: u64,
}

/// The same with their numbers.
pub(super) struct Numbered<'a> {
    parts: Vec<(u64, &'a Chunk, Range<u64>)>,
    /// Chunks that belong to no stored attempt.
    pub refused: u64,
}

/// Cuts chunks to what is not stored yet. `latest` says which attempt an invocation is at.
pub(super) async fn cut<'a>(
    tx: &mut Sqlite,
    chunks: &'a [Entry<Chunk>],
    streams: &mut Streams,
    latest: impl Fn(CommandId, AgentId) -> Option<u32>,
) -> Result<Cut<'a>, Failure> {
    if chunks.is_empty() {
        return Ok(Cut { parts: Vec::new(), refused: 0 });
    }
    let exists = |(command, agent, number): &Attempt| latest(*command, *agent).is_some_and(|last| *number <= last);
    let mut fresh: Vec<Attempt> =
        chunks.iter().map(|entry| attempt(&entry.job)).filter(|key| !streams.0.contains_key(key)).collect();
    fresh.sort_unstable();
    fresh.dedup();
    fresh.retain(exists);
    remember(tx, &fresh, streams).await?;

    let mut cut = Cut { parts: Vec::with_capacity(chunks.len()), refused: 0 };
    for Entry { job: chunk, .. } in chunks {
        let end = chunk.offset.checked_add(chunk.data.len() as u64).filter(|end| i64::try_from(*end).is_ok());
        match (streams.0.get_mut(&attempt(chunk)), end) {
            (Some(coverage), Some(end)) => {
                let new = coverage[index(chunk.stream)].add(chunk.offset..end);
                cut.parts.extend(new.into_iter().map(|part| (chunk, part)));
            }
            (None, _) | (_, None) => cut.refused += 1,
        }
    }
    if streams.0.len() > REMEMBERED {
        streams.0.clear();
    }
    Ok(cut)
}

async fn remember(tx: &mut Sqlite, fresh: &[Attempt], streams: &mut Streams) -> Result<(), Failure> {
    let stored = STORED.fetch(tx, fresh, |(command, agent, number), values| {
        values.put(command.0).put(agent.0).put(i64::from(*number));
    })?;
    for key in fresh {
        streams.0.insert(*key, Default::default());
    }
    for row in &stored {
        let mut cells = Cells::new(row, "outputs");
        let (command, agent) = cells.pair()?;
        let number = cells.number()?;
        let stream = rows::stream(&mut cells)?;
        let (offset, length): (u64, u64) = (cells.number()?, cells.number()?);
        if let Some(coverage) = streams.0.get_mut(&(command, agent, number)) {
            coverage[index(stream)].add(offset..offset.saturating_add(length));
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

/// Stores the parts.
pub(super) fn insert(script: &mut Script, numbered: &Numbered<'_>) {
    script.add(&INSERT, &numbered.parts, |(seq, chunk, part), values| {
        values
            .put(i64::try_from(*seq).unwrap_or(i64::MAX))
            .put(chunk.key.command.0)
            .put(chunk.agent.0)
            .put(i64::from(chunk.key.number))
            .put(chunk.stream.as_str())
            .put(i64::try_from(part.start).unwrap_or(i64::MAX))
            .put(chunk.at.0)
            .put(bytes(chunk, part));
    });
}

impl SqliteStore {
    /// One small step; answers whether there may be another.
    pub(super) async fn forget_oldest(&self, before: Timestamp) -> Result<bool, StoreError> {
        let gone = self
            .cold(move |connection, _| {
                Box::pin(async move {
                    let query = query(FORGET).bind(before.0).bind(ROWS_AT_ONCE).bind(BYTES_AT_ONCE);
                    Ok::<_, Failure>(query.execute(connection).await?.rows_affected() > 0)
                })
            })
            .await?;
        if gone {
            // What it changed is copied out of the log here, beside the writer: the writer would have to copy the pages
            // of hundreds of steps in one go, and whoever writes would wait for that.
            copier::finish(&self.readers).await.map_err(Failure::from)?;
        }
        Ok(gone)
    }

    pub(super) async fn let_go_of(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        gone: Range<u64>,
    ) -> Result<(), StoreError> {
        let at = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
        let (from, until) = (at(gone.start), at(gone.end));
        // What was stored stays covered in memory, so that a repetition of it is not stored again.
        self.cold(move |connection, _| {
            Box::pin(async move {
                let query = query(
                    "delete from outputs where command_id = ? and agent_id = ? and attempt = ? and stream = ? \
                     and byte_offset >= ? and byte_offset + length(data) <= ?",
                );
                let query = query.bind(key.command.0).bind(agent.0).bind(i64::from(key.number)).bind(stream.as_str());
                query.bind(from).bind(until).execute(connection).await?;
                Ok(())
            })
        })
        .await
    }

    pub(super) async fn output_from(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<Chunk>, StoreError> {
        let query = query(FROM);
        let from = i64::try_from(offset).unwrap_or(i64::MAX);
        let query =
            query.bind(key.command.0).bind(agent.0).bind(i64::from(key.number)).bind(stream.as_str()).bind(from);
        let first = (Vec::new(), limit);
        let read = self.readers.each(query.parts(), first, move |(chunks, room), row| {
            match chunk(&row, (key, agent, stream), offset) {
                Ok(chunk) => fits(chunks, room, chunk),
                Err(error) => {
                    chunks.push(Err(error));
                    false
                }
            }
        });
        let (chunks, _): (Vec<Result<Chunk, StoreError>>, u64) = read.await.map_err(Failure::from)?;
        chunks.into_iter().collect()
    }

    pub(super) async fn stored_of(
        &self,
        key: AttemptKey,
        agent: AgentId,
        stream: Stream,
    ) -> Result<Vec<Range<u64>>, StoreError> {
        let query = query(LENGTHS);
        let query = query.bind(key.command.0).bind(agent.0).bind(i64::from(key.number)).bind(stream.as_str());
        let found = query.fetch_all(&self.readers).await.map_err(Failure::from)?;
        let range = |row| {
            let mut cells = Cells::new(row, "outputs");
            let (start, length) = (cells.numbered()?, cells.number::<u64>()?);
            Ok(start..start.saturating_add(length))
        };
        found.iter().map(range).collect()
    }
}

/// One row of [`FROM`], without what lies before `offset`.
fn chunk(row: &Row, (key, agent, stream): (AttemptKey, AgentId, Stream), offset: u64) -> Result<Chunk, StoreError> {
    let mut cells = Cells::new(row, "outputs");
    let mut start = cells.numbered()?;
    let (at, mut data): (i64, Vec<u8>) = (cells.take()?, cells.take()?);
    if start < offset {
        let before = usize::try_from(offset - start).unwrap_or(usize::MAX).min(data.len());
        data.drain(..before);
        start = offset;
    }
    Ok(Chunk { key, agent, stream, offset: start, data, at: Timestamp(at) })
}

/// Takes a chunk in as long as there is room; the first one always. Whether there may be another.
fn fits(chunks: &mut Vec<Result<Chunk, StoreError>>, room: &mut u64, chunk: Chunk) -> bool {
    let length = chunk.data.len() as u64;
    if length > *room && !chunks.is_empty() {
        return false;
    }
    *room = room.saturating_sub(length);
    if length > 0 {
        chunks.push(Ok(chunk));
    }
    true
}
