//! Saved groups.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::expression::Written;
use domain::group::{self, Change, Effect, Group, GroupName};
use ports::error::StoreError;
use ports::groups::{Changed, Groups};
use ports::replies::Once;

use super::connection::Sqlite;
use super::failure::Failure;
use super::query::{Error, Row, query};
use super::rows::{self, Cells};
use super::{SqliteStore, replies};

const ALL: &str =
    "select name, expr, description, created_by, created_at, changed_by, changed_at from target_groups order by name";

fn group(row: &Row) -> Result<Group, StoreError> {
    let mut cells = Cells::new(row, "target_groups");
    let name = cells.name()?;
    Ok(Group {
        name: rows::word("name of a group", GroupName::parse)(&name).map_err(|what| cells.corrupt(what))?,
        expr: cells.read(|text| Written::parse(text).map_err(|fault| fault.to_string()))?,
        description: cells.take()?,
        created_by: cells.take()?,
        created_at: cells.time()?,
        changed_by: cells.take()?,
        changed_at: cells.time()?,
    })
}

async fn write(connection: &mut Sqlite, effect: &Effect) -> Result<(), Error> {
    match effect {
        Effect::Put(Group { name, expr, description, created_by, created_at, changed_by, changed_at }) => {
            query(
                "insert into target_groups (name, expr, description, created_by, created_at, changed_by, changed_at) \
                 values (?, ?, ?, ?, ?, ?, ?) \
                 on conflict (name) do update set expr = excluded.expr, description = excluded.description, \
                 changed_by = excluded.changed_by, changed_at = excluded.changed_at",
            )
            .bind(name.as_str())
            .bind(expr.text())
            .bind(description)
            .bind(created_by)
            .bind(created_at.0)
            .bind(changed_by)
            .bind(changed_at.0)
            .execute(connection)
            .await?;
        }
        Effect::Remove(name) => {
            query("delete from target_groups where name = ?").bind(name.as_str()).execute(connection).await?;
        }
    }
    Ok(())
}

#[async_trait]
impl Groups for SqliteStore {
    async fn saved_groups(&self) -> Result<Vec<Group>, StoreError> {
        let found = query(ALL).fetch_all(&self.readers).await.map_err(Failure::from)?;
        found.iter().map(group).collect()
    }

    async fn change_group(&self, change: Change, audit: Entry, once: Option<Once>) -> Result<Changed, StoreError> {
        self.cold(move |connection, staged| {
            Box::pin(async move {
                let found = query(ALL).fetch_all(&mut *connection).await?;
                let groups = group::Groups::new(found.iter().map(group).collect::<Result<Vec<_>, _>>()?);
                let by = audit.actor.clone().unwrap_or_default();
                match groups.decide(change, &by, audit.at) {
                    Err(refused) => Ok(Changed::Refused(refused)),
                    Ok(effect) => {
                        write(&mut *connection, &effect).await?;
                        replies::keep(&mut *connection, once.as_ref()).await?;
                        staged.audit(audit);
                        Ok(Changed::Done(effect))
                    }
                }
            })
        })
        .await
    }
}
