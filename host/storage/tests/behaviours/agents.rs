//! Agents, sessions and join tokens.

use std::collections::BTreeMap;

use domain::agent::{Agent, AgentStatus, Facts};
use domain::audit::Entry;
use domain::event::What;
use domain::time::Timestamp;
use plan::id::{AgentId, TokenId};
use ports::agents::{AgentChange, JoinToken, Joined, NewAgent, Order, Rotation};
use tokio::task::JoinSet;

use super::fixtures::*;
use super::{Ground, Store};

async fn find<S: Store>(store: &S, id: AgentId) -> Agent {
    let all = store.agents().await.expect("read");
    all.into_iter().find(|agent| agent.id == id).expect("there")
}

async fn statuses<S: Store>(store: &S, id: AgentId) -> Vec<AgentStatus> {
    let events = store.events(None, 0, 1000).await.expect("read");
    let of_it = |what: &What| match what {
        What::Agent { agent, status } if *agent == id => Some(*status),
        _ => None,
    };
    events.iter().filter_map(|event| of_it(&event.what)).collect()
}

/// An order that nothing stands against.
fn order(agent: AgentId, at: Timestamp, audit: Entry) -> Order {
    Order { agent, expected: None, at, audit }
}

fn facts() -> Facts {
    Facts {
        version: "0.1.0".into(),
        os: "linux".into(),
        kernel: "6.1".into(),
        arch: "x86_64".into(),
        hostname: "web-1.example".into(),
        container_engine: Some("docker 28.2.2".into()),
        compose: Some("v2".into()),
        capabilities: vec!["compose".into(), "docker".into()],
        labels: BTreeMap::from([("rack".into(), "7".into())]),
        boot_id: "b-1".into(),
    }
}

pub async fn a_join_token_lets_one_of_fifty_in<S: Store>(Ground { store, .. }: Ground<S>) {
    let token = token("eu");
    store.create_token(token.clone(), entry("token.create"), None).await.expect("stored");
    let mut crowd = JoinSet::new();
    for n in 0..50 {
        let store = store.clone();
        crowd.spawn(async move { store.join(newcomer(token.id, &format!("web-{n}"))).await.expect("answered") });
    }
    let answers = crowd.join_all().await;
    let enrolled: Vec<&Agent> = answers
        .iter()
        .filter_map(|answer| if let Joined::Enrolled(agent) = answer { Some(&**agent) } else { None })
        .collect();
    assert_eq!(enrolled.len(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Joined::TokenRefused("used up")).count(), 49);
    let agents = store.agents().await.expect("read");
    assert_eq!(agents, [enrolled[0].clone()]);
    assert_eq!((agents[0].site.as_str(), agents[0].labels.get("tier").map(String::as_str)), ("eu", Some("web")));
    let used = store.tokens().await.expect("read").remove(0);
    assert_eq!((used.used_at, used.used_by), (Some(at(1)), Some(agents[0].id)));
    let joins = store.audits(None, 100).await.expect("read");
    assert_eq!(joins.iter().filter(|(_, entry)| entry.action == "agent.join").count(), 1);
}

pub async fn a_token_that_is_wrong_revoked_or_expired_is_refused<S: Store>(Ground { store, .. }: Ground<S>) {
    let (good, revoked) = (token("eu"), token("us"));
    for token in [&good, &revoked] {
        store.create_token(token.clone(), entry("token.create"), None).await.expect("stored");
    }
    assert_eq!(store.revoke_token(revoked.id, at(1), entry("token.revoke")).await, Ok(true));
    assert_eq!(store.revoke_token(TokenId(uuid()), at(1), entry("token.revoke")).await, Ok(false));
    let cases = [
        (newcomer(TokenId(uuid()), "web-1"), "no such token"),
        (newcomer(revoked.id, "web-1"), "revoked"),
        (NewAgent { secret_sha256: "other".into(), ..newcomer(good.id, "web-1") }, "wrong secret"),
        (NewAgent { at: at(3600), ..newcomer(good.id, "web-1") }, "expired"),
    ];
    for (new, why) in cases {
        assert_eq!(store.join(new).await, Ok(Joined::TokenRefused(why)));
    }
    let listed: Vec<TokenId> = store.tokens().await.expect("read").iter().map(|token| token.id).collect();
    assert_eq!(listed, [revoked.id, good.id]);
    assert!(matches!(store.join(newcomer(good.id, "web-1")).await, Ok(Joined::Enrolled(_))));
}

pub async fn a_token_that_lets_nobody_in_any_more_is_forgotten_when_its_time_is_over<S: Store>(
    Ground { store, .. }: Ground<S>,
) {
    let (used, revoked, expired, good) = (token("eu"), token("eu"), token("eu"), token("eu"));
    let good = JoinToken { expires_at: at(9_000), ..good };
    for token in [&used, &revoked, &expired, &good] {
        store.create_token(token.clone(), entry("token.create"), None).await.expect("stored");
    }
    let Ok(Joined::Enrolled(web)) = store.join(newcomer(used.id, "web-1")).await else { panic!("not enrolled") };
    assert_eq!(store.revoke_token(revoked.id, at(2), entry("token.revoke")).await, Ok(true));
    // Used at 1, revoked at 2, over at 3600.
    let left = async || store.tokens().await.expect("read").iter().map(|token| token.id).collect::<Vec<_>>();
    assert_eq!(store.forget_tokens(at(1), 10).await, Ok(0));
    assert_eq!(store.forget_tokens(at(2), 10).await, Ok(1));
    assert_eq!(left().await, [good.id, expired.id, revoked.id]);
    assert_eq!((store.token(used.id).await, store.token(good.id).await), (Ok(None), Ok(Some(good.clone()))));
    // No more at once than were asked for.
    assert_eq!(store.forget_tokens(at(3_601), 1).await, Ok(1));
    assert_eq!(store.forget_tokens(at(3_601), 1).await, Ok(1));
    assert_eq!(store.forget_tokens(at(3_601), 1).await, Ok(0));
    assert_eq!(left().await, [good.id]);
    assert_eq!(find(&store, web.id).await.name, "web-1", "who came by it stays");
}

pub async fn a_name_is_taken_for_ever<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let token = token("eu");
    store.create_token(token.clone(), entry("token.create"), None).await.expect("stored");
    assert_eq!(store.join(newcomer(token.id, "web-1")).await, Ok(Joined::NameTaken));
    store.revoke(order(web.id, at(5), entry("agent.revoke"))).await.expect("stored").expect("there");
    assert_eq!(store.join(newcomer(token.id, "web-1")).await, Ok(Joined::NameTaken));
    // The token is still good: a name that is taken uses nothing up.
    assert!(matches!(store.join(newcomer(token.id, "web-2")).await, Ok(Joined::Enrolled(_))));
}

pub async fn a_key_that_is_over_never_comes_back_and_a_deleted_agents_name_does<S: Store>(
    Ground { store, .. }: Ground<S>,
) {
    let web = enrol(&store, "web-1", "eu").await;
    let first = find(&store, web.id).await.public_key;
    let turn = |from: &str, to: &str| Rotation { from: from.into(), to: to.into() };
    let asked =
        store.ask_rotation(order(web.id, at(2), entry("agents.ask_key"))).await.expect("stored").expect("there");
    assert_eq!(asked.rotation_asked_at, Some(at(2)));
    let rotated = store.rotate_key(web.id, turn(&first, "second"), at(3), entry("agents.rotate_key")).await;
    let rotated = rotated.expect("stored").expect("there");
    assert_eq!((rotated.public_key.as_str(), rotated.rotation_asked_at), ("second", None));
    for stale in [turn(&first, "third"), turn("second", &first), turn("second", "second")] {
        assert_eq!(store.rotate_key(web.id, stale, at(4), entry("agents.rotate_key")).await, Ok(None));
    }

    let deleted =
        store.delete_agent(order(web.id, at(5), entry("agents.delete"))).await.expect("stored").expect("there");
    assert_eq!((deleted.name.as_str(), deleted.deleted_at, deleted.revoked_at), ("web-1", Some(at(5)), Some(at(5))));
    assert_eq!(store.delete_agent(order(web.id, at(6), entry("agents.delete"))).await, Ok(None));
    assert_eq!(store.open_session(web.id, &facts(), at(6)).await, Ok(None));
    let token = token("eu");
    store.create_token(token.clone(), entry("token.create"), None).await.expect("stored");
    for key in [first.as_str(), "second"] {
        let again = NewAgent { public_key: key.into(), ..newcomer(token.id, "web-1") };
        assert_eq!(store.join(again).await, Ok(Joined::KeyRetired));
    }
    let Ok(Joined::Enrolled(heir)) = store.join(newcomer(token.id, "web-1")).await else { panic!("the name is free") };
    assert_eq!(store.agent(heir.id).await, Ok(Some(*heir)));
    assert_eq!(find(&store, web.id).await.name, "web-1");
}

pub async fn who_waits_for_approval_opens_no_session<S: Store>(Ground { store, .. }: Ground<S>) {
    let token = JoinToken { needs_approval: true, ..token("eu") };
    store.create_token(token.clone(), entry("token.create"), None).await.expect("stored");
    let Ok(Joined::Enrolled(web)) = store.join(newcomer(token.id, "web-1")).await else { panic!("not enrolled") };
    assert!(web.awaits_approval);
    assert_eq!(store.open_session(web.id, &facts(), at(2)).await, Ok(None));
    let approved = store.approve(web.id, None, entry("agents.approve")).await.expect("stored").expect("there");
    assert!(!approved.awaits_approval);
    assert_eq!(store.open_session(web.id, &facts(), at(3)).await, Ok(Some(1)));
}

pub async fn a_session_stores_facts_and_counts_epochs<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let fresh = find(&store, web.id).await;
    assert_eq!((fresh.session_epoch, fresh.maybe_sent, fresh.last_seen), (0, false, None));
    assert_eq!(store.open_session(web.id, &facts(), at(2)).await, Ok(Some(1)));
    let open = find(&store, web.id).await;
    assert_eq!((open.session_epoch, open.maybe_sent, open.last_seen), (1, true, Some(at(2))));
    assert_eq!(open.facts, facts());
    store.close_session(web.id, 1, at(3), false).await.expect("stored");
    let closed = find(&store, web.id).await;
    assert_eq!((closed.session_epoch, closed.maybe_sent, closed.last_seen), (1, false, Some(at(3))));
    assert_eq!(store.open_session(web.id, &facts(), at(4)).await, Ok(Some(2)));
    assert_eq!(store.open_session(AgentId(uuid()), &facts(), at(4)).await, Ok(None));
    use AgentStatus::{Offline, Online};
    assert_eq!(statuses(&store, web.id).await, [Offline, Online, Offline, Online]);
}

pub async fn an_older_session_cannot_end_a_newer_one<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    store.open_session(web.id, &facts(), at(1)).await.expect("stored");
    store.open_session(web.id, &facts(), at(2)).await.expect("stored");
    assert_eq!(store.sessions_here().await, Ok(vec![(web.id, 2)]));
    store.close_session(web.id, 1, at(9), false).await.expect("answered");
    let agent = find(&store, web.id).await;
    assert_eq!((agent.maybe_sent, agent.last_seen), (true, Some(at(2))));
    assert_eq!(store.sessions_here().await, Ok(vec![(web.id, 2)]));
    assert_eq!(statuses(&store, web.id).await.last(), Some(&AgentStatus::Online));
    store.close_session(web.id, 2, at(10), true).await.expect("answered");
    assert_eq!(store.sessions_here().await, Ok(vec![]));
}

pub async fn a_change_is_stored_and_told<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let labels = BTreeMap::from([("tier".to_owned(), "db".to_owned())]);
    let change =
        AgentChange { site: Some("us".into()), labels: Some(labels.clone()), maintenance: Some(true), expected: None };
    let changed = store.change(web.id, change, entry("agent.change")).await.expect("stored").expect("there");
    assert_eq!((changed.site.as_str(), &changed.labels, changed.maintenance), ("us", &labels, true));
    assert_eq!(find(&store, web.id).await, changed);
    let nothing = store.change(web.id, AgentChange::default(), entry("agent.change")).await.expect("stored");
    assert_eq!(nothing, Some(changed));
    assert_eq!(statuses(&store, web.id).await.last(), Some(&AgentStatus::Maintenance));
    assert_eq!(store.change(AgentId(uuid()), AgentChange::default(), entry("agent.change")).await, Ok(None));
    let audits = store.audits(None, 100).await.expect("read");
    assert_eq!(audits.iter().filter(|(_, entry)| entry.action == "agent.change").count(), 2);
}

pub async fn a_revoked_agent_opens_no_session<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let revoked = store.revoke(order(web.id, at(5), entry("agent.revoke"))).await.expect("stored").expect("there");
    assert_eq!(revoked.revoked_at, Some(at(5)));
    assert_eq!(store.open_session(web.id, &facts(), at(6)).await, Ok(None));
    let again = store.revoke(order(web.id, at(7), entry("agent.revoke"))).await.expect("stored").expect("there");
    assert_eq!(again.revoked_at, Some(at(5)));
    assert_eq!(store.revoke(order(AgentId(uuid()), at(7), entry("agent.revoke"))).await, Ok(None));
    assert_eq!(store.agents().await.expect("read").len(), 1);
}
