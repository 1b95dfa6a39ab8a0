//! What it costs to know what submitters may, counted in rows asked for, with one user and with many; and that what
//! was read before a change does not outlive it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use domain::access::{Principal, Role};
use domain::audit::Entry;
use domain::command::Command;
use domain::event::Event;
use domain::time::Timestamp;
use plan::effect::Effect;
use plan::id::{CommandId, KeyId, UserId};
use ports::api_keys::{ApiKey, ApiKeys};
use ports::clock::Clock as _;
use ports::commands::Commands as _;
use ports::error::StoreError;
use ports::journal::{AuditFilter, Journal};
use ports::replies::Once;
use ports::users::{NewRefresh, RefreshToken, Rotated, User, UserChange, Users};
use serde_json::json;
use services::origin::Origin;
use services::standing::{Standing, Verdict};
use storage::sqlite::SqliteStore;
use tokio::sync::Semaphore;

use super::world::World;

/// A store that counts the rows it is asked for, and has no list of all.
struct Counted {
    store: SqliteStore,
    rows: AtomicUsize,
    /// The answer of this number, from 1, comes when the test says so.
    late: usize,
    /// A permit once that one was read.
    begun: Semaphore,
    /// A permit for it to be answered.
    may_end: Semaphore,
}

impl Counted {
    fn new(store: &SqliteStore, late: usize) -> Arc<Counted> {
        let (rows, begun, may_end) = (AtomicUsize::new(0), Semaphore::new(0), Semaphore::new(0));
        Arc::new(Counted { store: store.clone(), rows, late, begun, may_end })
    }

    fn row(&self) -> &SqliteStore {
        self.rows.fetch_add(1, Ordering::Relaxed);
        &self.store
    }

    /// The rows asked for since it was asked this.
    fn taken(&self) -> usize {
        self.rows.swap(0, Ordering::Relaxed)
    }
}

const NEVER: &str = "nothing that costs more with more users";

#[async_trait]
impl Users for Counted {
    async fn count(&self) -> Result<u64, StoreError> {
        panic!("{NEVER}")
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let found = self.row().user(id).await;
        if self.rows.load(Ordering::Relaxed) == self.late {
            self.begun.add_permits(1);
            self.may_end.acquire().await.expect("never closed").forget();
        }
        found
    }

    async fn user_named(&self, name: &str) -> Result<Option<User>, StoreError> {
        self.row().user_named(name).await
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        panic!("{NEVER}")
    }

    async fn create(&self, _: User, _: Entry, _: Option<Once>) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }

    async fn change_user(&self, _: UserId, _: UserChange, _: Entry) -> Result<Option<User>, StoreError> {
        panic!("{NEVER}")
    }

    async fn logged_in(&self, _: UserId, _: &str) -> Result<Option<User>, StoreError> {
        panic!("{NEVER}")
    }

    async fn delete(&self, _: UserId, _: Option<Box<User>>, _: Entry) -> Result<bool, StoreError> {
        panic!("{NEVER}")
    }

    async fn add_refresh(&self, _: RefreshToken, _: Entry) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }

    async fn rotate(&self, _: &str, _: NewRefresh, _: Timestamp) -> Result<Rotated, StoreError> {
        panic!("{NEVER}")
    }

    async fn end_family(&self, _: &str, _: Entry) -> Result<bool, StoreError> {
        panic!("{NEVER}")
    }
}

#[async_trait]
impl ApiKeys for Counted {
    async fn create_key(&self, _: ApiKey, _: u32, _: Timestamp, _: Entry, _: Option<Once>) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }

    async fn api_keys(&self, _: Option<UserId>) -> Result<Vec<ApiKey>, StoreError> {
        panic!("{NEVER}")
    }

    async fn api_key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.row().api_key(id).await
    }

    async fn key_of(&self, _: &str) -> Result<Option<(ApiKey, User)>, StoreError> {
        panic!("{NEVER}")
    }

    async fn revoke_key(&self, _: KeyId, _: Entry) -> Result<bool, StoreError> {
        panic!("{NEVER}")
    }

    async fn keys_used(&self, _: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }
}

#[async_trait]
impl Journal for Counted {
    async fn events(&self, _: Option<CommandId>, _: u64, _: u32) -> Result<Vec<Arc<Event>>, StoreError> {
        panic!("{NEVER}")
    }

    async fn last_seq(&self) -> Result<u64, StoreError> {
        panic!("{NEVER}")
    }

    async fn audit(&self, _: Entry) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }

    async fn audits_where(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Entry)>, StoreError> {
        assert_eq!((before, limit), (None, 1), "the newest one");
        self.row().audits_where(filter, before, limit).await
    }
}

#[tokio::test]
async fn what_submitters_may_is_looked_up_at_a_cost_that_users_do_not_raise() {
    let world = World::new().await;
    let (root, op) = (world.login("root").await, world.login("op").await);
    let made = world.call(&op, "POST", "/api/v1/api-keys", json!({ "ttl_s": 3600 })).await.expect(201).json();
    let mut commands = Vec::new();
    for token in [&op, made["key"].as_str().expect("a key")] {
        let id = world.submit(token).await;
        commands.push(world.store.command(id).await.expect("read").expect("there").command);
    }
    let store = Counted::new(&world.store, usize::MAX);
    let standing = Standing::new(store.clone(), store.clone(), store.clone(), world.clock.clone());
    standing.learn(&commands).await.expect("read");
    assert_eq!(store.taken(), 3, "two submitters, one with a key and its owner");
    standing.look().await.expect("read");
    store.taken();

    let eye = world.store.user_named("eye").await.expect("read").expect("there");
    let mut costs = Vec::new();
    for more in [0, 30] {
        for n in 0..more {
            let id = UserId(uuid::Uuid::from_u128(900 + n));
            let user = User { id, name: format!("user-{n}"), role: Role::Operator, ..eye.clone() };
            let said = Origin::default().entry(world.clock.now(), "test.create", None);
            world.store.create(user, said, None).await.expect("stored");
        }
        standing.look().await.expect("read");
        costs.push(store.taken());
    }
    assert_eq!(costs, [4, 4], "one question for each kind of change, with four users and with thirty more");
    let verdicts = || commands.iter().map(|command| standing.verdict(command, Effect::Read, "eu")).collect::<Vec<_>>();
    assert_eq!(verdicts(), [Verdict::May, Verdict::May]);

    // A change is looked for, and only then is anybody read: whoever is known.
    world.call(&root, "PUT", "/api/v1/grants/op", json!({ "grants": [] })).await.expect(200);
    standing.look().await.expect("read");
    assert_eq!(store.taken(), 4 + 3);
    assert!(verdicts().iter().all(|verdict| matches!(verdict, Verdict::MayNot(_))), "{:?}", verdicts());
    let ordinary = json!({ "grants": [{ "sites": ["*"], "verbs": ["*"], "effects": ["read"] }] });
    world.call(&root, "PUT", "/api/v1/grants/op", ordinary).await.expect(200);
    standing.look().await.expect("read");
    assert_eq!(verdicts(), [Verdict::May, Verdict::May]);
    // A key is over by itself, and nothing has to be read for that.
    world.clock.forward(std::time::Duration::from_secs(3600));
    assert!(matches!(verdicts()[..], [Verdict::May, Verdict::MayNot(_)]), "{:?}", verdicts());
}

#[tokio::test]
async fn whoever_was_read_before_they_were_deleted_may_nothing_after_the_look_that_missed_them() {
    for late in [1, 2] {
        let world = World::new().await;
        let (root, op) = (world.login("root").await, world.login("op").await);
        let id = world.submit(&op).await;
        let first = world.store.command(id).await.expect("read").expect("there").command;
        let eu = world.store.user_named("eu").await.expect("read").expect("there").id;
        let second = Command { principal: Some(Principal::User(eu)), submitter: "eu".into(), ..first.clone() };
        let commands = [first, second];
        let store = Counted::new(&world.store, late);
        let standing = Standing::new(store.clone(), store.clone(), store.clone(), world.clock.clone());
        standing.look().await.expect("read");
        store.taken();
        let others = async {
            store.begun.acquire().await.expect("never closed").forget();
            for name in ["op", "eu"] {
                world.call(&root, "DELETE", &format!("/api/v1/users/{name}"), json!({})).await.expect(204);
            }
            standing.look().await.expect("read");
            store.may_end.add_permits(1);
        };
        let (learned, ()) = tokio::join!(standing.learn(&commands), others);
        learned.expect("read");
        for command in &commands {
            let verdict = standing.verdict(command, Effect::Read, "eu");
            assert!(matches!(verdict, Verdict::MayNot(_)), "{late}: `{}`: {verdict:?}", command.submitter);
        }
    }
}
