//! How few commits many writes take.

use tokio::task::JoinSet;

use super::fixtures::*;
use super::{Ground, Store};

pub async fn a_thousand_accepts_at_once_take_few_commits<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let before = store.counters();
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let (store, new) = (store.clone(), command(&[&web]));
        callers.spawn(async move { store.accept(new).await });
    }
    assert!(callers.join_all().await.into_iter().all(|answer| answer.is_ok()));
    let after = store.counters();
    assert_eq!(after.writes - before.writes, 1000);
    assert!(after.commits - before.commits < 100, "{} commits", after.commits - before.commits);
}

pub async fn callers_in_a_loop_keep_sharing_commits<S: Store>(Ground { store, .. }: Ground<S>) {
    const CALLERS: u64 = 64;
    const EACH: u64 = 20;
    let web = enrol(&store, "web-1", "eu").await;
    let before = store.counters();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, web) = (store.clone(), web.clone());
        callers.spawn(async move {
            for _ in 0..EACH {
                let new = command(&[&web]);
                let id = new.command.id;
                store.accept(new).await.expect("accepted");
                store.advance(finish(id, web.id, 1, true)).await.expect("advanced");
            }
        });
    }
    callers.join_all().await;
    let after = store.counters();
    let (commits, writes) = (after.commits - before.commits, after.writes - before.writes);
    assert_eq!(writes, CALLERS * EACH * 2);
    assert!(commits * 8 < writes, "{commits} commits for {writes} writes");
}
