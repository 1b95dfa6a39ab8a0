//! This host's writer: takes a batch, writes it as one transaction, tells listeners, answers callers.
//!
//! Order inside a transaction: commands, then advances, then what is rare, then output, events and audit
//! entries. A rare write thus sees the latest state, and an advance of a command accepted beside it
//! finds it.
//!
//! Several hosts write at once. Rows that are moved are locked first, in the order of their ids. Numbers of
//! events come from `event_counter`, one row that is raised as late as possible and stays locked until
//! the transaction has committed; so an event becomes visible only after all with lower numbers, and a
//! reader that follows by number never skips one. A sequence could not promise that: it hands numbers
//! out in one order, and transactions commit in another. The price is that commits of several hosts
//! follow each other; each carries a whole batch.
//!
//! So everybody locks in one order, and no two can wait for each other: the rows that are moved and `alert_news`, then
//! `event_counter`, then the audit log, then the rows of its chains. What begins with the counter, as dropping audit
//! entries does, has a transaction of its own: beside it, in one batch, others would go on to lock rows.
//!
//! A deadlock, or a row changed by another host in between, makes the transaction start over. A broken
//! connection does too, as long as the server may be back in a moment; if it broke during the commit,
//! [`Line::was_committed`] says first what became of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::audit::chain::Cause;
use plan::id::ChainId;
use ports::commands::Advanced;
use ports::error::StoreError;
use ports::live::Live;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::line::Line;
use super::{Shared, advance, audit, commands, journal, output};
use crate::job::{Batch, Undo};
use crate::staged::Staged;
use crate::trail::{End, Trail};

/// Set here, not taken from the server's settings: what is read after a lock must be the latest.
const BEGIN: &str = "begin isolation level read committed";
/// How often one batch is tried again because of other hosts.
const TRIES: u32 = 8;
/// How long a batch waits for a server that was there a moment ago.
const GRACE: Duration = Duration::from_millis(1_000);
/// Between two attempts within [`GRACE`].
const PAUSE: Duration = Duration::from_millis(25);
/// Between two attempts to write what nobody waits for while the server is away.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// Owns the connection that writes. Until it runs, writes queue; when it has ended, they are refused.
pub struct Writer {
    shared: Arc<Shared>,
    live: Arc<dyn Live>,
    line: Line,
    /// Longest that a transaction, and then its commit, may stay without an answer.
    within: Duration,
    trail: Trail,
    /// Since when the server has been away.
    away_since: Option<Instant>,
}

/// What callers are told after the commit.
struct Answers {
    accepted: Vec<Result<(), StoreError>>,
    advanced: Vec<Option<Advanced>>,
    chunks_refused: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, live: Arc<dyn Live>, line: Line, statement_timeout: Duration) -> Writer {
        let trail = Trail::new(ChainId(shared.node), Cause::Start, shared.notary.clone());
        Writer { shared, live, line, within: statement_timeout + Duration::from_secs(1), trail, away_since: None }
    }

    /// Writes until `stop` is cancelled and everything queued before that is on disk, or the server is
    /// away.
    pub async fn run(mut self, stop: CancellationToken) {
        // The first write should not have to wait for a connection; if there is none, it will say so.
        if let Err(failure) = self.line.ready().await {
            self.line.cut();
            tracing::warn!(error = %StoreError::from(failure), "the writer has no connection yet");
        }
        while let Some(entries) = self.shared.intake.take(&stop).await {
            let mut batch = Batch::sort(entries);
            for lone in batch.take_lone() {
                self.write(lone).await;
            }
            self.write(batch).await;
            if self.away_since.is_some() {
                self.shared.intake.pause(Instant::now() + AWAY_PAUSE, &stop).await;
            }
        }
        self.trail.close();
        if let Err(failure) = self.line.close().await {
            tracing::warn!(error = %StoreError::from(failure), "the writer's connection did not close cleanly");
        }
    }

    async fn write(&mut self, mut batch: Batch<PgConnection>) {
        // Whoever asked for these was told that they are not stored, or has gone.
        batch.accepts.retain(|(_, reply)| !reply.is_closed());
        if batch.is_empty() {
            batch.answer_flushes();
            return;
        }
        let patience = Instant::now() + GRACE;
        let (mut tries, mut apart) = (0, false);
        loop {
            let mut staged = Staged::after(0);
            let failure = match self.transact(&mut batch, &mut staged, apart).await {
                Ok(answers) => return self.finish(batch, answers, &staged),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Clash(_)) && !apart {
                // Nothing else was written yet, so starting over is cheaper than a savepoint every time.
                apart = true;
                continue;
            }
            if failure.is_passing() && tries < TRIES {
                tries += 1;
                continue;
            }
            self.line.cut();
            // Only a server that was there a moment ago is worth making callers wait.
            if failure.is_lost() && self.away_since.is_none() && Instant::now() < patience {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            return self.give_up(batch, failure);
        }
    }

    /// Tries the batch once. On an error nothing of it is stored, unless the error says that this is not
    /// known.
    async fn transact(
        &mut self,
        batch: &mut Batch<PgConnection>,
        staged: &mut Staged,
        apart: bool,
    ) -> Result<Answers, Failure> {
        let within = self.within;
        let shared = Arc::clone(&self.shared);
        let (connection, number) = self.line.ready().await?;
        let mut tx = match tokio::time::timeout(within, connection.begin_with(BEGIN)).await {
            Ok(begun) => begun?,
            Err(_) => return Err(Failure::Silence(within)),
        };
        let this = (&*shared, number, &self.trail);
        let (answers, end) = match tokio::time::timeout(within, fill(&mut tx, batch, staged, apart, this)).await {
            Ok(Ok(filled)) => filled,
            Ok(Err(failure)) => {
                // The answer is not needed: a connection that cannot roll back is of no more use.
                let rolled_back = tokio::time::timeout(within, tx.rollback()).await;
                if !matches!(rolled_back, Ok(Ok(()))) {
                    self.line.cut();
                }
                return Err(failure);
            }
            Err(_) => return Err(Failure::Silence(within)),
        };
        let broken = match tokio::time::timeout(within, tx.commit()).await {
            Ok(Ok(())) => {
                self.trail.committed(end);
                return Ok(answers);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer for {} ms", within.as_millis()),
        };
        match self.line.was_committed(number).await {
            Ok(true) => {
                self.trail.committed(end);
                Ok(answers)
            }
            Ok(false) => Err(Failure::Database(sqlx::Error::Protocol(format!("the commit failed: {broken}")))),
            Err(failure) => Err(Failure::Unknown(format!("{broken}; {}", StoreError::from(failure)))),
        }
    }

    fn finish(&mut self, batch: Batch<PgConnection>, answers: Answers, staged: &Staged) {
        if let Some(since) = self.away_since.take() {
            tracing::info!(
                away_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                "the database is back"
            );
        }
        let tally = &self.shared.tally;
        tally.commits.fetch_add(1, Ordering::Relaxed);
        tally.writes.fetch_add(batch.len(), Ordering::Relaxed);
        tally.audits.fetch_add(staged.audits().len() as u64, Ordering::Relaxed);
        tally.chunks_dropped.fetch_add(answers.chunks_refused, Ordering::Relaxed);
        self.live.publish(staged.events());
        answer(batch, answers);
    }

    /// Nothing of the batch is on disk, as far as is known. Whoever waits is told; what nobody waits for
    /// goes back to the front of the queue, for nobody would send it again, and to store it twice
    /// changes nothing.
    fn give_up(&mut self, batch: Batch<PgConnection>, failure: Failure) {
        let away = failure.is_lost() || matches!(failure, Failure::Unknown(_) | Failure::Weak(_));
        // What the schema refuses would be refused for ever, and everything else with it.
        let poisoned = failure.refused_row().is_some();
        self.trail.forget();
        let error = StoreError::from(failure);
        let writes = batch.len();
        if !away {
            tracing::error!(%error, writes, "a batch of writes failed and was rolled back");
        } else if self.away_since.is_none() {
            tracing::error!(%error, writes, "the database is away; what nobody waits for is kept and written when it is back");
            self.away_since = Some(Instant::now());
        }
        let (chunks, notes) = (batch.chunks.len() as u64, batch.notes());
        let kept = batch.fail_and_keep(&error);
        let tally = &self.shared.tally;
        tally.failures.fetch_add(1, Ordering::Relaxed);
        if poisoned || !self.shared.intake.put_back(kept) {
            tally.chunks_dropped.fetch_add(chunks, Ordering::Relaxed);
            tally.notes_dropped.fetch_add(notes, Ordering::Relaxed);
        }
    }
}

/// Everything of a transaction between its begin and its commit.
async fn fill(
    tx: &mut PgConnection,
    batch: &mut Batch<PgConnection>,
    staged: &mut Staged,
    apart: bool,
    (shared, number, trail): (&Shared, i64, &Trail),
) -> Result<(Answers, Option<End>), Failure> {
    let accepted = if apart {
        commands::insert_apart(tx, &batch.accepts).await?
    } else {
        commands::insert(tx, &batch.accepts).await?
    };
    commands::stage(&batch.accepts, &accepted, staged);
    let (advanced, numbered) = advance::apply(tx, &batch.advances, &batch.chunks, staged).await?;
    for cold in &mut batch.cold {
        let mark = staged.mark();
        let mut savepoint = tx.begin().await?;
        match cold.run(&mut savepoint, staged).await {
            Ok(()) => savepoint.commit().await?,
            Err(Undo::Part) => {
                savepoint.rollback().await?;
                staged.rewind(mark);
            }
            Err(Undo::Whole) => return Err(Failure::Overtaken),
        }
    }
    let marked = journal::mark(tx, shared.node, number, staged).await?;
    if !marked.syncs && shared.must_sync {
        return Err(Failure::Weak("fsync"));
    }
    staged.settle(marked.events);
    output::insert(tx, &numbered, marked.events).await?;
    journal::insert(tx, staged).await?;
    let end = audit::insert(tx, staged.audits(), marked.audits, trail).await?;
    Ok((Answers { accepted, advanced, chunks_refused: numbered.refused }, end))
}

fn answer(batch: Batch<PgConnection>, answers: Answers) {
    for ((_, reply), answer) in batch.accepts.into_iter().zip(answers.accepted) {
        let _ = reply.send(answer);
    }
    for ((_, reply), answer) in batch.advances.into_iter().zip(answers.advanced) {
        if let Some(reply) = reply {
            let _ = reply.send(Ok(answer));
        }
    }
    for cold in batch.cold {
        cold.answer(Ok(()));
    }
    for reply in batch.flushes {
        let _ = reply.send(Ok(()));
    }
}

impl Drop for Writer {
    /// Whoever still waits must not wait for ever.
    fn drop(&mut self) {
        self.shared.intake.close();
    }
}
