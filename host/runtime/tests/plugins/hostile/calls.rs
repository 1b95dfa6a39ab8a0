//! Guests that pass the gates and turn on the host when they are called. Each fails its own call, is counted,
//! and the next call of the same plugin is served as if nothing had been.

use plan::outcome::{End, Outcome, StepEnd};
use ports::plugins::{Outputs, PlanError, Plugins as _};
use serde_json::{Value, json};

use super::guests::{GROWN, LOG_BEYOND, LOG_FLOOD, LOG_NO_TEXT, TABLE};
use crate::calls::{House, profile};
use crate::guest::{DEEP, GROW, Guest, LOOP, PANIC, TRAP};

/// Arguments that turn a guest of this file bad.
fn bad() -> Value {
    json!({ "mode": 1 })
}

fn guest(name: &str) -> Guest {
    Guest { extra: GROWN.into(), pages: 2, ..Guest::new(name, "1.0.0") }
}

/// What each body does to `plan`, and a word of what the caller is told.
const PLANS: &[(&str, &str)] = &[
    (LOOP, "10 ms of processor time"),
    (TRAP, "unreachable"),
    (PANIC, "unreachable"),
    (GROW, "16 MiB"),
    (TABLE, "20000 elements"),
    (DEEP, "stack"),
    (LOG_NO_TEXT, "utf-8"),
    (LOG_BEYOND, ""),
    (LOG_FLOOD, ""),
    ("(drop (i32.load (i32.const -4)))", "out of bounds"),
    ("(return (i32.const 0x7ffffff0))", "out of bounds"),
    ("(return (i32.const 60001))", "aligned"),
    ("(i32.store8 (i32.const 60000) (i32.const 7)) (return (i32.const 60000))", "discriminant"),
    // A list of steps as long as the address space, and one that is merely too long to take.
    (
        "(i32.store (i32.const 60004) (i32.const 16)) (i32.store (i32.const 60008) (i32.const -1)) (return (i32.const 60000))",
        "",
    ),
    (
        "(i32.store (i32.const 60012) (i32.const 0)) (i32.store (i32.const 60020) (i32.const 0))
         (i32.store (i32.const 60024) (i32.const 1000)) (return (i32.const 60000))",
        "",
    ),
];

#[tokio::test]
async fn every_hostile_plan_fails_its_own_call_alone() {
    let names: Vec<String> = (0..PLANS.len()).map(|number| format!("bad{number}")).collect();
    let guests: Vec<(String, Vec<u8>)> = names
        .iter()
        .zip(PLANS)
        .map(|(name, (body, _))| (format!("{name}.wasm"), Guest { plan: (*body).into(), ..guest(name) }.build()))
        .collect();
    let files: Vec<(&str, &[u8])> = guests.iter().map(|(file, bytes)| (file.as_str(), bytes.as_slice())).collect();
    let house = House::open(&files, |options| options).await;
    for (name, (body, told)) in names.iter().zip(PLANS) {
        let verb = house.verb(&format!("{name}.run"));
        let before = verb.plan(&profile(), &json!({})).await.expect("it behaves at first");
        match verb.plan(&profile(), &bad()).await {
            Err(PlanError::Failed { plugin, message }) => {
                assert_eq!(plugin, *name);
                assert!(message.contains(told), "{body}: {message}");
            }
            other => panic!("{body}: expected a fault, got {other:?}"),
        }
        assert_eq!(verb.plan(&profile(), &json!({})).await.expect("the next guest is a fresh one"), before);
        let status = house.handle.plugins().into_iter().find(|status| status.name == *name).expect("it is loaded");
        assert_eq!(status.faults, 1, "{body}");
    }
}

#[tokio::test]
async fn output_outlives_whatever_reads_it() {
    for body in [LOOP, TRAP, PANIC, GROW, TABLE, DEEP, LOG_NO_TEXT, LOG_FLOOD, "(return (i32.const 60001))"] {
        let guest = Guest { interpret: body.into(), ..guest("demo") };
        let house = House::open(&[("demo.wasm", &guest.build())], |options| options).await;
        let steps = vec![StepEnd { exit_code: Some(0), ..StepEnd::default() }];
        let outcome = Outcome { steps, ..Outcome::not_started(End::Exited) };
        let outputs = Outputs { outcome, stdout: vec![0xff; 4096], stderr: Vec::new() };
        let meant = house.verb("demo.run").interpret(&profile(), &bad(), outputs).await;
        assert!(meant.parse_fault.is_some_and(|fault| fault.starts_with("plugin ")), "{body}");
        assert_eq!((meant.succeeded, meant.result, meant.summary.as_str()), (true, None, "exited with 0"), "{body}");
    }
}

/// A guest has no clock and no chance; what is left is memory of calls before, and the machine's own floats.
#[tokio::test]
async fn nothing_of_one_call_is_seen_by_another() {
    let body = "(if (i32.load (i32.const 60000)) (then unreachable)) (i32.store (i32.const 60000) (i32.const 1))
        (if (i32.ne (table.size $grown) (i32.const 1)) (then unreachable)) (drop (table.grow $grown (ref.null func) (i32.const 9)))
        (if (i32.ne (memory.size) (i32.const 2)) (then unreachable)) (drop (memory.grow (i32.const 9)))
        (if (global.get $called) (then unreachable)) (global.set $called (i32.const 1))
        (if (i64.ne (i64.reinterpret_f64 (f64.div (f64.const 0) (f64.const -0))) (i64.const 0x7ff8000000000000)) (then unreachable))";
    let extra = format!("{GROWN} (global $called (mut i32) (i32.const 0))");
    let guest = Guest { plan: body.into(), extra, ..guest("demo") };
    let house = House::open(&[("demo.wasm", &guest.build())], |options| options).await;
    let verb = house.verb("demo.run");
    let first = verb.plan(&profile(), &bad()).await.expect("a plan");
    for _ in 0..500 {
        assert_eq!(verb.plan(&profile(), &bad()).await.expect("a plan"), first);
    }
}
