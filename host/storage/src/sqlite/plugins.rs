//! The book of plugins.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::plugin::{Passage, Record};
use plan::id::CommandId;
use ports::error::StoreError;
use ports::plugin_life::{PluginBook, Waiting};

use super::SqliteStore;
use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Error, Row, query, query_scalar};
use super::rows::Cells;
use crate::versions;

/// Rows of a plugin's history that stay.
const HISTORY: u32 = 1000;

/// Commands of one plugin that are not over. Without the hint, pages in the order of ids would be read from
/// all there ever were.
pub(super) const WAITING: &str = "select id, verb, args from commands indexed by commands_status \
     where status in ('scheduled', 'pending', 'running') and plugin = ? and id > ? order by id limit ?";
/// What commands that are not over were planned with.
pub(super) const IN_USE: &str = "select distinct plugin_digest from commands indexed by commands_status \
     where status in ('scheduled', 'pending', 'running')";

async fn put(tx: &mut Sqlite, records: &[Record], passages: &[Passage]) -> Result<(), Error> {
    for Record { name, file, enabled, versions } in records {
        query(
            "insert into plugins (name, file, enabled, versions) values (?, ?, ?, ?) \
             on conflict (name) do update set file = excluded.file, enabled = excluded.enabled, \
             versions = excluded.versions",
        )
        .bind(name.as_str())
        .bind(file.as_str())
        .bind(*enabled)
        .bind(versions::text(versions))
        .execute(&mut *tx)
        .await?;
    }
    for Passage { at, plugin, version, from, to, why, actor } in passages {
        query(
            "insert into plugin_history (at, plugin, version, digest, from_state, to_state, why, actor) \
             values (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(at.0)
        .bind(plugin.as_str())
        .bind(version.as_ref().map(|(version, _)| version.as_str()))
        .bind(version.as_ref().map(|(_, digest)| digest.as_str()))
        .bind(from.as_deref())
        .bind(to.as_str())
        .bind(why.as_deref())
        .bind(actor.as_deref())
        .execute(&mut *tx)
        .await?;
        query(
            "delete from plugin_history where plugin = ?1 and id < coalesce( \
                 (select id from plugin_history where plugin = ?1 order by id desc limit 1 offset ?2), 0)",
        )
        .bind(plugin.as_str())
        .bind(HISTORY)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

fn record(row: &Row) -> Result<Record, StoreError> {
    let mut cells = Cells::new(row, "plugins");
    Ok(Record {
        name: cells.name()?,
        file: cells.take()?,
        enabled: cells.take()?,
        versions: cells.read(versions::parse)?,
    })
}

fn passage(row: &Row) -> Result<(u64, Passage), StoreError> {
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
impl PluginBook for SqliteStore {
    async fn plugin_records(&self) -> Result<Vec<Record>, StoreError> {
        let found = query("select name, file, enabled, versions from plugins order by name")
            .fetch_all(&self.readers)
            .await
            .map_err(Failure::from)?;
        found.iter().map(record).collect()
    }

    async fn keep_plugins(
        &self,
        records: Vec<Record>,
        passages: Vec<Passage>,
        audit: Option<Entry>,
    ) -> Result<(), StoreError> {
        self.cold(move |connection, staged| {
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
        let found = query(
            "select id, at, plugin, version, digest, from_state, to_state, why, actor from plugin_history \
             where plugin = ? and id < ? order by id desc limit ?",
        )
        .bind(plugin)
        .bind(before)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(Failure::from)?;
        found.iter().map(passage).collect()
    }

    async fn plugin_waiting(
        &self,
        plugin: &str,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<Waiting>, StoreError> {
        let after = after.map_or(uuid::Uuid::nil(), |after| after.0);
        let found = query(WAITING).bind(plugin).bind(after).bind(limit).fetch_all(&self.readers).await;
        let found = found.map_err(Failure::from)?;
        let waiting = |row: &Row| {
            let mut cells = Cells::new(row, "commands");
            Ok(Waiting { command: CommandId(cells.id()?), verb: cells.take()?, args: cells.take()? })
        };
        found.iter().map(waiting).collect()
    }

    async fn plugin_digests_in_use(&self) -> Result<Vec<String>, StoreError> {
        Ok(query_scalar(IN_USE).fetch_all(&self.readers).await.map_err(Failure::from)?)
    }
}
