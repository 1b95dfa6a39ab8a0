//! Lists, their filters and their pages.

use domain::attempt::{Event, State};
use domain::command::Status;
use domain::priority::Priority;
use domain::verb::VerbName;
use plan::id::CommandId;
use ports::commands::{CommandFilter, Page};

use super::fixtures::*;
use super::{Ground, Store};

async fn ids<S: Store>(store: &S, filter: &CommandFilter, page: Page) -> Vec<CommandId> {
    let found = store.commands(filter, &page).await.expect("read");
    found.into_iter().map(|view| view.command.id).collect()
}

const FIRST: Page = Page { before: None, limit: 500 };

pub async fn pages_run_from_the_newest_down_and_leave_nothing_out<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let mut accepted = Vec::new();
    for _ in 0..23 {
        let new = command(&[&web]);
        accepted.push(new.command.id);
        store.accept(new).await.expect("accepted");
    }
    accepted.reverse();
    let filters = [
        CommandFilter::default(),
        CommandFilter { agent: Some(web.id), ..CommandFilter::default() },
        CommandFilter { sites: Some(vec!["eu".into(), "us".into()]), ..CommandFilter::default() },
        CommandFilter { statuses: vec![Status::Pending, Status::Failed], ..CommandFilter::default() },
        CommandFilter { verb: Some("docker.ps".into()), ..CommandFilter::default() },
    ];
    for filter in filters {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = ids(&store, &filter, Page { before, limit: 5 }).await;
            let Some(last) = page.last() else { break };
            before = Some(*last);
            seen.extend(page);
        }
        assert_eq!(seen, accepted, "{filter:?}");
    }
}

pub async fn every_filter_keeps_what_it_says_and_nothing_else<S: Store>(Ground { store, .. }: Ground<S>) {
    let (eu, us) = (enrol(&store, "web-1", "eu").await, enrol(&store, "web-2", "us").await);
    let plain = command(&[&eu]);
    let urgent = with(command(&[&us]), |command| command.priority = Priority::Critical);
    let compose = with(command(&[&eu, &us]), |command| {
        command.verb = VerbName::parse("compose.up").expect("a verb");
        command.created_at = at(60);
    });
    for new in [&plain, &urgent, &compose] {
        store.accept(new.clone()).await.expect("accepted");
    }
    store.advance(finish(plain.command.id, eu.id, 2, true)).await.expect("advanced");
    let (plain, urgent, compose) = (plain.command.id, urgent.command.id, compose.command.id);
    let any = CommandFilter::default;
    let cases = [
        (any(), vec![compose, urgent, plain]),
        (CommandFilter { statuses: vec![Status::Succeeded], ..any() }, vec![plain]),
        (CommandFilter { statuses: vec![Status::Pending], ..any() }, vec![compose, urgent]),
        (CommandFilter { statuses: vec![Status::Pending, Status::Succeeded], ..any() }, vec![compose, urgent, plain]),
        (CommandFilter { verb: Some("compose.up".into()), ..any() }, vec![compose]),
        (CommandFilter { verb: Some("compose.down".into()), ..any() }, vec![]),
        (CommandFilter { priority: Some(Priority::Critical), ..any() }, vec![urgent]),
        (CommandFilter { priority: Some(Priority::Normal), ..any() }, vec![compose, plain]),
        (CommandFilter { priority: Some(Priority::Low), ..any() }, vec![]),
        (CommandFilter { agent: Some(eu.id), ..any() }, vec![compose, plain]),
        (CommandFilter { since: Some(at(60)), ..any() }, vec![compose]),
        (CommandFilter { since: Some(at(61)), ..any() }, vec![]),
        (CommandFilter { until: Some(at(60)), ..any() }, vec![urgent, plain]),
        (CommandFilter { until: Some(NOON), ..any() }, vec![]),
        (CommandFilter { since: Some(NOON), until: Some(at(61)), ..any() }, vec![compose, urgent, plain]),
    ];
    for (filter, expected) in cases {
        assert_eq!(ids(&store, &filter, FIRST).await, expected, "{filter:?}");
    }
}

pub async fn filters_combine<S: Store>(Ground { store, .. }: Ground<S>) {
    let (eu, us) = (enrol(&store, "web-1", "eu").await, enrol(&store, "web-2", "us").await);
    let mut all = Vec::new();
    for n in 0..12 {
        let machine = if n % 2 == 0 { &eu } else { &us };
        let new = with(command(&[machine]), |command| {
            command.priority = if n % 3 == 0 { Priority::High } else { Priority::Normal };
            command.created_at = at(n);
        });
        store.accept(new.clone()).await.expect("accepted");
        if n >= 6 {
            store.advance(finish(new.command.id, machine.id, n, n != 9)).await.expect("advanced");
        }
        all.push(new.command.id);
    }
    let any = CommandFilter::default;
    let cases = [
        (CommandFilter { sites: Some(vec!["eu".into()]), statuses: vec![Status::Succeeded], ..any() }, vec![10, 8, 6]),
        (CommandFilter { sites: Some(vec!["us".into()]), statuses: vec![Status::Pending], ..any() }, vec![5, 3, 1]),
        (CommandFilter { agent: Some(us.id), priority: Some(Priority::High), ..any() }, vec![9, 3]),
        (CommandFilter { agent: Some(us.id), sites: Some(vec!["eu".into()]), ..any() }, vec![]),
        (
            CommandFilter { verb: Some("docker.ps".into()), since: Some(at(4)), until: Some(at(7)), ..any() },
            vec![6, 5, 4],
        ),
        (
            CommandFilter {
                statuses: vec![Status::Failed, Status::Succeeded],
                priority: Some(Priority::High),
                sites: Some(vec!["eu".into(), "us".into()]),
                ..any()
            },
            vec![9, 6],
        ),
    ];
    for (filter, expected) in cases {
        let expected: Vec<CommandId> = expected.into_iter().map(|n: usize| all[n]).collect();
        assert_eq!(ids(&store, &filter, FIRST).await, expected, "{filter:?}");
    }
}

pub async fn sites_bound_what_is_seen<S: Store>(Ground { store, .. }: Ground<S>) {
    let (eu, us) = (enrol(&store, "web-1", "eu").await, enrol(&store, "web-2", "us").await);
    let (only_eu, both) = (command(&[&eu]), command(&[&eu, &us]));
    for new in [&only_eu, &both] {
        store.accept(new.clone()).await.expect("accepted");
    }
    let (only_eu, both) = (only_eu.command.id, both.command.id);
    let many: Vec<String> = (0..100).map(|n| format!("site-{n}")).chain(["us".to_owned()]).collect();
    for (sites, expected) in [
        (vec!["eu".to_owned()], vec![both, only_eu]),
        (vec!["us".to_owned()], vec![both]),
        (vec!["us".to_owned(), "eu".to_owned()], vec![both, only_eu]),
        (vec!["asia".to_owned()], vec![]),
        (vec![], vec![]),
        (many, vec![both]),
    ] {
        let filter = CommandFilter { sites: Some(sites), ..CommandFilter::default() };
        assert_eq!(ids(&store, &filter, FIRST).await, expected, "{filter:?}");
    }
}

pub async fn invocations_are_paged_by_agent_and_filtered_by_state<S: Store>(Ground { store, .. }: Ground<S>) {
    let mut machines = Vec::new();
    for n in 0..7 {
        machines.push(enrol(&store, &format!("web-{n}"), "eu").await);
    }
    let new = command(&machines.iter().collect::<Vec<_>>());
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    store.advance(advance(id, machines[2].id, 1, &[Event::Send])).await.expect("advanced");
    let page = async |state, after, limit| -> Vec<usize> {
        let found = store.invocations(id, state, after, limit).await.expect("read");
        let place = |agent| machines.iter().position(|machine| machine.id == agent).expect("one of ours");
        found.into_iter().map(|invocation| place(invocation.agent)).collect()
    };
    assert_eq!(page(None, None, 3).await, [0, 1, 2]);
    assert_eq!(page(None, Some(machines[2].id), 3).await, [3, 4, 5]);
    assert_eq!(page(None, Some(machines[5].id), 3).await, [6]);
    assert_eq!(page(Some(State::Sent), None, 10).await, [2]);
    assert_eq!(page(Some(State::Queued), Some(machines[0].id), 2).await, [1, 3]);
}
