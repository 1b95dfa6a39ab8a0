//! Two hosts, each in a network namespace of its own, whose wires to the database are pulled one after the other:
//! nothing is refused, nothing comes back. The one that is cut off starts nothing, says so, and recovers.

use tests::cluster::{Cluster, Outages};
use tests::namespaces::Namespace;
use tests::oracle::{Excuses, tell};
use tests::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_behind_a_pulled_wire_starts_nothing_says_so_and_recovers() {
    let (Some(one), Some(two)) = (Namespace::new(), Namespace::new()) else { return };
    let namespaces = [one, two];
    let Some(cluster) = Cluster::start_in(&namespaces).await else { return };
    let load = cluster.load();
    let mut took = Outages::default();
    for (down, up) in [(0, 1), (1, 0)] {
        load.more_started(3).await;
        namespaces[down].pulled(true);
        took.push(cluster.served_by(up).await);
        let nobody = cluster.hosts[down].nobody();
        until("the host says that it is cut off", async || {
            let answer = nobody.get("/readyz").await;
            let database = answer.json["components"]["database"].as_str()?.to_owned();
            (answer.status == 503 && database.starts_with("unavailable")).then_some(())
        })
        .await;
        until("it knows that it may send nothing", async || {
            cluster.hosts[down].log().contains("it sends nothing more").then_some(())
        })
        .await;
        load.more_started(3).await;
        namespaces[down].pulled(false);
        cluster.balancer.sees(down, true).await;
        cluster.served_by(down).await;
    }
    let verdict = load.judge(&cluster.admin, Excuses::default()).await;
    tell(&format!("each of two hosts in namespaces of their own cut off once, {took}: {verdict}"));
    // Four seconds of the lease, one and a half until an agent dials again.
    took.assert_short();
    verdict.assert_true();
}
