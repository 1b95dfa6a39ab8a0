//! The audit log and the chains it hangs on.

use async_trait::async_trait;
use domain::audit::chain::{Cause, Chain, Checkpoint, Genesis, Hash, Head, Link, Linked, open_ends};
use domain::audit::{Entry, Level};
use domain::time::Timestamp;
use plan::id::ChainId;
use ports::error::StoreError;
use ports::journal::{AuditFilter, Cut};

use super::SqliteStore;
use super::bulk::{Bulk, Script, Values};
use super::connection::Sqlite;
use super::failure::Failure;
use super::list::{OVERTAKING, Sql};
use super::query::{On, Row, query, query_scalar};
use super::rows::Cells;
use crate::text;
use crate::trail::{self, End, Stretch, Trail};

pub(super) static AUDITS: Bulk = Bulk::new(
    "insert into audit_logs (id, timestamp, level, category, action, actor, resource_type, resource_id, details, \
     ip_address, user_agent, correlation_id, chain, position, hash) values",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
static CHAIN: Bulk = Bulk::new(
    "insert into audit_chains (id, begun_at, cause, unchained, after, position, hash, sealed_at, seal) values",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "on conflict (id) do update set position = excluded.position, hash = excluded.hash, \
     sealed_at = excluded.sealed_at, seal = excluded.seal",
);
const CHAINS: &str = "select id, begun_at, cause, unchained, after, position, hash, sealed_at, seal, cut_position, \
     cut_hash, cut_at, cut_seal from audit_chains order by begun_at, id";
const ENTRY: &str = "a.id, a.timestamp, a.level, a.category, a.action, a.actor, a.resource_type, a.resource_id, \
     a.details, a.ip_address, a.user_agent, a.correlation_id, a.chain, a.position, a.hash";

/// Writes what was staged onto this host's chain; answers where that ends then, if anything was written.
pub(super) async fn insert(
    tx: &mut Sqlite,
    script: &mut Script,
    entries: &[Entry],
    trail: &Trail,
) -> Result<Option<End>, Failure> {
    let Some(first) = entries.first() else { return Ok(None) };
    let end = match trail.end() {
        Some(end) => end.clone(),
        None => {
            script.run(tx)?;
            begin(tx, trail, first.at).await?
        }
    };
    let first = end.last + 1;
    let stretch = trail.stretch(end, first, entries);
    script.add(&AUDITS, &stretch.rows, put);
    script.add(&CHAIN, &[&stretch], |Stretch { rows: _, end, head, seal }, values| {
        values
            .put(end.genesis.chain.0)
            .put(end.genesis.begun_at.0)
            .put(end.genesis.cause.as_str())
            .put(number(end.genesis.unchained))
            .put(trail::links_text(&end.genesis.after))
            .put(number(head.position))
            .put(head.hash.0.to_vec())
            .put(head.at.0)
            .put(seal);
    });
    let Stretch { end, .. } = stretch;
    Ok(Some(end))
}

/// Where this host's chain ends, or how it is to begin.
async fn begin(tx: &mut Sqlite, trail: &Trail, at: Timestamp) -> Result<End, Failure> {
    let chains = chains(&mut *tx).await?;
    let last: i64 = query_scalar("select coalesce(max(id), 0) from audit_logs").fetch_one(&mut *tx).await?;
    let last = u64::try_from(last).unwrap_or(0);
    if let Some(chain) = chains.iter().find(|chain| chain.genesis.chain == trail.chain) {
        return Ok(End { genesis: chain.genesis.clone(), position: chain.head.position, hash: chain.head.hash, last });
    }
    let unchained: i64 =
        query_scalar("select count(*) from audit_logs where chain is null").fetch_one(&mut *tx).await?;
    let unchained = u64::try_from(unchained).unwrap_or(0);
    let genesis =
        Genesis { chain: trail.chain, begun_at: at, cause: trail.cause, unchained, after: open_ends(&chains) };
    Ok(End { position: 0, hash: genesis.hash(), genesis, last })
}

fn put((id, entry, link): &(u64, &Entry, Link), values: &mut Values) {
    let Entry { at, level, category, action, actor, resource, details, ip_address, user_agent, correlation_id } = entry;
    values
        .put(number(*id))
        .put(at.0)
        .put(level.as_str())
        .put(category)
        .put(action)
        .put(actor.as_deref())
        .put(resource.as_ref().map(|(kind, _)| *kind))
        .put(resource.as_ref().map(|(_, id)| id.as_str()))
        .put(details)
        .put(ip_address.as_deref())
        .put(user_agent.as_deref())
        .put(correlation_id.as_deref())
        .put(link.chain.0)
        .put(number(link.position))
        .put(link.hash.0.to_vec());
}

/// No counter of ours reaches 2^63.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Every chain, in the order they began.
async fn chains(executor: impl On) -> Result<Vec<Chain>, Failure> {
    let found = query(CHAINS).fetch_all(executor).await?;
    Ok(found.iter().map(chain).collect::<Result<_, StoreError>>()?)
}

fn chain(row: &Row) -> Result<Chain, StoreError> {
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

fn hash(cells: &mut Cells<'_>) -> Result<Hash, StoreError> {
    let bytes: Vec<u8> = cells.take()?;
    bytes.try_into().map(Hash).map_err(|bytes: Vec<u8>| cells.corrupt(format!("a hash of {} bytes", bytes.len())))
}

fn entry(row: &Row) -> Result<Linked, StoreError> {
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
        details: cells.take()?,
        ip_address: cells.take()?,
        user_agent: cells.take()?,
        correlation_id: cells.take()?,
    };
    let chain: Option<uuid::Uuid> = cells.take()?;
    let link = match chain {
        None => None,
        Some(chain) => Some(Link { chain: ChainId(chain), position: cells.number()?, hash: hash(&mut cells)? }),
    };
    Ok(Linked { id, entry, link })
}

/// The statement behind a page of the log, newest first. The bounds in time are made bounds in number:
/// both grow together, but for entries that overtook each other.
pub(super) fn page(filter: &AuditFilter, before: Option<u64>, limit: u32) -> Sql {
    let AuditFilter { actor, action, since, until } = filter;
    let mut sql = Sql::default();
    sql.text(&format!("select {ENTRY} from audit_logs a where a.id < ")).bind(before.map_or(i64::MAX, number));
    if let Some(actor) = actor {
        sql.text(" and a.actor = ").bind(actor.clone());
    }
    if let Some(action) = action {
        sql.text(" and a.action = ").bind(action.clone());
    }
    const FIRST: &str = "coalesce((select id from audit_logs where timestamp >= ";
    let last = i64::MAX - i64::from(OVERTAKING);
    if let Some(since) = since {
        sql.text(" and a.timestamp >= ").bind(since.0).text(" and a.id >= ").text(FIRST).bind(since.0);
        sql.text(&format!(" order by timestamp limit 1), {last}) - {OVERTAKING}"));
    }
    if let Some(until) = until {
        sql.text(" and a.timestamp < ").bind(until.0).text(" and a.id < ").text(FIRST).bind(until.0);
        sql.text(&format!(" order by timestamp limit 1), {last}) + {OVERTAKING}"));
    }
    sql.text(" order by a.id desc limit ").bind(limit);
    sql
}

impl SqliteStore {
    pub(super) async fn audit_page(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Entry)>, StoreError> {
        let found = page(filter, before, limit).fetch(&self.readers).await?;
        found.iter().map(|row| entry(row).map(|linked| (linked.id, linked.entry))).collect()
    }
}

#[async_trait]
impl ports::journal::Trail for SqliteStore {
    async fn chains(&self) -> Result<Vec<Chain>, StoreError> {
        Ok(chains(&self.readers).await?)
    }

    async fn links(&self, chain: ChainId, after: u64, limit: u32) -> Result<Vec<Linked>, StoreError> {
        let mut sql = Sql::default();
        sql.text(&format!("select {ENTRY} from audit_logs a where a.chain = ")).bind(chain.0);
        sql.text(" and a.position > ").bind(number(after)).text(" order by a.position limit ").bind(limit);
        sql.fetch(&self.readers).await?.iter().map(entry).collect()
    }

    async fn strays(&self, after: u64, limit: u32) -> Result<Vec<Linked>, StoreError> {
        let mut sql = Sql::default();
        sql.text(&format!("select {ENTRY} from audit_logs a where a.id > ")).bind(number(after));
        sql.text(" and not exists (select 1 from audit_chains c where c.id = a.chain) order by a.id limit ")
            .bind(limit);
        sql.fetch(&self.readers).await?.iter().map(entry).collect()
    }

    async fn prune(&self, cut: Cut) -> Result<u64, StoreError> {
        let trail = Trail::new(ChainId(uuid::Uuid::nil()), Cause::Start, self.shared.notary.clone());
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let chains = chains(&mut *connection).await?;
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
}

/// Cuts one chain; answers how many entries are gone.
async fn shorten(connection: &mut Sqlite, chain: &Chain, cut: &Cut, trail: &Trail) -> Result<u64, Failure> {
    let last = query(
        "select position from audit_logs where chain = ? and position <= ? and timestamp < ? order by position desc limit 1",
    );
    let (id, most) = (chain.genesis.chain, chain.cut() + u64::from(cut.most));
    let found = last.bind(id.0).bind(number(most)).bind(cut.before.0).fetch_optional(&mut *connection).await?;
    let Some(last) = found else { return Ok(0) };
    let position = Cells::new(&last, "audit_logs").number()?;
    let text = format!(
        "select {ENTRY} from audit_logs a where a.chain = ? and a.position between ? - 1 and ? order by a.position"
    );
    let ending = query(text).bind(id.0).bind(number(position)).bind(number(position));
    let ending = ending.fetch_all(&mut *connection).await?.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let Checkpoint { head, seal } = trail.checkpoint(chain, &ending, cut.at)?;
    // Another host may have cut it further meanwhile: a checkpoint never goes back.
    let moved = query(
        "update audit_chains set cut_position = ?, cut_hash = ?, cut_at = ?, cut_seal = ? \
         where id = ? and coalesce(cut_position, 0) < ?",
    );
    let moved = moved
        .bind(number(head.position))
        .bind(head.hash.0.to_vec())
        .bind(head.at.0)
        .bind(seal)
        .bind(id.0)
        .bind(number(head.position))
        .execute(&mut *connection)
        .await?;
    if moved.rows_affected() == 0 {
        return Ok(0);
    }
    let deleted = query("delete from audit_logs where chain = ? and position <= ?");
    Ok(deleted.bind(id.0).bind(number(head.position)).execute(connection).await?.rows_affected())
}
