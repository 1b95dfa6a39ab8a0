//! A database that a host works with is left alone.

use ports::error::StoreError;
use ports::journal::Installation as _;
use ports::restore::Adopt;

use crate::behaviours::Ground;
use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, Place as _};
use crate::lab::Database;

#[tokio::test]
async fn a_database_that_a_host_works_with_is_not_adopted() {
    let Some(database) = Database::fresh() else { return };
    let (Ground { store, .. }, running) = place::open(&database).await;
    let cluster = store.cluster(plan::id::ClusterId(uuid())).await.expect("a cluster");
    let mut restored = database.restored().await;
    let adopt = || Adopt { epoch: 9, at: at(500), audit: entry("store.restore") };
    let refused = restored.adopt(adopt()).await;
    assert!(matches!(&refused, Err(StoreError::Conflict(why)) if why.contains("stop them first")), "{refused:?}");
    assert_eq!(restored.cluster().await, Ok(cluster));
    running.finish().await;
    restored.adopt(adopt()).await.expect("adopted once the host has left");
}
