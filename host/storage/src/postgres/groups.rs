//! Saved groups.

use async_trait::async_trait;
use domain::audit::Entry;
use domain::expression::Written;
use domain::group::{self, Change, Effect, Group, GroupName};
use ports::error::StoreError;
use ports::groups::{Changed, Groups};
use ports::replies::Once;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::micros::micros;
use super::read::Statement;
use super::rows::{self, Cells};
use super::{PostgresStore, replies};

const ALL: &str =
    "select name, expr, description, created_by, created_at, changed_by, changed_at from target_groups order by name";
/// Keeps other writers out until the commit: whether a change is right depends on all the other groups.
const ALONE: &str = "lock table target_groups in share row exclusive mode";

fn group(row: &PgRow) -> Result<Group, StoreError> {
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

async fn write(connection: &mut PgConnection, effect: &Effect) -> Result<(), sqlx::Error> {
    match effect {
        Effect::Put(Group { name, expr, description, created_by, created_at, changed_by, changed_at }) => {
            sqlx::query(
                "insert into target_groups (name, expr, description, created_by, created_at, changed_by, changed_at) \
                 values ($1, $2, $3, $4, $5, $6, $7) \
                 on conflict (name) do update set expr = excluded.expr, description = excluded.description, \
                 changed_by = excluded.changed_by, changed_at = excluded.changed_at",
            )
            .bind(name.as_str())
            .bind(expr.text())
            .bind(description)
            .bind(created_by)
            .bind(micros(*created_at))
            .bind(changed_by)
            .bind(micros(*changed_at))
            .execute(connection)
            .await?;
        }
        Effect::Remove(name) => {
            sqlx::query("delete from target_groups where name = $1").bind(name.as_str()).execute(connection).await?;
        }
    }
    Ok(())
}

#[async_trait]
impl Groups for PostgresStore {
    async fn saved_groups(&self) -> Result<Vec<Group>, StoreError> {
        self.rows(Statement::new(ALL)).await?.iter().map(group).collect()
    }

    async fn change_group(&self, change: Change, audit: Entry, once: Option<Once>) -> Result<Changed, StoreError> {
        self.cold(move |connection, staged| {
            let (change, audit, once) = (change.clone(), audit.clone(), once.clone());
            Box::pin(async move {
                sqlx::query(ALONE).execute(&mut *connection).await?;
                let found = sqlx::query(ALL).fetch_all(&mut *connection).await?;
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
