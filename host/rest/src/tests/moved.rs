//! Alerts of a machine that goes to another site: who has them in a list and who is shown them.

use std::sync::Arc;
use std::time::Duration;

use domain::alert::flap::Limits;
use domain::alert::standing::Alert;
use domain::alert::{Finding, Seen, Severity};
use plan::id::AlertId;
use ports::alerts::{Alerts as _, Change, Kept};
use ports::clock::Clock as _;
use serde_json::{Value, json};
use services::alerting::{Alerting, Memory};
use services::feed::Feed;

use super::machines::{Counting, NoRules, Shelf};
use super::world::{PASSWORD, World};

/// Judges nobody, and sweeps.
fn alerting(world: &World) -> Alerting {
    let at = Arc::new(world.store.clone());
    Alerting {
        rules: Arc::new(NoRules),
        plugins: Arc::new(Shelf::default()),
        feed: Arc::new(Feed::default()),
        alerts: at.clone(),
        silences: at,
        directory: world.directory.clone(),
        clock: world.clock.clone(),
        ids: Arc::new(Counting::default()),
        grace: Duration::from_secs(3600),
        word: None,
        memory: Memory::default(),
    }
}

/// An alert of `web-1` that fires, at the site where that was.
async fn fire(world: &World, site: &str) -> AlertId {
    let seen = Seen::Wrong(Severity::Warning);
    let finding = Finding { key: "/".into(), seen, since_ms: 0, value: Some(97.0), message: "full".into() };
    let (mut alert, _) = Alert::new(&finding, Limits::default(), world.clock.now());
    // Else it would be written anew to be told.
    alert.known = true;
    let kept = Kept {
        id: AlertId(uuid::Uuid::from_u128(7)),
        rule: "disk".into(),
        agent: Some(world.web),
        agent_name: "web-1".into(),
        site: site.into(),
        key: "/".into(),
        alert,
        muted: None,
        revision: 0,
    };
    let id = kept.id;
    keep(world, kept).await;
    id
}

async fn keep(world: &World, alert: Kept) {
    let change = Change { alert, moments: Vec::new(), news: Vec::new() };
    assert!(world.store.keep_alerts(vec![change], Vec::new(), None).await.expect("kept").is_empty());
}

/// The sites of what a caller has in a list, and whether they are shown the alert.
async fn sees(world: &World, token: &str, id: AlertId) -> (Vec<Value>, bool) {
    let list = world.get(token, "/api/v1/alerts?state=firing,resolved&limit=1").await.expect(200).json();
    let sites = list["items"].as_array().expect("items").iter().map(|item| item["site"].clone()).collect();
    (sites, world.get(token, &format!("/api/v1/alerts/{id}")).await.status == 200)
}

#[tokio::test]
async fn an_alert_goes_with_its_machine_until_it_is_over_and_stays_where_it_ended() {
    let world = World::new().await;
    let (root, eu) = (world.login("root").await, world.login("eu").await);
    let grants = json!([{ "sites": ["us"], "verbs": ["*"], "effects": ["read"] }]);
    let user = json!({ "name": "us", "password": PASSWORD, "role": "viewer", "grants": grants });
    world.call(&root, "POST", "/api/v1/users", user).await.expect(201);
    let us = world.login("us").await;
    let id = fire(&world, "eu").await;
    let moves = async |agent: &str, site: &str| {
        let path = format!("/api/v1/agents/{agent}");
        world.call(&root, "PATCH", &path, json!({ "site": site })).await.expect(200);
    };
    let nothing = || (Vec::new(), false);
    assert_eq!(sees(&world, &eu, id).await, (vec![json!("eu")], true));
    assert_eq!(sees(&world, &us, id).await, nothing());

    moves("web-1", "us").await;
    assert_eq!(sees(&world, &eu, id).await, nothing(), "gone at once");
    assert_eq!(sees(&world, &us, id).await, (Vec::new(), true), "its row is swept first");
    let mut alerting = alerting(&world);
    alerting.turn(true).await.expect("swept");
    assert_eq!(sees(&world, &eu, id).await, nothing());
    assert_eq!(sees(&world, &us, id).await, (vec![json!("us")], true));
    let swept = world.store.alert(id).await.expect("read").expect("there");
    alerting.turn(true).await.expect("swept");
    assert_eq!(world.store.alert(id).await.expect("read").as_ref(), Some(&swept), "once");

    let mut over = swept;
    over.alert.well(Limits::default(), world.clock.now());
    keep(&world, over).await;
    for agent in ["web-1", "db-1"] {
        moves(agent, "eu").await;
    }
    alerting.turn(true).await.expect("swept");
    assert_eq!(sees(&world, &eu, id).await, nothing(), "that was not its trouble");
    assert_eq!(sees(&world, &us, id).await, (vec![json!("us")], true), "though no machine is there any more");
}
