//! The audit log and the chains it hangs on.

use async_trait::async_trait;
use domain::audit::chain::{Cause, Chain, Checkpoint, Genesis, Hash, Head, Link, Linked, open_ends};
use domain::audit::{Entry, Level};
use domain::time::Timestamp;
use plan::id::ChainId;
use ports::error::StoreError;
use ports::journal::{AuditFilter, Cut};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::PostgresStore;
use super::days;
use super::failure::Failure;
use super::list::OVERTAKING;
use super::micros::micros;
use super::read::Statement;
use super::rows::Cells;
use crate::text;
use crate::trail::{self, End, Stretch, Trail};

/// The entries of a transaction and the end of their chain, in one statement.
pub(super) const AUDITS: &str = "with sealed as (insert into audit_chains (id, begun_at, cause, unchained, after, position, \
     hash, sealed_at, seal, day) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (id) do update set \
     position = excluded.position, hash = excluded.hash, sealed_at = excluded.sealed_at, seal = excluded.seal, \
     day = greatest(audit_chains.day, excluded.day) returning day) \
     insert into audit_logs (id, timestamp, level, category, action, actor, resource_type, resource_id, details, \
     ip_address, user_agent, correlation_id, chain, position, hash, day) select n.id, n.timestamp, n.level, n.category, \
     n.action, n.actor, n.resource_type, n.resource_id, n.details::jsonb, n.ip_address::inet, n.user_agent, \
     n.correlation_id, $1, n.position, n.hash, sealed.day from sealed cross join \
     unnest($11::bigint[], $12::timestamptz[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], \
     $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::bigint[], $24::bytea[]) as n (id, timestamp, \
     level, category, action, actor, resource_type, resource_id, details, ip_address, user_agent, correlation_id, \
     position, hash)";
const CHAINS: &str = "select id, begun_at, cause, unchained, after, position, hash, sealed_at, seal, cut_position, \
     cut_hash, cut_at, cut_seal from audit_chains order by begun_at, id";
const ENTRY: &str = "a.id, a.timestamp, a.level, a.category, a.action, a.actor, a.resource_type, a.resource_id, \
     a.details::text, host(a.ip_address), a.user_agent, a.correlation_id, a.chain, a.position, a.hash";

/// Writes what was staged onto this host's chain, numbered from the one after `base`; answers where the
/// chain ends then, if anything was written.
pub(super) async fn insert(
    tx: &mut PgConnection,
    entries: &[Entry],
    base: u64,
    trail: &Trail,
) -> Result<Option<End>, Failure> {
    let Some(first) = entries.first() else { return Ok(None) };
    let end = match trail.end() {
        Some(end) => end.clone(),
        None => begin(tx, trail, first.at).await?,
    };
    let Stretch { rows, end, head, seal } = trail.stretch(end, base + 1, entries);
    let of = |read: fn(&Entry) -> Option<&str>| -> Vec<Option<&str>> {
        rows.iter().map(|(_, entry, _)| read(entry)).collect()
    };
    sqlx::query(AUDITS)
        .bind(end.genesis.chain.0)
        .bind(micros(end.genesis.begun_at))
        .bind(end.genesis.cause.as_str())
        .bind(number(end.genesis.unchained))
        .bind(trail::links_text(&end.genesis.after))
        .bind(number(head.position))
        .bind(head.hash.0.to_vec())
        .bind(micros(head.at))
        .bind(seal)
        .bind(rows.iter().map(|(_, entry, _)| days::day(entry.at)).max())
        .bind(rows.iter().map(|(id, _, _)| number(*id)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, entry, _)| micros(entry.at)).collect::<Vec<_>>())
        .bind(of(|entry| Some(entry.level.as_str())))
        .bind(of(|entry| Some(entry.category)))
        .bind(of(|entry| Some(entry.action)))
        .bind(of(|entry| entry.actor.as_deref()))
        .bind(of(|entry| entry.resource.as_ref().map(|(kind, _)| *kind)))
        .bind(of(|entry| entry.resource.as_ref().map(|(_, id)| id.as_str())))
        .bind(of(|entry| Some(entry.details.as_str())))
        .bind(of(|entry| entry.ip_address.as_deref()))
        .bind(of(|entry| entry.user_agent.as_deref()))
        .bind(of(|entry| entry.correlation_id.as_deref()))
        .bind(rows.iter().map(|(_, _, link)| number(link.position)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, link)| link.hash.0.to_vec()).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(Some(end))
}

/// Where this host's chain ends, or how it is to begin.
async fn begin(tx: &mut PgConnection, trail: &Trail, at: Timestamp) -> Result<End, Failure> {
    let chains = chains_in(tx).await?;
    if let Some(chain) = chains.iter().find(|chain| chain.genesis.chain == trail.chain) {
        return Ok(End {
            genesis: chain.genesis.clone(),
            position: chain.head.position,
            hash: chain.head.hash,
            last: 0,
        });
    }
    let unchained: i64 =
        sqlx::query_scalar("select count(*) from audit_logs where chain is null").fetch_one(&mut *tx).await?;
    let unchained = u64::try_from(unchained).unwrap_or(0);
    let genesis =
        Genesis { chain: trail.chain, begun_at: at, cause: trail.cause, unchained, after: open_ends(&chains) };
    Ok(End { position: 0, hash: genesis.hash(), genesis, last: 0 })
}

async fn chains_in(tx: &mut PgConnection) -> Result<Vec<Chain>, Failure> {
    let found = sqlx::query(CHAINS).fetch_all(tx).await?;
    Ok(found.iter().map(chain).collect::<Result<_, StoreError>>()?)
}

/// No counter of ours reaches 2^63.
pub(super) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn chain(row: &PgRow) -> Result<Chain, StoreError> {
    let mut cells = Cells::new(row, "audit_chains");
    let genesis = Genesis {
        chain: ChainId(cells.id()?),
        begun_at: cells.time()?,
        cause: cells.read(|text| Cause::parse(text).ok_or_else(|| format!("`{text}` begins no chain")))?,
        unchained: cells.number()?,
        after: cells.read(trail::parse_links)?,
    };
    let head = Head { position: cells.number()?, hash: hash(&mut cells)?, at: cells.time()? };
    let seal = cells.take()?;
    let position: Option<i64> = cells.take()?;
    let checkpoint = match position {
        None => None,
        Some(position) => {
            let position = u64::try_from(position).map_err(|error| cells.corrupt(error.to_string()))?;
            let head = Head { position, hash: hash(&mut cells)?, at: cells.time()? };
            Some(Checkpoint { head, seal: cells.take()? })
        }
    };
    Ok(Chain { genesis, head, seal, checkpoint })
}

pub(super) fn hash(cells: &mut Cells<'_>) -> Result<Hash, StoreError> {
    let bytes: Vec<u8> = cells.take()?;
    bytes.try_into().map(Hash).map_err(|bytes: Vec<u8>| cells.corrupt(format!("a hash of {} bytes", bytes.len())))
}

fn entry(row: &PgRow) -> Result<Linked, StoreError> {
    let mut cells = Cells::new(row, "audit_logs");
    let id = cells.numbered()?;
    let known = |text: &str| text::word(text).ok_or_else(|| format!("`{text}` is one word too many"));
    let at = cells.time()?;
    let level = cells.read(|text| Level::parse(text).ok_or_else(|| format!("`{text}` is not a level")))?;
    let (category, action) = (cells.read(known)?, cells.read(known)?);
    let actor = cells.take()?;
    let kind = cells.read_some(known)?;
    let resource: Option<String> = cells.take()?;
    let entry = Entry {
        at,
        level,
        category,
        action,
        actor,
        resource: kind.zip(resource),
        // `jsonb` has an order of its own.
        details: cells.read(|details| Ok(text::canonical(details)))?,
        ip_address: cells.take()?,
        user_agent: cells.take()?,
        correlation_id: cells.take()?,
    };
    let chain: Option<Uuid> = cells.take()?;
    let link = match chain {
        None => None,
        Some(chain) => Some(Link { chain: ChainId(chain), position: cells.number()?, hash: hash(&mut cells)? }),
    };
    Ok(Linked { id, entry, link })
}

/// A page of the log, newest first. The bounds in time are made bounds in number: both grow together, but
/// for entries that overtook each other. Of time itself no index is used: what it finds would have to be sorted.
pub(super) fn page(filter: &AuditFilter, before: Option<u64>, limit: u32) -> Statement {
    let AuditFilter { actor, action, since, until } = filter;
    let mut sql = Statement::new(format!("select {ENTRY} from audit_logs a where a.id < "));
    sql.push_bind(before.map_or(i64::MAX, number));
    if let Some(actor) = actor {
        sql.push(" and a.actor = ").push_bind(actor.clone());
    }
    if let Some(action) = action {
        sql.push(" and a.action = ").push_bind(action.clone());
    }
    const FIRST: &str = "coalesce((select id from audit_logs where timestamp >= ";
    let last = i64::MAX - i64::from(OVERTAKING);
    if let Some(since) = since {
        sql.push(" and a.timestamp + '0'::interval >= ").push_bind(micros(*since));
        sql.push(" and a.id >= ").push(FIRST).push_bind(micros(*since));
        sql.push(&format!(" order by timestamp limit 1), {last}) - {OVERTAKING}"));
    }
    if let Some(until) = until {
        sql.push(" and a.timestamp + '0'::interval < ").push_bind(micros(*until));
        sql.push(" and a.id < ").push(FIRST).push_bind(micros(*until));
        sql.push(&format!(" order by timestamp limit 1), {last}) + {OVERTAKING}"));
    }
    sql.push(" order by a.id desc limit ").push_bind(i64::from(limit));
    sql
}

impl PostgresStore {
    /// The entry at a place of a chain, behind the one before it if that is there.
    pub(super) async fn ending_at(&self, chain: ChainId, position: u64) -> Result<Vec<Linked>, StoreError> {
        let text = format!(
            "select {ENTRY} from audit_logs a where a.chain = $1 and a.position between $2 - 1 and $2 order by a.position"
        );
        let statement = Statement::new(text).bind(chain.0).bind(number(position));
        self.rows(statement).await?.iter().map(entry).collect()
    }

    pub(super) async fn audit_page(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Entry)>, StoreError> {
        let found = self.rows(page(filter, before, limit)).await?;
        found.iter().map(|row| entry(row).map(|linked| (linked.id, linked.entry))).collect()
    }
}

#[async_trait]
impl ports::journal::Trail for PostgresStore {
    async fn chains(&self) -> Result<Vec<Chain>, StoreError> {
        self.rows(Statement::new(CHAINS)).await?.iter().map(chain).collect()
    }

    async fn links(&self, chain: ChainId, after: u64, limit: u32) -> Result<Vec<Linked>, StoreError> {
        let text = format!(
            "select {ENTRY} from audit_logs a where a.chain = $1 and a.position > $2 order by a.position limit $3"
        );
        let statement = Statement::new(text).bind(chain.0).bind(number(after)).bind(i64::from(limit));
        self.rows(statement).await?.iter().map(entry).collect()
    }

    async fn strays(&self, after: u64, limit: u32) -> Result<Vec<Linked>, StoreError> {
        let text = format!(
            "select {ENTRY} from audit_logs a where a.id > $1 \
             and not exists (select 1 from audit_chains c where c.id = a.chain) order by a.id limit $2"
        );
        let statement = Statement::new(text).bind(number(after)).bind(i64::from(limit));
        self.rows(statement).await?.iter().map(entry).collect()
    }

    async fn prune(&self, cut: Cut) -> Result<u64, StoreError> {
        self.prune_log(&cut).await
    }
}
