//! Calls of loaded verbs: good ones, and those that hang, trap, grow, chatter or answer nonsense.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::time::Timestamp;
use domain::verb::Profile;
use plan::outcome::{End, Outcome, StepEnd};
use ports::clock::Clock;
use ports::plugins::{Outputs, PlanError, Plugins as _, ResolveError, Verb};
use runtime::{DefaultGrants, Handle, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::guest::{CHATTER, DEEP, GROW, Guest, LOOP, TRAP};

/// The machine's clock: files in the tests are made by the same machine.
struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Timestamp(i64::try_from(since.as_micros()).expect("before the year 294000"))
    }
}

/// A running plugin service on a folder of its own.
pub struct House {
    pub dir: TempDir,
    pub handle: Handle,
    _stop: tokio_util::sync::DropGuard,
    _tasks: JoinSet<std::io::Result<()>>,
}

impl House {
    pub async fn open(files: &[(&str, &[u8])], change: impl FnOnce(Options) -> Options) -> House {
        let dir = tempfile::tempdir().expect("temp dir");
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).expect("write");
        }
        let options =
            Options { default_grants: DefaultGrants::Requested, ..Options::new(dir.path(), Arc::new(RealClock)) };
        let (service, handle) = change(options).build().expect("service builds");
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run(stop.clone()));
        handle.rescan().await.expect("the service runs");
        House { dir, handle, _stop: stop.drop_guard(), _tasks: tasks }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(name), bytes).expect("write");
    }

    pub fn verb(&self, name: &str) -> Arc<dyn Verb> {
        self.handle.resolve(name).unwrap_or_else(|error| panic!("{error}; {:#?}", self.handle.plugins()))
    }
}

pub fn profile() -> Profile {
    Profile { os: "linux".into(), arch: "x86_64".into(), ..Profile::default() }
}

fn outputs() -> Outputs {
    let steps = vec![StepEnd { exit_code: Some(0), ..StepEnd::default() }];
    Outputs {
        outcome: Outcome { steps, ..Outcome::not_started(End::Exited) },
        stdout: b"hi\n".to_vec(),
        stderr: Vec::new(),
    }
}

async fn house_of(guest: Guest) -> House {
    House::open(&[("demo.wasm", &guest.build())], |options| options).await
}

/// Arguments other than `{}` make a guest misbehave.
fn odd() -> Value {
    json!({ "mode": 1 })
}

#[tokio::test]
async fn a_good_call_gives_a_plan_and_a_typed_result() {
    let house = house_of(Guest::new("demo", "1.2.3")).await;
    let verb = house.verb("demo.run");
    assert_eq!((verb.plugin().name.as_str(), verb.plugin().version.as_str()), ("demo", "1.2.3"));
    assert_eq!(verb.contract().examples, [json!({})]);
    let plan = verb.plan(&profile(), &json!({})).await.expect("a plan");
    assert_eq!((plan.steps[0].program.as_str(), plan.steps[0].args.as_slice()), ("echo", ["hi".to_owned()].as_slice()));
    let meant = verb.interpret(&profile(), &json!({}), outputs()).await;
    assert_eq!((meant.succeeded, meant.result, meant.parse_fault), (true, Some(json!({ "lines": 1 })), None));
    assert_eq!(meant.summary, "said hi");
}

#[tokio::test]
async fn arguments_that_break_the_schema_never_reach_the_guest() {
    let house = house_of(Guest { plan: TRAP.into(), ..Guest::new("demo", "1.0.0") }).await;
    let verb = house.verb("demo.run");
    let args = json!({ "mode": "x", "other": 1 });
    let violations = verb.validate(&args).expect_err("two violations");
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert_eq!(verb.plan(&profile(), &args).await, Err(PlanError::Invalid(violations)));
    assert_eq!(house.handle.plugins()[0].faults, 0);
}

#[tokio::test]
async fn an_endless_plan_is_ended_by_the_processor_time_it_used() {
    let house = house_of(Guest { plan: LOOP.into(), ..Guest::new("demo", "1.0.0") }).await;
    let verb = house.verb("demo.run");
    let mut best = Duration::MAX;
    // One fewer than the breaker allows in a row: after that the version is out of service and its count with it.
    for round in 1..=4 {
        let began = Instant::now();
        match verb.plan(&profile(), &odd()).await {
            Err(PlanError::Failed { plugin, message }) => {
                assert_eq!(plugin, "demo");
                assert!(message.contains("10 ms of processor time"), "{message}");
            }
            other => panic!("expected a fault, got {other:?}"),
        }
        best = best.min(began.elapsed());
        assert_eq!(house.handle.plugins()[0].faults, round);
    }
    assert!(best >= Duration::from_millis(10), "not before its time: {best:?}");
    verb.plan(&profile(), &json!({})).await.expect("the next call gets a fresh guest");
}

#[tokio::test]
async fn traps_and_greed_are_faults_of_that_call_alone() {
    for (body, told) in [
        (TRAP, "unreachable"),
        (GROW, "16 MiB"),
        (DEEP, "stack"),
        ("(drop (i32.load (i32.const -4)))", "out of bounds"),
    ] {
        let house = house_of(Guest { plan: body.into(), ..Guest::new("demo", "1.0.0") }).await;
        let verb = house.verb("demo.run");
        match verb.plan(&profile(), &odd()).await {
            Err(PlanError::Failed { message, .. }) => assert!(message.contains(told), "{message}"),
            other => panic!("expected a fault, got {other:?}"),
        }
        verb.plan(&profile(), &json!({})).await.expect("the next call gets a fresh guest");
    }
}

#[tokio::test]
async fn answers_that_break_the_abi_are_faults() {
    // Addresses past the end of memory, and a discriminant that does not exist.
    for body in
        ["(return (i32.const 0x7ffffff0))", "(i32.store8 (i32.const 1024) (i32.const 7)) (return (i32.const 1024))"]
    {
        let house = house_of(Guest { plan: body.into(), pages: 2, ..Guest::new("demo", "1.0.0") }).await;
        let answer = house.verb("demo.run").plan(&profile(), &odd()).await;
        assert!(matches!(answer, Err(PlanError::Failed { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_too_large_to_take_is_a_fault() {
    // A plan whose summary is the whole of 12 MiB of memory.
    let body = "(drop (memory.grow (i32.const 200)))
        (memory.fill (i32.const 65536) (i32.const 120) (i32.const 12582912))
        (i32.store (i32.const 65536) (i32.const 0)) (i32.store (i32.const 65540) (i32.const 0)) (i32.store (i32.const 65544) (i32.const 0))
        (i32.store (i32.const 65548) (i32.const 65600)) (i32.store (i32.const 65552) (i32.const 4))
        (i32.store (i32.const 65556) (i32.const 0)) (i32.store (i32.const 65560) (i32.const 0))
        (i32.store (i32.const 65564) (i32.const 65600)) (i32.store (i32.const 65568) (i32.const 12000000))
        (return (i32.const 65536))";
    let house = house_of(Guest { plan: body.into(), ..Guest::new("demo", "1.0.0") }).await;
    match house.verb("demo.run").plan(&profile(), &odd()).await {
        Err(PlanError::Failed { message, .. }) => {
            assert!(message.contains("too much") || message.contains("fuel"), "{message}")
        }
        other => panic!("expected a fault, got {other:?}"),
    }
}

#[tokio::test]
async fn a_guest_that_chatters_is_heard_in_part() {
    let house = house_of(Guest { plan: CHATTER.into(), ..Guest::new("demo", "1.0.0") }).await;
    house.verb("demo.run").plan(&profile(), &odd()).await.expect("too much talk is no fault");
    let bytes = std::fs::read(house.dir.path().join("demo.wasm")).expect("read");
    let name = house.verb("demo.run").traits().name.clone();
    let planned = runtime::tool::plan_once(&bytes, &name, &profile(), &odd(), None).expect("plans");
    assert_eq!(
        (planned.log.len(), planned.log[0].level.as_str(), planned.log[0].message.as_str()),
        (100, "info", "a lined ")
    );
    assert!(planned.answer.is_ok());
}

#[tokio::test]
async fn a_plan_stays_within_the_operators_grant() {
    let narrow = b"[grants]\neffects = [\"read\"]\n[[grants.programs]]\nprogram = \"uname\"\n";
    let house =
        House::open(&[("demo.wasm", &Guest::new("demo", "1.0.0").build()), ("demo.toml", narrow)], |options| options)
            .await;
    match house.verb("demo.run").plan(&profile(), &json!({})).await {
        Err(PlanError::Denied { pointer, message }) => {
            assert_eq!(pointer, "/steps/0/program");
            assert!(message.contains("echo"), "{message}");
        }
        other => panic!("expected a denial, got {other:?}"),
    }
    assert_eq!(house.handle.grant("demo").expect("granted").programs[0].program, "uname");
}

#[tokio::test]
async fn a_grant_says_how_long_a_step_may_run_that_does_not() {
    let granted = |limit: &str| {
        format!("[grants]\neffects = [\"read\"]\n[[grants.programs]]\nprogram = \"echo\"\nmax_timeout_ms = {limit}\n")
    };
    let guest = Guest::new("demo", "1.0.0").build();
    let house =
        House::open(&[("demo.wasm", &guest), ("demo.toml", granted("60000").as_bytes())], |options| options).await;
    let plan = house.verb("demo.run").plan(&profile(), &json!({})).await.expect("planned");
    assert_eq!(plan.steps[0].timeout_ms, Some(60_000));
    let house = House::open(&[("demo.wasm", &guest), ("demo.toml", granted("0").as_bytes())], |options| options).await;
    match house.verb("demo.run").plan(&profile(), &json!({})).await {
        Err(PlanError::Denied { pointer, .. }) => assert_eq!(pointer, "/steps/0/timeout_ms"),
        other => panic!("expected a denial, got {other:?}"),
    }
}

#[tokio::test]
async fn output_that_cannot_be_read_is_never_lost() {
    for (guest, told) in [
        (Guest { interpret: TRAP.into(), ..Guest::new("demo", "1.0.0") }, "trapped"),
        (Guest { interpret: LOOP.into(), ..Guest::new("demo", "1.0.0") }, "processor time"),
    ] {
        let house = house_of(guest).await;
        let meant = house.verb("demo.run").interpret(&profile(), &odd(), outputs()).await;
        assert!(meant.parse_fault.as_deref().is_some_and(|fault| fault.contains(told)), "{meant:?}");
        assert_eq!((meant.succeeded, meant.result, meant.summary.as_str()), (true, None, "exited with 0"));
    }
}

#[tokio::test]
async fn a_program_that_failed_has_no_result_and_that_is_no_fault_of_the_plugin() {
    for (succeeded, fault) in [(false, false), (true, true)] {
        let mut guest = Guest { result: "null".into(), succeeded, ..Guest::new("demo", "1.0.0") };
        guest.manifest["verbs"][0]["examples"] = json!([{ "args": {} }]);
        let house = house_of(guest).await;
        let meant = house.verb("demo.run").interpret(&profile(), &json!({}), outputs()).await;
        assert_eq!((meant.succeeded, meant.result, meant.parse_fault.is_some()), (succeeded, None, fault));
        assert_eq!(house.handle.plugins()[0].faults, u64::from(fault));
    }
}

#[tokio::test]
async fn a_result_that_breaks_its_schema_is_told_and_not_passed_on() {
    for (result, told) in [(r#"{"lines":"many"}"#, "/lines"), ("{", "no JSON")] {
        let mut guest = Guest { result: result.into(), ..Guest::new("demo", "1.0.0") };
        guest.manifest["verbs"][0]["examples"] = json!([{ "args": {} }]);
        let house = house_of(guest).await;
        let meant = house.verb("demo.run").interpret(&profile(), &json!({}), outputs()).await;
        assert!(meant.parse_fault.as_deref().is_some_and(|fault| fault.contains(told)), "{meant:?}");
        assert_eq!((meant.succeeded, meant.result), (true, None));
    }
}

#[tokio::test]
async fn an_attempt_that_never_started_is_not_interpreted() {
    let house = house_of(Guest { interpret: TRAP.into(), ..Guest::new("demo", "1.0.0") }).await;
    let outcome = Outcome::not_started(End::Expired);
    let outputs = Outputs { outcome, stdout: Vec::new(), stderr: Vec::new() };
    let meant = house.verb("demo.run").interpret(&profile(), &odd(), outputs).await;
    assert_eq!((meant.succeeded, meant.summary.as_str()), (false, "expired before it could start"));
    assert_eq!(house.handle.plugins()[0].faults, 0);
}

#[tokio::test]
async fn a_flood_is_refused_while_other_plugins_are_served() {
    let hog = Guest { plan: LOOP.into(), ..Guest::new("hog", "1.0.0") };
    let files: &[(&str, &[u8])] = &[("hog.wasm", &hog.build()), ("demo.wasm", &Guest::new("demo", "1.0.0").build())];
    let house = House::open(files, |options| options).await;
    let (hog, demo) = (house.verb("hog.run"), house.verb("demo.run"));
    let mut flood = JoinSet::new();
    for _ in 0..600 {
        let hog = Arc::clone(&hog);
        flood.spawn(async move { hog.plan(&profile(), &odd()).await });
    }
    let refused = loop {
        match flood.join_next().await.expect("some are refused").expect("no panic") {
            Err(PlanError::Overloaded) => break 1,
            Err(PlanError::Failed { .. }) => {}
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(refused, 1);
    let began = Instant::now();
    demo.plan(&profile(), &json!({})).await.expect("another plugin is served at once");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "behind at most what runs, not what waits: {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
    let house = house_of(Guest::new("demo", "1.0.0")).await;
    match house.handle.resolve("demo.rnu") {
        Err(ResolveError::Unknown { nearest, .. }) => assert_eq!(nearest, ["demo.run"]),
        other => panic!("unexpected {:?}", other.map(|_| "a verb")),
    }
}
