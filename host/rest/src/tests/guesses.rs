//! Keys that somebody makes up: what they cost the store, and whom they keep waiting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::audit::Entry;
use domain::time::Timestamp;
use futures_util::future::join_all;
use plan::id::{KeyId, UserId};
use ports::api_keys::{ApiKey, ApiKeys};
use ports::error::StoreError;
use ports::replies::Once;
use ports::users::User;
use serde_json::json;
use storage::sqlite::SqliteStore;

use super::world::World;
use crate::pace::Rate;

/// Wrong keys that one address may send at once.
const BURST: u32 = 20;

/// A store that counts how often it is asked whose key it is.
struct Counted {
    store: SqliteStore,
    reads: AtomicUsize,
}

const NEVER: &str = "nothing that a token asks for";

#[async_trait]
impl ApiKeys for Counted {
    async fn create_key(&self, _: ApiKey, _: u32, _: Timestamp, _: Entry, _: Option<Once>) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }

    async fn api_keys(&self, _: Option<UserId>) -> Result<Vec<ApiKey>, StoreError> {
        panic!("{NEVER}")
    }

    async fn api_key(&self, _: KeyId) -> Result<Option<ApiKey>, StoreError> {
        panic!("{NEVER}")
    }

    async fn key_of(&self, sha256: &str) -> Result<Option<(ApiKey, User)>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        // Others come in meanwhile.
        tokio::task::yield_now().await;
        self.store.key_of(sha256).await
    }

    async fn revoke_key(&self, _: KeyId, _: Entry) -> Result<bool, StoreError> {
        panic!("{NEVER}")
    }

    async fn keys_used(&self, _: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }
}

#[tokio::test]
async fn a_thousand_made_up_keys_are_looked_up_no_more_often_than_one_address_may_be_wrong() {
    let mut world = World::with(|options| options.address_rate = Rate { per_second: 1, burst: BURST }).await;
    let op = world.login("op").await;
    let mut good = Vec::new();
    for _ in 0..BURST * 2 {
        let made = world.call(&op, "POST", "/api/v1/api-keys", json!({})).await.expect(201).json();
        good.push(made["key"].as_str().expect("a key").to_owned());
    }
    let newcomer = good.pop().expect("a key");
    let store = Arc::new(Counted { store: world.store.clone(), reads: AtomicUsize::new(0) });
    world.restart_over(store.clone());
    for key in &good {
        world.get(key, "/api/v1/me").await.expect(200);
    }
    assert_eq!(store.reads.swap(0, Ordering::SeqCst), good.len(), "good ones cost the address nothing");

    let made_up: Vec<String> = (0..1000).map(|n| format!("vwk_{n:043}")).collect();
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for reply in join_all(made_up.iter().map(|key| world.get(key, "/api/v1/me"))).await {
        *answers.entry(reply.status.as_u16()).or_default() += 1;
    }
    assert_eq!(answers, BTreeMap::from([(401, BURST as usize), (429, 1000 - BURST as usize)]));
    assert_eq!(store.reads.swap(0, Ordering::SeqCst), BURST as usize);

    // Who is known here goes on, also when the store has to be asked again; who comes for the first time waits.
    world.get(&good[0], "/api/v1/me").await.expect(200);
    let refused = world.get(&newcomer, "/api/v1/me").await.refused(429, "rate_limited");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(store.reads.load(Ordering::SeqCst), 0);
    world.clock.forward(Duration::from_secs(2));
    for key in &made_up[..2] {
        world.get(key, "/api/v1/me").await.refused(401, "invalid_token");
    }
    world.get(&made_up[2], "/api/v1/me").await.refused(429, "rate_limited");
    world.get(&good[0], "/api/v1/me").await.expect(200);
    assert_eq!(store.reads.load(Ordering::SeqCst), 3);
    world.clock.forward(Duration::from_secs(1));
    world.get(&newcomer, "/api/v1/me").await.expect(200);
}
