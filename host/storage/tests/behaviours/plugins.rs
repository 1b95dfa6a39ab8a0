//! The book of plugins: how they stand, what happened to them, and what still waits for them.

use domain::attempt::Event as Happening;
use domain::audit::{Entry, Level};
use domain::plugin::life::Life;
use domain::plugin::{Passage, Record, Version};
use plan::policy::{ProgramRule, Rules};

use super::fixtures::*;
use super::{Ground, Store};

fn record(name: &str) -> Record {
    let version = |digest: &str, life, approved: bool| Version {
        digest: digest.to_owned(),
        version: "1.0.0".into(),
        verbs: vec![format!("{name}.run")],
        life,
        since: at(7),
        why: approved.then(|| "approve by ada".to_owned()),
        proven: !approved,
        grant: approved.then(|| Rules { programs: vec![ProgramRule::any_args("echo")], ..Rules::default() }),
        approved,
    };
    let versions = vec![version("bb", Life::Probation, true), version("aa", Life::Quarantined, false)];
    Record { name: name.to_owned(), file: format!("{name}.wasm"), enabled: false, versions }
}

fn passage(plugin: &str, to: &str) -> Passage {
    Passage {
        at: at(9),
        plugin: plugin.to_owned(),
        version: Some(("1.0.0".into(), "bb".into())),
        from: None,
        to: to.to_owned(),
        why: Some("because".into()),
        actor: Some("ada".into()),
    }
}

pub async fn a_plugin_reads_back_as_it_was_kept<S: Store>(Ground { store, .. }: Ground<S>) {
    let (demo, other) = (record("demo"), record("other"));
    store.keep_plugins(vec![other.clone(), demo.clone()], Vec::new(), None).await.expect("kept");
    assert_eq!(store.plugin_records().await.expect("read"), [demo.clone(), other.clone()]);
    let changed = Record { enabled: true, versions: Vec::new(), file: "moved.wasm".into(), ..demo };
    let audit = Entry {
        at: at(9),
        level: Level::Info,
        category: "plugins",
        action: "plugins.enable",
        actor: Some("ada".into()),
        resource: Some(("plugin", "demo".into())),
        details: "{}".into(),
        ip_address: None,
        user_agent: None,
        correlation_id: None,
    };
    store.keep_plugins(vec![changed.clone()], Vec::new(), Some(audit.clone())).await.expect("kept");
    assert_eq!(store.plugin_records().await.expect("read"), [changed, other]);
    assert_eq!(store.audits(None, 1).await.expect("read")[0].1, audit);
}

pub async fn the_history_of_a_plugin_is_its_own_and_newest_first<S: Store>(Ground { store, .. }: Ground<S>) {
    let passages = (0..5).map(|n| passage("demo", &format!("state {n}"))).chain([passage("other", "elsewhere")]);
    store.keep_plugins(Vec::new(), passages.collect(), None).await.expect("kept");
    let page = store.plugin_history("demo", None, 3).await.expect("read");
    let states = |page: &[(u64, Passage)]| page.iter().map(|(_, passage)| passage.to.clone()).collect::<Vec<_>>();
    assert_eq!(states(&page), ["state 4", "state 3", "state 2"]);
    assert_eq!(page[0].1, passage("demo", "state 4"));
    let rest = store.plugin_history("demo", Some(page[2].0), 3).await.expect("read");
    assert_eq!(states(&rest), ["state 1", "state 0"]);
}

pub async fn what_waits_for_a_plugin_is_what_is_not_over<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let mut waiting = Vec::new();
    for n in 0..3 {
        let new = command(&[&web]);
        waiting.push((new.command.id, new.command.clone()));
        store.accept(new).await.expect("accepted");
        if n == 0 {
            store.advance(finish(waiting[0].0, web.id, 5, true)).await.expect("stored");
        }
    }
    store.advance(advance(waiting[2].0, web.id, 5, &[Happening::Send])).await.expect("stored");
    let mut expected: Vec<_> = waiting[1..].iter().map(|(id, _)| *id).collect();
    expected.sort();
    let plugin = waiting[0].1.plugin.as_str();
    let found = store.plugin_waiting(plugin, None, 10).await.expect("read");
    assert_eq!(found.iter().map(|one| one.command).collect::<Vec<_>>(), expected);
    assert_eq!((found[0].verb.as_str(), &found[0].args), (waiting[1].1.verb.as_str(), &waiting[1].1.args));
    let second = store.plugin_waiting(plugin, Some(expected[0]), 10).await.expect("read");
    assert_eq!(second.iter().map(|one| one.command).collect::<Vec<_>>(), expected[1..]);
    assert!(store.plugin_waiting("nobody", None, 10).await.expect("read").is_empty());
    assert_eq!(store.plugin_digests_in_use().await.expect("read"), [waiting[0].1.plugin_digest.clone()]);
}
