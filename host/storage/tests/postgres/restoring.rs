//! A restored database; and one that a host works with is left alone.

use ports::error::StoreError;
use ports::journal::Installation as _;
use ports::restore::{Adopt, Restored};
use servers::shared;
use storage::postgres::{Options, PostgresStore, RestoredPostgres};

use crate::behaviours::Ground;
use crate::behaviours::fixtures::*;
use crate::behaviours::restoring::Place;
use crate::lab::{self, Running};

crate::restoring!(place);

struct Database(String);

async fn place() -> Option<Database> {
    shared::database().map(Database)
}

impl Place for Database {
    type Store = PostgresStore;
    type Running = Running;

    async fn open(&self) -> (PostgresStore, Running) {
        let (Ground { store, .. }, running) = lab::start(&self.0).await;
        (store, running)
    }

    async fn close(&self, running: Running) {
        running.finish().await;
    }

    async fn restored(&self) -> Box<dyn Restored> {
        Box::new(RestoredPostgres::open(&Options::new(&self.0)).await.expect("opens"))
    }
}

#[tokio::test]
async fn a_database_that_a_host_works_with_is_not_adopted() {
    let Some(place) = place().await else { return };
    let (store, running) = place.open().await;
    let cluster = store.cluster(plan::id::ClusterId(uuid())).await.expect("a cluster");
    let mut restored = place.restored().await;
    let adopt = || Adopt { epoch: 9, at: at(500), audit: entry("store.restore") };
    let refused = restored.adopt(adopt()).await;
    assert!(matches!(&refused, Err(StoreError::Conflict(why)) if why.contains("stop them first")), "{refused:?}");
    assert_eq!(restored.cluster().await, Ok(cluster));
    place.close(running).await;
    restored.adopt(adopt()).await.expect("adopted once the host has left");
}
