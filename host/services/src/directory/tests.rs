//! What is known of agents when news of them come in another order.

use std::collections::BTreeMap;

use domain::agent::Facts;

use super::*;

pub(super) fn agent() -> Agent {
    Agent {
        id: AgentId(uuid::Uuid::from_u128(1)),
        name: "web-1".to_owned(),
        site: "default".to_owned(),
        labels: BTreeMap::new(),
        public_key: "first".to_owned(),
        facts: Facts::default(),
        maintenance: false,
        awaits_approval: true,
        revoked_at: None,
        deleted_at: None,
        rotation_asked_at: None,
        created_at: Timestamp(0),
        last_seen: None,
        session_epoch: 0,
        maybe_sent: false,
    }
}

#[test]
fn late_news_of_a_session_that_ended_here_does_not_make_an_agent_reachable() {
    let directory = Directory::default();
    let id = agent().id;
    let told = |session_epoch| Found { agent: Agent { session_epoch, ..agent() }, open: true };
    directory.put(agent());
    directory.opened(id, 4, Timestamp(0));
    directory.found(told(4));
    assert!(directory.closed(id, 4, Timestamp(1)));
    directory.found(told(4));
    assert!(!directory.is_reachable(id), "read before the session ended");
    directory.found(told(5));
    assert!(directory.is_reachable(id), "it has gone to another host");
}

#[test]
fn an_agent_was_last_seen_when_it_was_heard_here_or_when_its_session_is_known_to_have_been_open() {
    let directory = Directory::default();
    let id = agent().id;
    let last_seen = || directory.get(id).expect("known").last_seen.map(|at| at.0);
    let found = |session_epoch, last_seen, open| {
        let last_seen = Some(Timestamp(last_seen));
        directory.found(Found { agent: Agent { session_epoch, last_seen, ..agent() }, open });
    };
    directory.put(agent());
    assert_eq!(last_seen(), None);
    found(1, 10, true);
    directory.opened(id, 1, Timestamp(10));
    directory.heard(id, Timestamp(17));
    assert_eq!(last_seen(), Some(17));
    found(1, 20, true);
    assert_eq!(last_seen(), Some(17), "that this host lived until 20 does not say that it heard the agent then");
    directory.closed(id, 1, Timestamp(21));
    assert_eq!(last_seen(), Some(21), "its session has ended");
    found(2, 30, true);
    assert_eq!(last_seen(), Some(30), "by the host it is at");
}

#[test]
fn offline_is_who_is_let_in_and_has_no_session_anywhere() {
    let directory = Directory::default();
    let known = Agent { awaits_approval: false, session_epoch: 1, ..agent() };
    let at = Some(Timestamp(1));
    let is_offline = |agent: Agent, open: bool| {
        let directory = Directory::default();
        directory.found(Found { agent, open });
        directory.offline().len() == 1
    };
    assert!(is_offline(known.clone(), false));
    assert!(!is_offline(known.clone(), true), "at another host");
    for other in [
        agent(),
        Agent { maintenance: true, ..known.clone() },
        Agent { revoked_at: at, ..known.clone() },
        Agent { deleted_at: at, ..known.clone() },
    ] {
        assert!(!is_offline(other.clone(), false), "{other:?}");
    }
    directory.put(known.clone());
    directory.opened(known.id, 1, Timestamp(0));
    assert!(directory.offline().is_empty(), "here");
}

#[test]
fn late_news_of_what_was_before_lets_nobody_in_again() {
    let directory = Directory::default();
    let known = || directory.get(agent().id).expect("known").agent;
    directory.put(agent());
    let approved = Agent { awaits_approval: false, ..agent() };
    let rotated = Agent { public_key: "second".to_owned(), ..approved };
    directory.put(rotated.clone());
    directory.put(Agent { maintenance: true, ..agent() });
    assert_eq!(*known(), Agent { maintenance: true, ..rotated.clone() }, "the rest is as it was told last");
    let third = Agent { public_key: "third".to_owned(), ..rotated.clone() };
    directory.put(third.clone());
    directory.put(rotated.clone());
    assert_eq!(*known(), third);
    let gone = Some(Timestamp(7));
    directory.put(Agent { revoked_at: gone, deleted_at: gone, ..third.clone() });
    directory.put(third);
    assert_eq!((known().revoked_at, known().deleted_at), (gone, gone));
    assert_eq!(directory.leavers(), [agent().id]);
    directory.put(Agent { id: AgentId(uuid::Uuid::from_u128(2)), ..agent() });
    directory.put(rotated);
    let named = directory.read().by_name.get("web-1").copied();
    assert_eq!(named, Some(AgentId(uuid::Uuid::from_u128(2))), "nor takes the name from who has it now");
}

/// What another host has put up, and what was put up here.
#[derive(Default)]
struct Wall {
    there: Option<Latest>,
    put: std::sync::Mutex<Vec<AgentId>>,
}

#[async_trait::async_trait]
impl Board for Wall {
    fn put(&self, agent: AgentId, _: Arc<Latest>) {
        self.put.lock().expect("no test has panicked").push(agent);
    }

    async fn of(&self, agents: &[AgentId]) -> Vec<(AgentId, Latest)> {
        agents.iter().zip(self.there.clone()).map(|(id, latest)| (*id, latest)).collect()
    }
}

#[tokio::test]
async fn what_an_agent_said_to_another_host_is_learned_unless_it_said_something_here_since() {
    let said = |at: i64| Latest {
        sample: "{}".into(),
        at: Timestamp(at),
        received_at: Timestamp(at),
        skew_ms: 0,
        readings: [].into(),
    };
    let directory = Directory::default();
    directory.put(agent());
    let wall = Arc::new(Wall { there: Some(said(50)), ..Wall::default() });
    _ = directory.board.set(wall.clone());
    let id = agent().id;
    let latest = async || {
        directory.learn_latest([id].into_iter()).await;
        directory.latest(id).map(|latest| latest.at.0)
    };
    assert_eq!(latest().await, Some(50));
    directory.set_latest(id, said(40));
    assert_eq!(latest().await, Some(50), "what was said there is later");
    directory.opened(id, 1, Timestamp(45));
    directory.set_latest(id, said(46));
    assert_eq!(latest().await, Some(46), "it speaks here, by this host's clock");
    assert_eq!(*wall.put.lock().expect("no test has panicked"), [id, id]);
}
