//! Rules: what they answer reaches the host as they said it, and what a bad one does stays with it.

use std::collections::BTreeSet;
use std::time::Duration;

use plan::rule::MAX_STATE_BYTES;
use ports::plugins::Plugins as _;
use ports::rules::{Batch, RuleFault, Rules as _, State};
use runtime::tool::{self, ToolError};
use runtime::{DefaultGrants, Options};
use serde_json::json;

use crate::calls::House;
use crate::guest::{GROW, LOOP, PANIC, TRAP};
use crate::rule_guest::RuleGuest;

const CEILING: Duration = Duration::from_secs(120);

fn refused(guest: &RuleGuest) -> (String, String) {
    match tool::check(&guest.build(), "demo.wasm") {
        Err(ToolError::Refused(refusal)) => (refusal.code, refusal.cause),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The agent `misled` is the one with which the guests below go wild; `web-1` is in their examples.
fn batch(agent: &str, state: Option<State>) -> Batch {
    let mut batch = Batch::default();
    batch.subject(agent, "online", 1_000, state);
    batch.sample(1_000);
    let cpu = batch.series("cpu.total", "", "");
    batch.reading(cpu, 50.0);
    batch
}

#[test]
fn a_rule_passes_the_gates_and_its_examples_are_played() {
    let checked = tool::check(&RuleGuest::new("demo").build(), "demo.wasm").expect("all gates");
    assert_eq!(
        (checked.manifest.kind().as_str(), checked.imports.as_slice()),
        ("rule", &["viworks:plugin/types@1.0.0".to_owned(), "viworks:plugin/log@1.0.0".to_owned()][..])
    );
    let finds = RuleGuest { finds: Some("/srv"), ..RuleGuest::new("demo") };
    let (code, cause) = refused(&finds);
    assert_eq!(code, "example_findings");
    assert!(cause.contains("at 0 s it finds `/srv` critical, and the example says nothing"), "{cause}");
}

#[test]
fn every_bad_rule_is_refused_with_its_code() {
    let demo = || RuleGuest::new("demo");
    let played = |agent: &str| json!([{ "turns": [{ "at_s": 0, "readings": [] }], "config": { "level": agent } }]);
    let mut misconfigured = demo();
    misconfigured.manifest["rule"]["examples"] = played("seven");
    let mut greedy = demo();
    greedy.manifest["grants"] = json!({ "effects": ["host"], "programs": [] });
    let mut older = demo();
    older.manifest["abi"] = json!("1.0");
    for (name, guest, code, told) in [
        (
            "too much kept",
            RuleGuest { state: Some(vec![b'x'; MAX_STATE_BYTES + 1]), ..demo() },
            "example_findings",
            "65537",
        ),
        ("kept text that is none", RuleGuest { state: Some(vec![0xff, 0xfe]), ..demo() }, "example_findings", "utf-8"),
        ("no answer", RuleGuest { answers: 0, ..demo() }, "example_findings", "0 times for 1 agents"),
        ("two answers", RuleGuest { answers: 2, ..demo() }, "example_findings", "2 times for 1 agents"),
        ("a million answers", RuleGuest { answers: 9_000, ..demo() }, "example_findings", "9000 times"),
        (
            "mute and accusing",
            RuleGuest { judged: false, finds: Some("x"), ..demo() },
            "example_findings",
            "nothing can be said",
        ),
        ("a key of control", RuleGuest { finds: Some("a\u{1b}[2J"), ..demo() }, "example_findings", "control"),
        ("another configuration", misconfigured, "example_findings", "configuration is refused"),
        ("grants", greedy, "rule_facts", "grants"),
        ("of the older ABI", older, "manifest_malformed", "abi 1.0"),
    ] {
        let (found, cause) = refused(&guest);
        assert!(found == code && cause.to_lowercase().contains(told), "{name}: {found}: {cause}");
    }
}

#[tokio::test]
async fn a_rule_that_goes_wild_fails_alone_and_is_sent_back_when_it_does_so_often() {
    // A rule asks for nothing, so nobody has to grant it anything.
    let house = House::open(&[], |options| Options { default_grants: DefaultGrants::None, ..options }).await;
    for (name, body) in [("calm", ""), ("looper", LOOP), ("trapper", TRAP), ("eater", GROW), ("panicker", PANIC)] {
        house.write(&format!("{name}.wasm"), &RuleGuest { evaluate: body.into(), ..RuleGuest::new(name) }.build());
    }
    house.handle.rescan().await.expect("the service runs");
    let rules = house.handle.rules();
    let names: Vec<&str> = rules.iter().map(|rule| rule.plugin().name.as_str()).collect();
    assert_eq!(names, ["calm", "eater", "looper", "panicker", "trapper"]);
    for (rule, told) in rules.iter().zip(["", "16 MiB", "50 ms", "unreachable", "unreachable"]) {
        let judged = rule.evaluate(None, 2_000, batch("misled", None)).await;
        match judged {
            Ok(answers) => assert!(told.is_empty() && answers[0].as_ref().is_ok_and(|verdict| verdict.judged)),
            Err(RuleFault::Failed { plugin, message }) => {
                assert!(plugin == rule.plugin().name && message.contains(told), "{plugin}: {message}");
            }
            Err(other) => panic!("{other}"),
        }
        assert!(rule.evaluate(None, 2_000, batch("web-1", None)).await.is_ok(), "the next call is a fresh guest's");
    }
    let kinds: BTreeSet<Option<&str>> = house.handle.plugins().iter().map(|plugin| plugin.kind).collect();
    assert_eq!(kinds, BTreeSet::from([Some("rule")]));
    let trapper = &rules[4];
    for _ in 0..5 {
        assert!(trapper.evaluate(None, 2_000, batch("misled", None)).await.is_err());
    }
    let mut changes = house.handle.changes();
    let gone = |_: &u64| !house.handle.rules().iter().any(|rule| rule.plugin().name == "trapper");
    tokio::time::timeout(CEILING, changes.wait_for(gone)).await.expect("in time").expect("the service runs");
    assert_eq!(house.handle.rules().len(), 4, "the others notice nothing");
}

#[tokio::test]
async fn a_batch_is_bounded_and_its_configuration_checked() {
    let guest = RuleGuest { state: Some(b"{\"n\":1}".to_vec()), ..RuleGuest::new("demo") };
    let house = House::open(&[("demo.wasm", &guest.build())], |options| options).await;
    let rule = house.handle.rules().into_iter().next().expect("a rule");
    assert_eq!((rule.config(), rule.reads()), (&json!({ "level": 7 }), &["cpu.total".to_owned()][..]));
    assert!(rule.validate(&json!({ "level": 9.5 })).is_ok() && rule.validate(&json!({ "level": "high" })).is_err());
    let answers = rule.evaluate(Some(&json!({ "level": 9 })), 2_000, batch("web-1", None)).await.expect("answers");
    let state = answers[0].as_ref().expect("a verdict").state.clone();
    assert_eq!(state, Some(State { version: 1, text: "{\"n\":1}".into() }));
    let mut many = Batch::default();
    (0..10_001).for_each(|number| many.subject(format!("web-{number}"), "online", 0, None));
    assert!(matches!(rule.evaluate(None, 0, many).await, Err(RuleFault::TooMuch { subjects: 10_001, .. })));
    let heavy = batch("web-1", Some(State { version: 1, text: "x".repeat(5 * 1024 * 1024) }));
    assert!(matches!(rule.evaluate(None, 0, heavy).await, Err(RuleFault::TooMuch { .. })));
}

#[tokio::test]
async fn some_agents_are_judged_by_another_configuration_of_the_operators() {
    let house = House::open(&[("demo.wasm", &RuleGuest::new("demo").build())], |options| options).await;
    let overrides =
        "[config]\nlevel = 5\n[[overrides]]\nsites = [\"eu-1\"]\nlabels = { tier = \"db\" }\nconfig = { level = 9 }\n";
    house.write("demo.toml", overrides.as_bytes());
    house.handle.rescan().await.expect("the service runs");
    let rule = house.handle.rules().into_iter().next().expect("a rule");
    assert_eq!((rule.config(), rule.overrides().len()), (&json!({ "level": 5 }), 1));
    assert_eq!(
        (&rule.overrides()[0].config, rule.overrides()[0].sites.as_slice()),
        (&json!({ "level": 9 }), &["eu-1".to_owned()][..])
    );
    house.write("demo.toml", overrides.replace("level = 9", "level = \"high\"").as_bytes());
    house.handle.rescan().await.expect("the service runs");
    let status = house.handle.plugins().into_iter().next().expect("the plugin");
    let refusal = status.refusal.expect("the operator's file is no use");
    assert_eq!((refusal.code.as_str(), status.state), ("config_invalid", "active"), "what serves goes on: {refusal:?}");
    assert!(refusal.cause.contains("/level"), "{}", refusal.cause);
}
