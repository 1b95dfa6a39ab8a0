//! Takes over a store that was put back by other means: `pg_restore`, or a file copied into place.

use anyhow::{Context as _, bail};
use ports::clock::Clock as _;
use ports::restore::Restored;
use services::restore::{Adopted, adopt as take_over};
use storage::postgres::{self, RestoredPostgres};
use storage::sqlite::{Lock, RestoredSqlite};

use super::refuse_unfinished;
use crate::clock::WallClock;
use crate::config::{Config, Store};
use crate::keys::{AuditKey, private_dir};

/// Holds what was not over and raises the epoch, in place.
///
/// # Errors
/// A host works with the store, or it is none; it is as it was then.
pub async fn adopt(config: &Config, epoch: Option<u64>) -> anyhow::Result<Adopted> {
    refuse_unfinished(config)?;
    private_dir(&config.data.dir.join("keys"))?;
    let notary = AuditKey::in_data(&config.data.dir)?;
    match config.store()? {
        Store::Sqlite { path, .. } => {
            if !path.exists() {
                bail!("{} is not there: put the restored file in its place first", path.display());
            }
            let lock = Lock::of(&path)?;
            let store = RestoredSqlite::open(&path, &lock, Some(notary)).await?;
            finish(Box::new(store), epoch).await
        }
        Store::Postgres { url, connect_timeout, allow_unsafe_durability, .. } => {
            let notary = Some(notary);
            let options = postgres::Options {
                connect_timeout,
                allow_unsafe_durability,
                notary,
                ..postgres::Options::new(url.reveal())
            };
            finish(Box::new(RestoredPostgres::open(&options).await?), epoch).await
        }
    }
}

async fn finish(mut store: Box<dyn Restored>, epoch: Option<u64>) -> anyhow::Result<Adopted> {
    let adopted = take_over(store.as_mut(), WallClock.now(), epoch, "a store put back by other means").await;
    let adopted = adopted.context("the store was not adopted")?;
    store.close().await.context("the store is adopted and did not close cleanly")?;
    Ok(adopted)
}
