//! How many transactions commands take: counts, which do not feel what else a machine does.

use futures_util::future::join_all;
use serde_json::json;
use tests::client::Api;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;

tests::on_both_stores![one_command_alone_takes_few_commits_and_many_together_share_them];

/// Commands one after the other.
const ALONE: u64 = 20;
/// Commands at once.
const TOGETHER: u64 = 200;
/// Most transactions of one command alone: two where its machine answers at once, and two more for what it says in between.
const MOST_ALONE: u64 = 4;
/// Most of one among many: the quicker the disk, the fewer share one.
const MOST_TOGETHER: u64 = 2;

async fn one_command_alone_takes_few_commits_and_many_together_share_them(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let run = async || {
        let id = admin.exec("web-1", &json!({ "program": "true" })).await;
        admin.ended(&id, "web-1").await;
    };
    run().await;
    let before = commits(&admin).await;
    for _ in 0..ALONE {
        run().await;
    }
    let alone = commits(&admin).await - before;
    let before = commits(&admin).await;
    join_all((0..TOGETHER).map(|_| run())).await;
    let together = commits(&admin).await - before;
    tests::oracle::tell(&format!("{ALONE} commands alone: {alone} commits; {TOGETHER} at once: {together}"));
    assert!(alone <= MOST_ALONE * ALONE, "{alone} commits of {ALONE} commands");
    assert!(together <= MOST_TOGETHER * TOGETHER, "{together} commits of {TOGETHER} commands");
}

async fn commits(admin: &Api) -> u64 {
    admin.metric("viworks_store_commits_total").await
}
