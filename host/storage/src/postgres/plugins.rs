//! The book of plugins.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::plugin::{Passage, Record};
use plan::id::CommandId;
use ports::error::StoreError;
use ports::plugin_life::{PluginBook, Waiting};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::micros::micros;
use super::read::Statement;
use super::rows::Cells;
use super::{PostgresStore, plain};
use crate::versions;

/// Rows of a plugin's history that stay.
const HISTORY: i64 = 1000;

async fn put(tx: &mut PgConnection, records: &[Record], passages: &[Passage]) -> Result<(), sqlx::Error> {
    for Record { name, file, enabled, versions } in records {
        sqlx::query(
            "insert into plugins (name, file, enabled, versions) values ($1, $2, $3, $4::jsonb) \
             on conflict (name) do update set file = excluded.file, enabled = excluded.enabled, \
             versions = excluded.versions",
        )
        .bind(name.as_str())
        .bind(plain::text(file))
        .bind(*enabled)
        .bind(plain::json(versions::text(versions)))
        .execute(&mut *tx)
        .await?;
    }
    for Passage { at, plugin, version, from, to, why, actor } in passages {
        sqlx::query(
            "insert into plugin_history (at, plugin, version, digest, from_state, to_state, why, actor) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(micros(*at))
        .bind(plugin.as_str())
        .bind(version.as_ref().map(|(version, _)| version.as_str()))
        .bind(version.as_ref().map(|(_, digest)| digest.as_str()))
        .bind(from.as_deref())
        .bind(to.as_str())
        .bind(plain::text_if_any(why.as_deref()))
        .bind(plain::text_if_any(actor.as_deref()))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "delete from plugin_history where plugin = $1 and id < coalesce( \
                 (select id from plugin_history where plugin = $1 order by id desc limit 1 offset $2), 0)",
        )
        .bind(plugin.as_str())
        .bind(HISTORY)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

fn record(row: &PgRow) -> Result<Record, StoreError> {
    let mut cells = Cells::new(row, "plugins");
    Ok(Record {
        name: cells.name()?,
        file: cells.take()?,
        enabled: cells.take()?,
        versions: cells.read(versions::parse)?,
    })
}

fn passage(row: &PgRow) -> Result<(u64, Passage), StoreError> {
    let mut cells = Cells::new(row, "plugin_history");
    let id = cells.numbered()?;
    let (at, plugin) = (cells.time()?, cells.take()?);
    let (version, digest): (Option<String>, Option<String>) = (cells.take()?, cells.take()?);
    let passage = Passage {
        at,
        plugin,
        version: version.zip(digest),
        from: cells.take()?,
        to: cells.take()?,
        why: cells.take()?,
        actor: cells.take()?,
    };
    Ok((id, passage))
}

#[async_trait]
impl PluginBook for PostgresStore {
    async fn plugin_records(&self) -> Result<Vec<Record>, StoreError> {
        let statement = Statement::new("select name, file, enabled, versions::text from plugins order by name");
        self.rows(statement).await?.iter().map(record).collect()
    }

    async fn keep_plugins(
        &self,
        records: Vec<Record>,
        passages: Vec<Passage>,
        audit: Option<Entry>,
    ) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
            let (records, passages, audit) = (records.clone(), passages.clone(), audit.clone());
            Box::pin(async move {
                put(connection, &records, &passages).await?;
                if let Some(entry) = audit {
                    staged.audit(entry);
                }
                Ok(())
            })
        })
        .await
    }

    async fn plugin_history(
        &self,
        plugin: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Passage)>, StoreError> {
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let statement = Statement::new(
            "select id, at, plugin, version, digest, from_state, to_state, why, actor from plugin_history \
             where plugin = $1 and id < $2 order by id desc limit $3",
        );
        let statement = statement.bind(plugin).bind(before).bind(i64::from(limit));
        self.rows(statement).await?.iter().map(passage).collect()
    }

    async fn plugin_waiting(
        &self,
        plugin: &str,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<Waiting>, StoreError> {
        // Ids first and apart: pages in the order of ids would otherwise be read from all there ever were.
        let statement = Statement::new(
            "with waiting as materialized (select id from commands \
                 where status in ('scheduled', 'pending', 'running') and plugin = $1 and id > $2) \
             select c.id, c.verb, c.args::text from (select id from waiting order by id limit $3) w \
             join commands c on c.id = w.id order by c.id",
        );
        let after = after.map_or(uuid::Uuid::nil(), |after| after.0);
        let statement = statement.bind(plugin).bind(after).bind(i64::from(limit));
        let waiting = |row: &PgRow| {
            let mut cells = Cells::new(row, "commands");
            Ok(Waiting { command: CommandId(cells.id()?), verb: cells.take()?, args: cells.compact()? })
        };
        self.rows(statement).await?.iter().map(waiting).collect()
    }

    async fn plugin_digests_in_use(&self) -> Result<Vec<String>, StoreError> {
        let statement = Statement::new(
            "select distinct plugin_digest from commands where status in ('scheduled', 'pending', 'running')",
        );
        self.rows(statement).await?.iter().map(|row| Cells::new(row, "commands").name()).collect()
    }
}
