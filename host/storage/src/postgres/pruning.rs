//! The audit log by days: room for what comes, and forgetting, which is dropping a partition.
//!
//! On one chain days never go back, so whatever lies in the oldest partition is the beginning of its chain. Where
//! each chain is cut is sealed in the transaction that takes it off the log, over what was read before: entries that came
//! since keep it there. The day is not hashed, the time of an entry is: a partition that holds anything
//! younger than its last day was meddled with, and stays.

use std::sync::Arc;

use domain::audit::chain::{Cause, Chain, Head, checkpoint_bytes};
use domain::time::Timestamp;
use plan::id::ChainId;
use ports::error::StoreError;
use ports::journal::Cut;
use sqlx::PgConnection;
use uuid::Uuid;

use super::PostgresStore;
use super::audit::{chains_in, ending_at, number};
use super::days::DAY;
use super::failure::Failure;
use super::micros::{Micros, micros};
use super::read::Statement;
use super::rows::Cells;
use super::telemetry::{LOCK_WITHIN, alone};
use crate::staged::Staged;
use crate::trail::{self, Trail};

/// Most days of a partition.
const WIDEST: u32 = 30;

/// Makes partitions until there is room for today and the two days after it, each of `$width` days. A day that has
/// entries in the default partition already is left there; what others make, or whose lock is not to be had, is left
/// for another time.
const ROOM: &str = "declare today bigint := floor(extract(epoch from now()) / 86400)::bigint; first bigint; begin \
     select greatest(today, max(substring(c.relname from '[0-9]+$')::bigint)) into first from pg_inherits i \
     join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit_logs'::regclass \
     and c.relname ~ '^audit_logs_[0-9]+_[0-9]+$'; \
     while first <= today + 2 loop \
         begin execute format('create table %I partition of audit_logs for values from (%s) to (%s)', \
             'audit_logs_' || first || '_' || (first + $width), first, first + $width); \
             first := first + $width; \
         exception when check_violation then first := first + 1; \
         when lock_not_available or duplicate_table or unique_violation or invalid_object_definition then return; end; \
     end loop; end;";
/// The oldest partition: its name, and the day after its last.
const OLDEST: &str = "select c.relname::text, substring(c.relname from '[0-9]+$')::bigint as until from pg_inherits i \
     join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit_logs'::regclass \
     and c.relname ~ '^audit_logs_[0-9]+_[0-9]+$' order by until limit 1";

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
    /// The last place of each chain in it.
    ends: Vec<(Uuid, u64)>,
}

impl PostgresStore {
    /// Takes one step at forgetting audit entries; answers how many are gone, 0 when there is nothing to drop.
    pub(super) async fn prune_log(&self, cut: &Cut) -> Result<u64, StoreError> {
        let trail = Arc::new(Trail::new(ChainId(self.shared.node), Cause::Start, self.shared.notary.clone()));
        // Of a host that ended in between.
        self.drop_detached().await?;
        // What has no partition comes first: were it older than one, it would be left in the middle.
        let gone = self.prune_rows(cut, &trail).await?;
        if gone > 0 {
            return Ok(gone);
        }
        while let Some(part) = self.oldest(cut.before).await? {
            let gone = self.detach(Arc::new(part), cut, &trail).await?;
            self.drop_detached().await?;
            if gone > 0 {
                return Ok(gone);
            }
        }
        Ok(0)
    }

    /// Drops a few entries of days without a partition.
    async fn prune_rows(&self, cut: &Cut, trail: &Arc<Trail>) -> Result<u64, StoreError> {
        let (cut, trail) = (cut.clone(), Arc::clone(trail));
        self.cold(move |connection, staged| {
            let (cut, trail) = (cut.clone(), Arc::clone(&trail));
            Box::pin(async move {
                let chains = chains_in(connection).await?;
                for chain in chains.iter().filter(|chain| chain.reaches_before(cut.before)) {
                    let gone = shorten(connection, chain, &cut, &trail).await?;
                    if gone > 0 {
                        cut.audit.into_iter().for_each(|audit| staged.audit(audit));
                        return Ok(gone);
                    }
                }
                Ok(0)
            })
        })
        .await
    }

    /// The oldest partition, if all of it is older than `before`.
    async fn oldest(&self, before: Timestamp) -> Result<Option<Part>, StoreError> {
        let Some(row) = self.row(Statement::new(OLDEST)).await? else { return Ok(None) };
        let mut cells = Cells::new(&row, "pg_inherits");
        let (name, until): (String, i64) = (cells.take()?, cells.take()?);
        if until.saturating_mul(DAY) > before.0 {
            return Ok(None);
        }
        // A step of an index each, however many there are.
        let text = format!("select (select max(id) from {name}), (select max(timestamp) from {name})");
        let mut last = None;
        if let Some(row) = self.row(Statement::new(text)).await? {
            let mut cells = Cells::new(&row, "audit_logs");
            last = cells.take()?;
            if cells.take::<Option<Micros>>()?.is_some_and(|Micros(latest)| latest >= before) {
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
        let entries = ends.iter().map(|(_, first, last)| last - first + 1).sum();
        Ok(Some(Part { name, last, entries, ends: ends.into_iter().map(|(id, _, last)| (id, last)).collect() }))
    }

    async fn detach(&self, part: Arc<Part>, cut: &Cut, trail: &Arc<Trail>) -> Result<u64, StoreError> {
        let (cut, trail) = (cut.clone(), Arc::clone(trail));
        self.cold(move |connection, staged| {
            let (part, cut, trail) = (Arc::clone(&part), cut.clone(), Arc::clone(&trail));
            Box::pin(async move { detach_sealed(connection, staged, &part, cut, &trail).await })
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

/// Takes a partition off the log and seals where each chain is cut by that; answers how many entries are gone.
async fn detach_sealed(
    connection: &mut PgConnection,
    staged: &mut Staged,
    part: &Part,
    cut: Cut,
    trail: &Trail,
) -> Result<u64, Failure> {
    let chains = chains_in(connection).await?;
    let mut heads = Vec::with_capacity(part.ends.len());
    for (id, position) in &part.ends {
        let Some(chain) = chains.iter().find(|chain| chain.genesis.chain.0 == *id) else { continue };
        heads.push((chain, whole_end(connection, chain, *position, cut.at).await?));
    }
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
    for (chain, head) in heads {
        if !seal(connection, chain, &head, trail).await? {
            continue;
        }
        // Before it on its chain, and in no older partition: of a day that has none, as a rule none at all.
        let text = "delete from audit_logs where chain = $1 and position <= $2 returning timestamp";
        let before: Vec<Micros> = sqlx::query_scalar(text)
            .bind(chain.genesis.chain.0)
            .bind(number(head.position))
            .fetch_all(&mut *connection)
            .await?;
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

/// Where a chain is to be cut, if the entry there is what was written.
async fn whole_end(tx: &mut PgConnection, chain: &Chain, position: u64, at: Timestamp) -> Result<Head, Failure> {
    let ending = ending_at(tx, chain.genesis.chain.0, position).await?;
    match ending.last().and_then(|last| last.link) {
        Some(link) if chain.ends_whole(&ending) => Ok(Head { position, hash: link.hash, at }),
        // Cut by another host since it was looked at: `seal` sees to that.
        None if position <= chain.cut() => Ok(Head { position, hash: chain.head.hash, at }),
        Some(_) | None => Err(trail::meddled(chain.genesis.chain).into()),
    }
}

fn meddled(name: &str) -> StoreError {
    let what = "entries are not of the days they are filed under, so they are kept; verify the audit log".to_owned();
    StoreError::Corrupt { table: "audit_logs", key: name.to_owned(), what }
}

/// Moves a chain's checkpoint forward to `head`; `false` when it is there, or further, already.
async fn seal(connection: &mut PgConnection, chain: &Chain, head: &Head, trail: &Trail) -> Result<bool, Failure> {
    let id = chain.genesis.chain;
    let seal = trail.sign(&checkpoint_bytes(id, chain.genesis.hash(), head));
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
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(moved.rows_affected() > 0)
}

/// Cuts one chain, up to the last of its old entries that has no partition; answers how many entries are gone.
async fn shorten(connection: &mut PgConnection, chain: &Chain, cut: &Cut, trail: &Trail) -> Result<u64, Failure> {
    let last = sqlx::query(
        "select position from audit_logs_default where chain = $1 and position <= $2 and timestamp < $3 \
         order by position desc limit 1",
    );
    let (id, most) = (chain.genesis.chain, chain.cut() + u64::from(cut.most));
    let found = last.bind(id.0).bind(number(most)).bind(micros(cut.before)).fetch_optional(&mut *connection).await?;
    let Some(last) = found else { return Ok(0) };
    let head = whole_end(connection, chain, Cells::new(&last, "audit_logs").number()?, cut.at).await?;
    if !seal(connection, chain, &head, trail).await? {
        return Ok(0);
    }
    let deleted = sqlx::query("delete from audit_logs where chain = $1 and position <= $2");
    Ok(deleted.bind(id.0).bind(number(head.position)).execute(connection).await?.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_entries_are_kept_the_wider_are_partitions() {
        for (keep_days, width) in [(None, 30), (Some(1), 1), (Some(59), 1), (Some(60), 2), (Some(36_500), 30)] {
            let made = format!("first + {width})");
            assert!(room(keep_days).contains(&made), "{keep_days:?}: {}", room(keep_days));
        }
    }
}
