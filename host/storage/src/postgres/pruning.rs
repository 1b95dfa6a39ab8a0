//! The audit log by days: room for what comes, and forgetting, which is dropping a partition.
//!
//! On one chain days never go back, so whatever lies in the oldest partition is the beginning of its chain. Where
//! each chain is cut is read and sealed before, and stored in the transaction that takes it off the log: entries that came
//! since keep it there. The day is not hashed, the time of an entry is: a partition that holds anything
//! younger than its last day was meddled with, and stays.

use std::sync::Arc;

use domain::audit::chain::{Cause, Chain, Checkpoint};
use plan::id::ChainId;
use ports::error::StoreError;
use ports::journal::{Cut, Trail as _};
use sqlx::PgConnection;
use uuid::Uuid;

use super::PostgresStore;
use super::audit::number;
use super::days::DAY;
use super::failure::Failure;
use super::micros::{Micros, micros};
use super::read::Statement;
use super::rows::Cells;
use super::telemetry::{LOCK_WITHIN, alone};
use crate::staged::Staged;
use crate::trail::Trail;

/// Most days of a partition.
const WIDEST: u32 = 30;

/// Makes partitions until there is room for today and the two days after it, each of `$width` days. A table is made and
/// then attached: whoever writes to other partitions, or reads there, goes on. The default partition is locked for that, and
/// not looked through, for its constraint says that it has none of these days. What others make, or whose lock is not to be
/// had, is left for another time.
const ROOM: &str = "declare today bigint := floor(extract(epoch from now()) / 86400)::bigint; first bigint; part text; begin \
     select greatest(today, max(substring(c.relname from '[0-9]+$')::bigint)) into first from pg_inherits i \
     join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit_logs'::regclass \
     and c.relname ~ '^audit_logs_[0-9]+_[0-9]+$'; \
     while first <= today + 2 loop \
         part := 'audit_logs_' || first || '_' || (first + $width); \
         begin execute format('create table %I (like audit_logs including defaults)', part); \
             execute format('alter table audit_logs attach partition %I for values from (%s) to (%s)', \
                 part, first, first + $width); \
         exception when lock_not_available or duplicate_table or duplicate_object or unique_violation or \
                 invalid_object_definition then return; end; \
         first := first + $width; \
     end loop; end;";
/// The oldest partition: its name, and the day after its last.
const OLDEST: &str = "select c.relname::text, substring(c.relname from '[0-9]+$')::bigint as until from pg_inherits i \
     join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit_logs'::regclass \
     and c.relname ~ '^audit_logs_[0-9]+_[0-9]+$' order by until limit 1";

/// Before the log and its chains, as whoever adds entries does: the writer's head says in which order all lock.
const COUNTER: &str = "select 1 from event_counter where only_row for update";

/// Partitions that are none any more: their entries are not of the log, and their files are still there.
const DETACHED: &str = "select c.relname::text from pg_class c where c.relkind = 'r' and not c.relispartition \
     and c.relnamespace = (select a.relnamespace from pg_class a where a.oid = 'audit_logs'::regclass) \
     and c.relname ~ '^audit_logs_[0-9]+_[0-9]+$'";

/// The statement that makes room for what comes.
pub(super) fn room(keep_days: Option<u32>) -> String {
    // A thirtieth of the time entries are kept is how much longer the first of a partition may stay, and there are
    // never many partitions: whoever reads a page looks into all of them.
    let width = keep_days.map_or(WIDEST, |days| (days / 30).clamp(1, WIDEST));
    alone(&ROOM.replace("$width", &width.to_string()))
}

/// What a partition was found to hold.
struct Part {
    name: String,
    /// The number of its last entry.
    last: Option<i64>,
    entries: u64,
    /// Where each chain in it is cut when it goes.
    cuts: Vec<(ChainId, Checkpoint)>,
}

impl PostgresStore {
    /// Takes one step at forgetting audit entries; answers how many are gone, 0 when there is nothing to drop.
    pub(super) async fn prune_log(&self, cut: &Cut) -> Result<u64, StoreError> {
        let trail = Trail::new(ChainId(self.shared.node), Cause::Start, self.shared.notary.clone());
        // Of a host that ended in between.
        self.drop_detached().await?;
        // What has no partition comes first: were it older than one, it would be left in the middle.
        let gone = self.prune_rows(cut, &trail).await?;
        if gone > 0 {
            return Ok(gone);
        }
        while let Some(part) = self.oldest(cut, &trail).await? {
            let gone = self.detach(part, cut).await?;
            self.drop_detached().await?;
            if gone > 0 {
                return Ok(gone);
            }
        }
        Ok(0)
    }

    /// Drops a few entries of days without a partition.
    async fn prune_rows(&self, cut: &Cut, trail: &Trail) -> Result<u64, StoreError> {
        'look: loop {
            let chains = self.chains().await?;
            for chain in chains.iter().filter(|chain| chain.reaches_before(cut.before)) {
                let id = chain.genesis.chain;
                let last = Statement::new(
                    "select position from audit_logs_default where chain = $1 and position > $2 and position <= $3 \
                     and timestamp < $4 order by position desc limit 1",
                );
                let (from, most) = (chain.cut(), chain.cut() + u64::from(cut.most));
                let last = last.bind(id.0).bind(number(from)).bind(number(most)).bind(micros(cut.before));
                let Some(found) = self.row(last).await? else { continue };
                let position = Cells::new(&found, "audit_logs").number()?;
                // Where another host cuts the same chain meanwhile there may be more: it is looked at again.
                let Some(checkpoint) = self.cut_behind(chain, position, cut, trail).await? else { continue 'look };
                match self.shorten(id, checkpoint, cut).await? {
                    0 => continue 'look,
                    gone => return Ok(gone),
                }
            }
            // Behind where another host cut in between nobody has looked.
            let moved =
                |now: &Chain| chains.iter().any(|was| was.genesis.chain == now.genesis.chain && was.cut() < now.cut());
            if !self.chains().await?.iter().any(moved) {
                return Ok(0);
            }
        }
    }

    /// The oldest partition, if all of it is older than asked.
    async fn oldest(&self, cut: &Cut, trail: &Trail) -> Result<Option<Part>, StoreError> {
        let Some(row) = self.row(Statement::new(OLDEST)).await? else { return Ok(None) };
        let mut cells = Cells::new(&row, "pg_inherits");
        let (name, until): (String, i64) = (cells.take()?, cells.take()?);
        if until.saturating_mul(DAY) > cut.before.0 {
            return Ok(None);
        }
        // A step of an index each, however many there are.
        let text = format!("select (select max(id) from {name}), (select max(timestamp) from {name})");
        let mut last = None;
        if let Some(row) = self.row(Statement::new(text)).await? {
            let mut cells = Cells::new(&row, "audit_logs");
            last = cells.take()?;
            if cells.take::<Option<Micros>>()?.is_some_and(|Micros(latest)| latest >= cut.before) {
                return Err(meddled(&name));
            }
        }
        let text = format!(
            "select c.id, first.position, last.position from audit_chains c \
             cross join lateral (select position from {name} where chain = c.id order by position limit 1) first \
             cross join lateral (select position from {name} where chain = c.id order by position desc limit 1) last"
        );
        let mut ends = Vec::new();
        for row in self.rows(Statement::new(text)).await? {
            let mut cells = Cells::new(&row, "audit_logs");
            ends.push((cells.id()?, cells.number()?, cells.number()?));
        }
        let (chains, mut cuts) = (self.chains().await?, Vec::with_capacity(ends.len()));
        for (id, _, last) in &ends {
            let Some(chain) = chains.iter().find(|chain| chain.genesis.chain.0 == *id) else { continue };
            let checkpoint = self.cut_behind(chain, *last, cut, trail).await?;
            cuts.extend(checkpoint.map(|checkpoint| (chain.genesis.chain, checkpoint)));
        }
        let entries = ends.iter().map(|(_, first, last): &(Uuid, u64, u64)| last - first + 1).sum();
        Ok(Some(Part { name, last, entries, cuts }))
    }

    /// Where a chain is cut at that place, if the entry there is what was written; `None` when another host has cut it there,
    /// or further, since it was looked at.
    async fn cut_behind(
        &self,
        chain: &Chain,
        position: u64,
        cut: &Cut,
        trail: &Trail,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let mut later: Option<Chain> = None;
        loop {
            let known = later.as_ref().unwrap_or(chain);
            let ending = self.ending_at(known.genesis.chain, position).await?;
            let refused = match trail.checkpoint(known, &ending, cut.at) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(refused) => refused,
            };
            let now = self.chains().await?.into_iter().find(|now| now.genesis.chain == known.genesis.chain);
            match now {
                Some(now) if now.cut() >= position => return Ok(None),
                // Cut right before that place: what the entry there follows is behind the cut now.
                Some(now) if now.cut() > known.cut() => later = Some(now),
                _ => return Err(refused),
            }
        }
    }

    /// Cuts one chain; answers how many entries are gone.
    async fn shorten(&self, chain: ChainId, checkpoint: Checkpoint, cut: &Cut) -> Result<u64, StoreError> {
        let cut = cut.clone();
        self.lone(move |connection, staged| {
            let (checkpoint, cut) = (checkpoint.clone(), cut.clone());
            Box::pin(async move {
                sqlx::query(COUNTER).execute(&mut *connection).await?;
                if !move_cut(connection, chain, &checkpoint).await? {
                    return Ok(0);
                }
                let gone = delete_before(connection, chain, &checkpoint).await?.len() as u64;
                if gone > 0 {
                    cut.audit.into_iter().for_each(|audit| staged.audit(audit));
                }
                Ok(gone)
            })
        })
        .await
    }

    async fn detach(&self, part: Part, cut: &Cut) -> Result<u64, StoreError> {
        let (part, cut) = (Arc::new(part), cut.clone());
        self.lone(move |connection, staged| {
            let (part, cut) = (Arc::clone(&part), cut.clone());
            Box::pin(async move { detach_sealed(connection, staged, &part, cut).await })
        })
        .await
    }

    /// Beside whoever writes: removing the files of a large partition takes its time.
    async fn drop_detached(&self) -> Result<(), StoreError> {
        for row in self.rows(Statement::new(DETACHED)).await? {
            let name: String = Cells::new(&row, "pg_class").take()?;
            self.aside(Statement::new(format!("drop table if exists {name}"))).await?;
        }
        Ok(())
    }
}

/// Takes a partition off the log and moves there where each chain is cut by that; answers how many entries are gone.
async fn detach_sealed(
    connection: &mut PgConnection,
    staged: &mut Staged,
    part: &Part,
    cut: Cut,
) -> Result<u64, Failure> {
    // Takes the counter itself, before the log.
    let detached: bool = sqlx::query_scalar("select audit_logs_detach($1, $2, $3)")
        .bind(&part.name)
        .bind(part.last)
        .bind(LOCK_WITHIN)
        .fetch_one(&mut *connection)
        .await?;
    if !detached {
        let why = "a part of the audit log is in use; it is dropped another time";
        return Err(StoreError::Unavailable(why.to_owned()).into());
    }
    let mut gone = part.entries;
    for (chain, checkpoint) in &part.cuts {
        if !move_cut(connection, *chain, checkpoint).await? {
            continue;
        }
        // Before it on its chain, and in no older partition: of a day that has none, as a rule none at all.
        let before = delete_before(connection, *chain, checkpoint).await?;
        if before.iter().any(|Micros(at)| *at >= cut.before) {
            return Err(meddled(&part.name).into());
        }
        gone += before.len() as u64;
    }
    if gone > 0 {
        cut.audit.into_iter().for_each(|audit| staged.audit(audit));
    }
    Ok(gone)
}

fn meddled(name: &str) -> StoreError {
    let what = "entries are not of the days they are filed under, so they are kept; verify the audit log".to_owned();
    StoreError::Corrupt { table: "audit_logs", key: name.to_owned(), what }
}

/// Moves a chain's checkpoint forward; `false` when it is there, or further, already.
async fn move_cut(connection: &mut PgConnection, chain: ChainId, checkpoint: &Checkpoint) -> Result<bool, Failure> {
    let Checkpoint { head, seal } = checkpoint;
    // Another host may have cut it further meanwhile: a checkpoint never goes back.
    let moved = sqlx::query(
        "update audit_chains set cut_position = $1, cut_hash = $2, cut_at = $3, cut_seal = $4 \
         where id = $5 and coalesce(cut_position, 0) < $1",
    );
    let moved = moved
        .bind(number(head.position))
        .bind(head.hash.0.to_vec())
        .bind(micros(head.at))
        .bind(seal)
        .bind(chain.0)
        .execute(connection)
        .await?;
    Ok(moved.rows_affected() > 0)
}

/// Deletes what a checkpoint stands for; answers of when that was.
async fn delete_before(
    connection: &mut PgConnection,
    chain: ChainId,
    checkpoint: &Checkpoint,
) -> Result<Vec<Micros>, Failure> {
    let text = "delete from audit_logs where chain = $1 and position <= $2 returning timestamp";
    let gone = sqlx::query_scalar(text).bind(chain.0).bind(number(checkpoint.head.position));
    Ok(gone.fetch_all(connection).await?)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use domain::time::Timestamp;
    use futures_util::poll;
    use servers::shared;
    use sqlx::{AssertSqlSafe, Connection as _};
    use tokio_util::sync::CancellationToken;

    use super::super::{Options, alerts, open};
    use super::*;
    use crate::plans::Deaf;

    /// Longest a test waits for anything. Far above what is normal.
    const CEILING: Duration = Duration::from_secs(60);

    async fn run(connection: &mut PgConnection, text: String) {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.expect("done");
    }

    async fn number_of(connection: &mut PgConnection, text: &'static str) -> i64 {
        sqlx::query_scalar(text).fetch_one(connection).await.expect("a number")
    }

    #[test]
    fn the_longer_entries_are_kept_the_wider_are_partitions() {
        for (keep_days, width) in [(None, 30), (Some(1), 1), (Some(59), 1), (Some(60), 2), (Some(36_500), 30)] {
            let made = format!("first + {width})");
            assert!(room(keep_days).contains(&made), "{keep_days:?}: {}", room(keep_days));
        }
    }

    #[tokio::test]
    async fn room_is_made_without_a_look_at_what_has_no_day() {
        let Some(url) = shared::database() else { return };
        let mut connection = PgConnection::connect(&url).await.expect("connects");
        open::migrate(&mut connection, "here").await.expect("migrated");
        let fill = "insert into audit_logs (id, timestamp, level, category, action, details, day) select n, now(), 'info', 'test', \
             'test.done', '{}', floor(extract(epoch from now()) / 86400)::bigint + n % 3 from generate_series(1, 5000) n";
        run(&mut connection, fill.to_owned()).await;
        let mut tx = connection.begin().await.expect("begun");
        let scans = "select seq_scan from pg_stat_xact_user_tables where relname = 'audit_logs_default'";
        let before = number_of(&mut tx, scans).await;
        run(&mut tx, room(Some(1))).await;
        assert_eq!(number_of(&mut tx, scans).await, before, "it was looked through");
        assert_eq!(number_of(&mut tx, "select count(*) from audit_logs_default").await, 5000);
        assert_eq!(number_of(&mut tx, scans).await, before + 1, "a look is counted");
        let parts = "select count(*) from pg_inherits where inhparent = 'audit_logs'::regclass";
        assert_eq!(number_of(&mut tx, parts).await, 4, "three days, and what has none");
        // What comes now has one, beside what came before on the same day.
        run(&mut tx, fill.replace("select n,", "select 5000 + n,")).await;
        assert_eq!(number_of(&mut tx, "select count(*) from audit_logs_default").await, 5000);
    }

    #[tokio::test]
    async fn a_part_is_taken_off_apart_from_what_waits_for_others() {
        let Some(url) = shared::database() else { return };
        let (store, writer) =
            open(Options { connections: 2, ..Options::new(&url) }, Arc::new(Deaf)).await.expect("opens");
        let mut other = PgConnection::connect(&url).await.expect("connects");
        run(&mut other, "create table audit_logs_1_2 partition of audit_logs for values from (1) to (2)".to_owned())
            .await;
        // Another host has news, and will need numbers for them.
        let news = alerts::IN_ORDER;
        run(&mut other, format!("begin; set local deadlock_timeout = '10ms'; {news}")).await;

        let cut = Cut { before: Timestamp(2 * DAY), most: 1, at: Timestamp(2 * DAY), audit: None };
        let trail = Trail::new(ChainId(Uuid::nil()), Cause::Start, None);
        let part = store.oldest(&cut, &trail).await.expect("read").expect("it is old");
        let mut detaching = pin!(store.detach(part, &cut));
        let mut telling = pin!(store.cold(move |connection, _| {
            Box::pin(async move {
                sqlx::query(news).execute(connection).await?;
                Ok(())
            })
        }));
        // Both are in the queue before there is a writer: one batch.
        assert!(poll!(detaching.as_mut()).is_pending() && poll!(telling.as_mut()).is_pending());
        let stop = CancellationToken::new();
        let meanwhile = async {
            let waits = "select count(*) from pg_locks where not granted and relation = 'alert_news'::regclass";
            let held_up = async { while number_of(&mut other, waits).await == 0 {} };
            tokio::time::timeout(CEILING, held_up).await.expect("our news wait for theirs");
            run(&mut other, "update event_counter set last = last where only_row".to_owned()).await;
            run(&mut other, "commit".to_owned()).await;
            let answers = (detaching.await, telling.await);
            stop.cancel();
            answers
        };
        let (answers, ()) = tokio::join!(meanwhile, writer.run(stop.clone()));
        assert_eq!(answers, (Ok(0), Ok(())));
        let left = "select count(*) from pg_class where relname = 'audit_logs_1_2' and relispartition";
        assert_eq!(number_of(&mut other, left).await, 0);
    }
}
