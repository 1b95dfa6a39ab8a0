//! Alerts: one for each rule, agent and key, whoever judges; what became of them; what rules remember; silences.

use std::collections::BTreeMap;

use domain::alert::flap::Limits;
use domain::alert::life::{State, Told};
use domain::alert::mute::{Matcher, Mute, Silence};
use domain::alert::standing::{Alert, Line, Owner};
use domain::alert::{Finding, Seen, Severity};
use domain::event::What;
use plan::id::{AgentId, AlertId, SilenceId};
use ports::alerts::{AlertFilter, AlertShare, Change, Kept, KeptSilence, Moment, Remembered};
use ports::rules;

use super::fixtures::*;
use super::{Ground, Store};

fn agent(n: u128) -> AgentId {
    AgentId(uuid::Uuid::from_u128(n))
}

fn moment(kept: &Kept, line: Line) -> Moment {
    Moment {
        at: kept.alert.since,
        line,
        severity: kept.alert.state.severity(),
        value: kept.alert.value,
        message: kept.alert.message.clone(),
        actor: None,
        note: None,
    }
}

/// An alert that has just begun, and how it is written.
pub fn began(id: u128, agent: Option<AgentId>, key: &str, severity: Severity) -> Change {
    let finding = Finding {
        key: key.into(),
        seen: Seen::Wrong(severity),
        since_ms: 1,
        value: Some(97.5),
        message: "it is full".into(),
    };
    let (alert, lines) = Alert::new(&finding, Limits::default(), at(7));
    let kept = Kept {
        id: AlertId(uuid::Uuid::from_u128(id)),
        rule: "disk".into(),
        agent,
        agent_name: "web-1".into(),
        site: "eu".into(),
        key: key.into(),
        alert,
        muted: None,
        revision: 0,
    };
    let moments = lines.into_iter().map(|line| moment(&kept, line)).collect();
    Change { alert: kept, moments, news: vec![r#"{"rule":"disk"}"#.into()] }
}

pub async fn an_alert_reads_back_with_its_timeline_and_is_told_of<S: Store>(Ground { store, .. }: Ground<S>) {
    let before = store.last_seq().await.expect("read");
    let mut change = began(1, Some(agent(9)), "/srv", Severity::Critical);
    assert!(store.keep_alerts(vec![change.clone()], Vec::new(), None).await.expect("kept").is_empty());
    change.alert.revision = 1;
    assert_eq!(store.alert(change.alert.id).await.expect("read"), Some(change.alert.clone()));
    assert_eq!(store.alerts_of(&[agent(9), agent(8)]).await.expect("read"), [change.alert.clone()]);

    let owner = Owner { name: "ada".into(), note: "on it".into(), at: at(8) };
    let lines = change.alert.alert.acknowledge(owner, Limits::default()).expect("it is wrong");
    change.moments = lines.into_iter().map(|line| moment(&change.alert, line)).collect();
    change.moments[0].actor = Some("ada".into());
    (change.alert.muted, change.news) = (Some(Mute::Silence), Vec::new());
    store.keep_alerts(vec![change.clone()], Vec::new(), None).await.expect("kept");
    change.alert.revision = 2;
    assert_eq!(store.alert(change.alert.id).await.expect("read"), Some(change.alert.clone()));
    let timeline = store.timeline(change.alert.id, None, 10).await.expect("read");
    let lines: Vec<(&str, Option<&str>)> =
        timeline.iter().map(|(_, moment)| (moment.line.as_str(), moment.actor.as_deref())).collect();
    assert_eq!(lines, [("acknowledged", Some("ada")), ("fired", None)]);
    assert_eq!(store.timeline(change.alert.id, Some(timeline[0].0), 1).await.expect("read"), timeline[1..]);

    let told = store.events(None, before, 10).await.expect("read");
    let critical = Severity::Critical;
    let what =
        |state, told| What::Alert { alert: change.alert.id, agent: Some(agent(9)), state, line: Line::Told(told) };
    let expected =
        [what(State::Firing(critical), Told::Fired), what(State::Acknowledged(critical), Told::Acknowledged)];
    assert_eq!(told.iter().map(|event| event.what.clone()).collect::<Vec<_>>(), expected);
}

pub async fn of_two_that_judge_at_once_the_second_is_left_out_and_told_so<S: Store>(Ground { store, .. }: Ground<S>) {
    let (first, second) = (began(1, None, "cpu", Severity::Warning), began(2, None, "cpu", Severity::Critical));
    assert!(store.keep_alerts(vec![first.clone()], Vec::new(), None).await.expect("kept").is_empty());
    let stale = store.keep_alerts(vec![second.clone()], Vec::new(), None).await.expect("answered");
    assert_eq!(stale, [second.alert.id], "there is one alert for each rule, agent and key");
    assert!(store.timeline(second.alert.id, None, 10).await.expect("read").is_empty());
    let mut third = first.clone();
    third.alert.revision = 7;
    assert_eq!(store.keep_alerts(vec![third], Vec::new(), None).await.expect("answered"), [first.alert.id]);
    let kept = store.alerts_of(&[]).await.expect("read");
    assert_eq!(
        kept.iter().map(|kept| (kept.id, kept.agent, kept.revision)).collect::<Vec<_>>(),
        [(first.alert.id, None, 1)]
    );
}

pub async fn alerts_are_listed_newest_first_by_what_is_asked_for<S: Store>(Ground { store, .. }: Ground<S>) {
    let mut changes: Vec<Change> = (1..=3).map(|n| began(n, Some(agent(n)), "", Severity::Warning)).collect();
    changes[1].alert.site = "us".into();
    changes[2].alert.alert.well(Limits::default(), at(9));
    store.keep_alerts(changes, Vec::new(), None).await.expect("kept");
    let list = async |filter: AlertFilter, before: Option<u128>| -> Vec<u128> {
        let before = before.map(|n| AlertId(uuid::Uuid::from_u128(n)));
        let found = store.alerts(&filter, before, 10).await.expect("read");
        found.iter().map(|kept| kept.id.0.as_u128()).collect()
    };
    let any = AlertFilter::default();
    assert_eq!(list(any.clone(), None).await, [2, 1]);
    assert_eq!(list(any.clone(), Some(2)).await, [1]);
    assert_eq!(list(AlertFilter { states: vec!["resolved", "firing"], ..any.clone() }, None).await, [3, 2, 1]);
    assert_eq!(list(AlertFilter { sites: Some(vec!["us".into()]), ..any.clone() }, None).await, [2]);
    assert_eq!(list(AlertFilter { sites: Some(vec![]), ..any.clone() }, None).await, [0_u128; 0]);
    assert_eq!(list(AlertFilter { agent: Some(agent(1)), ..any.clone() }, None).await, [1]);
    assert_eq!(list(AlertFilter { severity: Some(Severity::Critical), ..any.clone() }, None).await, [0_u128; 0]);
    assert_eq!(list(AlertFilter { rule: Some("cpu".into()), ..any.clone() }, None).await, [0_u128; 0]);

    assert_eq!(store.forget_alerts(at(9)).await.expect("forgotten"), 0, "it was over then and no earlier");
    assert_eq!(store.forget_alerts(at(10)).await.expect("forgotten"), 1);
    assert_eq!(list(AlertFilter { states: vec!["resolved"], ..any }, None).await, [0_u128; 0]);
}

pub async fn alerts_that_are_not_over_are_counted_by_rule_and_how_they_stand<S: Store>(
    Ground { store, .. }: Ground<S>,
) {
    let severities = [Severity::Warning, Severity::Warning, Severity::Critical, Severity::Warning];
    let each = severities.into_iter().zip(1..);
    let mut changes: Vec<Change> = each.map(|(severity, n)| began(n, Some(agent(n)), "", severity)).collect();
    changes[3].alert.alert.well(Limits::default(), at(9));
    store.keep_alerts(changes, Vec::new(), None).await.expect("kept");
    let mut shares = store.alert_shares().await.expect("counted");
    shares.sort_by_key(|share| share.state);
    let share = |severity, count| AlertShare { rule: "disk".into(), state: State::Firing(severity), count };
    assert_eq!(shares, [share(Severity::Warning, 2), share(Severity::Critical, 1)]);
}

pub async fn what_a_rule_remembers_is_kept_until_it_lets_go<S: Store>(Ground { store, .. }: Ground<S>) {
    let memory = |n: u128, text: Option<&str>| Remembered {
        agent: agent(n),
        rule: "cpu".into(),
        state: text.map(|text| rules::State { version: 3, text: text.into() }),
    };
    let big = "x".repeat(65_536);
    let kept = vec![memory(1, Some("a")), memory(2, Some(&big))];
    store.keep_alerts(Vec::new(), kept.clone(), None).await.expect("kept");
    let read = async || {
        let mut found = store.remembered(&[agent(1), agent(2), agent(3)]).await.expect("read");
        found.sort_by_key(|one| one.agent);
        found
    };
    assert_eq!(read().await, kept);
    store.keep_alerts(Vec::new(), vec![memory(1, Some("b")), memory(2, None)], None).await.expect("kept");
    assert_eq!(read().await, [memory(1, Some("b"))]);
}

pub async fn a_silence_lasts_until_it_ends_or_is_ended<S: Store>(Ground { store, .. }: Ground<S>) {
    let matcher = Matcher {
        rules: vec!["cpu".into()],
        labels: BTreeMap::from([("tier".into(), "db".into())]),
        at_most: Some(Severity::Warning),
        ..Matcher::default()
    };
    let silence = |n: u128, until: i64| KeptSilence {
        id: SilenceId(uuid::Uuid::from_u128(n)),
        silence: Silence { matcher: matcher.clone(), from: at(1), until: at(until) },
        created_by: "ada".into(),
        created_at: at(1),
        comment: "we know".into(),
    };
    for one in [silence(1, 10), silence(2, 20)] {
        store.add_silence(one, entry("silences.create"), None).await.expect("kept");
    }
    assert_eq!(store.silences(at(5)).await.expect("read"), [silence(2, 20), silence(1, 10)]);
    assert_eq!(store.silences(at(10)).await.expect("read"), [silence(2, 20)]);
    let (id, before) = (silence(2, 20).id, store.audits(None, 10).await.expect("read").len());
    assert!(store.end_silence(id, at(12), entry("silences.end")).await.expect("ended"));
    assert!(!store.end_silence(id, at(13), entry("silences.end")).await.expect("answered"), "once");
    assert_eq!(store.audits(None, 10).await.expect("read").len(), before + 1);
    assert!(store.silences(at(12)).await.expect("read").is_empty());
    assert_eq!(store.forget_silences(at(11)).await.expect("forgotten"), 1);
}
