//! Output by the day: room for what comes, and forgetting, which is dropping a day. Whoever writes waits for
//! neither longer than for a lock that is given up at once.

use domain::time::Timestamp;
use ports::error::StoreError;

use super::PostgresStore;
use super::micros::micros;
use super::pruning;
use super::read::Statement;
use super::rows::Cells;
use super::telemetry::alone;

/// Microseconds of a partition.
pub(super) const DAY: i64 = 86_400_000_000;
/// Rows of the default partition that go in one step.
const AT_ONCE: i64 = 200;

/// Makes the partitions of today and the two days after it, but for days that end before `$least`. A day that others are making, whose lock is not to be
/// had, or that has rows in the default partition already, is left for another time: rows have a place meanwhile.
const ROOM: &str = "declare day bigint; begin \
     for day in select floor(extract(epoch from now()) / 86400)::bigint + n from generate_series(0, 2) as n loop \
         continue when day < $least or to_regclass('outputs_' || day) is not null; \
         begin execute format('create table %I partition of outputs for values from (%L) to (%L)', 'outputs_' || day, \
             to_timestamp(day * 86400), to_timestamp((day + 1) * 86400)); \
         exception when lock_not_available or check_violation or duplicate_table or duplicate_object or unique_violation \
             or invalid_object_definition then null; end; \
     end loop; end;";
/// Days that have a partition, the oldest first.
const DAYS: &str = "select substring(c.relname from '[0-9]+$')::bigint as day from pg_inherits i \
     join pg_class c on c.oid = i.inhrelid where i.inhparent = 'outputs'::regclass and c.relname ~ '^outputs_[0-9]+$' \
     order by day limit 2";
const STRAYS: &str = "delete from outputs_default where ctid = any (array( \
     select ctid from outputs_default where at < $1 limit $2))";

/// The day of an instant, counted from 1970-01-01 UTC.
pub(super) fn day(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY)
}

/// The statement that makes room for what comes from this day on.
pub(super) fn room(least: i64) -> String {
    alone(&ROOM.replace("$least", &least.to_string()))
}

impl PostgresStore {
    /// Takes one small step at forgetting output from before `before`; answers whether there may be more.
    pub(super) async fn forget_days(&self, before: Timestamp) -> Result<bool, StoreError> {
        self.aside(Statement::new(room(day(before)))).await?;
        // Here, for this is done again and again, also where no audit entry is ever to be forgotten.
        if let Err(failure) = self.aside(Statement::new(pruning::room(self.shared.audit_days))).await {
            tracing::warn!(error = %StoreError::from(failure), "no room was made for later days of the audit log; another time");
        }
        let found = self.rows(Statement::new(DAYS)).await?;
        let days =
            found.iter().map(|row| Cells::new(row, "pg_inherits").take::<i64>()).collect::<Result<Vec<_>, _>>()?;
        let is_old = |day: &&i64| (**day + 1).saturating_mul(DAY) <= before.0;
        if let Some(oldest) = days.first().filter(is_old) {
            self.aside(Statement::new(alone(&format!("drop table if exists outputs_{oldest};")))).await?;
            return Ok(true);
        }
        let gone = self.aside(Statement::new(STRAYS).bind(micros(before)).bind(AT_ONCE)).await?;
        Ok(gone >= AT_ONCE.unsigned_abs())
    }
}
