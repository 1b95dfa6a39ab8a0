//! Gates 6 to 8: components that are well formed, and misbehave as soon as they are compiled, started, asked
//! what they are, or tried on their own examples.

use runtime::Code;
use serde_json::json;

use super::Case;
use crate::guest::{CHATTER, DEEP, GROW, Guest, LOOP, PANIC, TRAP, section};

/// Takes table elements until there are none.
pub const TABLE: &str = "(loop $more (drop (table.grow $grown (ref.null func) (i32.const 1000))) (br $more))";
/// The table that [`TABLE`] grows.
pub const GROWN: &str = "(table $grown 1 funcref)";
/// Logs text that is no UTF-8.
pub const LOG_NO_TEXT: &str = "(i32.store (i32.const 60000) (i32.const -1))
    (call $log (i32.const 16) (i32.const 4) (i32.const 60000) (i32.const 4) (i32.const 28) (i32.const 2))";
/// Logs what lies beyond its memory.
pub const LOG_BEYOND: &str =
    "(call $log (i32.const 16) (i32.const 4) (i32.const 0x7ffffff0) (i32.const 100) (i32.const 28) (i32.const 2))";
/// Logs 60,000 bytes at a time, for ever.
pub const LOG_FLOOD: &str = "(loop $more
    (call $log (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 60000) (i32.const 28) (i32.const 2)) (br $more))";

pub fn cases() -> Vec<Case> {
    let mut cases = shapes();
    cases.extend(starts());
    cases.extend(descriptions());
    cases.extend(examples());
    cases
}

fn honest() -> Guest {
    Guest::new("demo", "1.0.0")
}

/// Components whose types are not the ABI's, behind the right names.
fn shapes() -> Vec<Case> {
    let stamp = section("viworks:manifest", honest().manifest.to_string().as_bytes());
    let shape = |name, inside: &str, told| {
        let component = wat::parse_str(format!("(component {inside})")).unwrap_or_else(|error| panic!("{error}"));
        Case::new(name, [component, stamp.clone()].concat(), Code::InstantiateFailed, told)
    };
    vec![
        shape(
            "verbs without a function",
            r#"(instance $i) (export "viworks:plugin/verbs@1.0.0" (instance $i))"#,
            "describe",
        ),
        shape(
            "a log that answers",
            r#"(import "viworks:plugin/log@1.0.0" (instance (export "write" (func (result string)))))
               (instance $i) (export "viworks:plugin/verbs@1.0.0" (instance $i))"#,
            "log",
        ),
        shape(
            "a log that reads files",
            r#"(import "viworks:plugin/log@1.0.0" (instance (export "read-file" (func (param "path" string) (result string)))))
               (instance $i) (export "viworks:plugin/verbs@1.0.0" (instance $i))"#,
            "read-file",
        ),
        shape(
            "a log that hands out handles",
            r#"(import "viworks:plugin/log@1.0.0" (instance (export "file" (type (sub resource)))))
               (instance $i) (export "viworks:plugin/verbs@1.0.0" (instance $i))"#,
            "file",
        ),
        shape(
            "one function of three, with arguments of its own",
            r#"(core module $m (func (export "d") (param i32) (result i32) unreachable) (memory (export "memory") 1))
               (core instance $c (instantiate $m))
               (func $d (param "x" u32) (result string) (canon lift (core func $c "d") (memory (core memory $c "memory"))))
               (instance $i (export "describe" (func $d))) (export "viworks:plugin/verbs@1.0.0" (instance $i))"#,
            "plan",
        ),
    ]
}

fn starts() -> Vec<Case> {
    let start = |name, start: &str, told| {
        let guest = Guest { start: start.into(), extra: GROWN.into(), ..honest() };
        Case::new(name, guest.build(), Code::DescribeFailed, told)
    };
    let extra =
        |name, extra: &str, code, told| Case::new(name, Guest { extra: extra.into(), ..honest() }.build(), code, told);
    vec![
        start("a start that never ends", LOOP, "50 ms"),
        start("a start that traps", TRAP, "unreachable"),
        start("a start that takes all memory", GROW, "16 MiB"),
        start("a start that takes all tables", TABLE, "20000 elements"),
        start("a start that fills the stack", DEEP, "stack"),
        start("a start that talks", CHATTER, "uninitialized"),
        Case::new(
            "32 MiB of memory from the beginning",
            Guest { pages: 512, ..honest() }.build(),
            Code::DescribeFailed,
            "16 MiB",
        ),
        Case::new(
            "4 GiB of memory from the beginning",
            Guest { pages: 65_536, ..honest() }.build(),
            Code::CompileFailed,
            "",
        ),
        extra("a table of ten million", "(table 10000000 funcref)", Code::CompileFailed, ""),
        extra("data beyond its memory", r#"(data (i32.const 0x7fffffff) "x")"#, Code::DescribeFailed, "out of bounds"),
        extra(
            "an element beyond its table",
            "(table 1 funcref) (elem (i32.const 9) func $start)",
            Code::DescribeFailed,
            "out of bounds",
        ),
    ]
}

fn descriptions() -> Vec<Case> {
    let describe = |name, describe: &str, told| {
        let guest = Guest { describe: describe.into(), extra: GROWN.into(), ..honest() };
        Case::new(name, guest.build(), Code::DescribeFailed, told)
    };
    // Where the answer stands, and how long it is.
    let answer = |at: u32, size: u32| {
        format!(
            "(i32.store (i32.const 60000) (i32.const {at})) (i32.store (i32.const 60004) (i32.const {size})) (return (i32.const 60000))"
        )
    };
    let mut cases = vec![
        describe("a describe that never ends", LOOP, "250 ms"),
        describe("a describe that traps", TRAP, "unreachable"),
        describe("a describe that panics", PANIC, "at lib.rs:7:9"),
        describe("a describe that takes all memory", GROW, "16 MiB"),
        describe("a describe that takes all tables", TABLE, "20000 elements"),
        describe("a describe that fills the stack", DEEP, "stack"),
        describe("a describe that logs no text", LOG_NO_TEXT, "utf-8"),
        describe("a describe that logs what is not its own", LOG_BEYOND, ""),
        describe("a describe that floods the log", LOG_FLOOD, ""),
        describe(
            "a describe that divides by zero",
            "(drop (i32.div_u (i32.const 1) (local.get $n)))",
            "divide by zero",
        ),
        describe("a describe that reads beyond its memory", "(drop (i32.load (i32.const -4)))", "out of bounds"),
        describe("a describe that calls nothing", "(call_indirect $grown (i32.const 0))", "uninitialized"),
        describe("an answer beyond memory", &answer(0x7fff_0000, 16), ""),
        describe("an answer at an odd place", "(return (i32.const 60001))", "aligned"),
        describe(
            "an answer that is no text",
            &format!("(i32.store (i32.const 50000) (i32.const -1)) {}", answer(50_000, 4)),
            "utf-8",
        ),
        describe("an answer that is no JSON", &answer(16, 4), "no JSON"),
        describe("an answer that is empty", &answer(16, 0), "no JSON"),
        describe(
            "an answer of 12 MiB",
            &format!("(drop (memory.grow (i32.const 200))) {}", answer(0, 12 * 1024 * 1024)),
            "",
        ),
    ];
    let after = format!(r#"(func (export "cabi_post_viworks:plugin/verbs@1.0.0#describe") (param i32) {LOOP})"#);
    cases.push(Case::new(
        "a describe that never lets go",
        Guest { extra: after, ..honest() }.build(),
        Code::DescribeFailed,
        "250 ms",
    ));
    cases
}

/// What only shows when arguments are passed in. The example's arguments are others than `{}`.
fn examples() -> Vec<Case> {
    let example = |name, guest: Guest, code, told| {
        let mut guest = guest;
        guest.manifest["verbs"][0]["examples"][0]["args"] = json!({ "mode": 1 });
        Case::new(name, guest.build(), code, told)
    };
    let plan = |name, plan: &str, told| {
        let guest = Guest { plan: plan.into(), extra: GROWN.into(), pages: 2, ..honest() };
        example(name, guest, Code::ExamplePlan, told)
    };
    let interpret = |name, interpret: &str, told| {
        let guest = Guest { interpret: interpret.into(), extra: GROWN.into(), pages: 2, ..honest() };
        example(name, guest, Code::ExampleGolden, told)
    };
    let room = |name, realloc: &str, told| {
        example(name, Guest { realloc: realloc.into(), ..honest() }, Code::ExamplePlan, told)
    };
    let result = |name, result: &str, told| {
        example(name, Guest { result: result.into(), ..honest() }, Code::ExampleGolden, told)
    };
    let after = format!(r#"(func (export "cabi_post_viworks:plugin/verbs@1.0.0#plan") (param i32) {LOOP})"#);
    vec![
        plan("a plan that never ends", LOOP, "10 ms"),
        plan("a plan that traps", TRAP, "unreachable"),
        plan("a plan that panics", PANIC, "at lib.rs:7:9"),
        plan("a plan that takes all memory", GROW, "16 MiB"),
        plan("a plan that takes all tables", TABLE, "20000 elements"),
        plan("a plan that fills the stack", DEEP, "stack"),
        plan("a plan that logs no text", LOG_NO_TEXT, "utf-8"),
        plan("a plan that floods the log", LOG_FLOOD, ""),
        plan(
            "a plan of a case that does not exist",
            "(i32.store8 (i32.const 60000) (i32.const 7)) (return (i32.const 60000))",
            "discriminant",
        ),
        plan("a plan beyond memory", "(return (i32.const 0x7ffffff0))", "out of bounds"),
        room("room that is never made", LOOP, "10 ms"),
        room("room beyond memory", "(return (i32.const -8))", ""),
        example(
            "room at an odd place",
            Guest { realloc: "(return (i32.const 60001))".into(), ..honest() },
            Code::ExampleGolden,
            "aligned",
        ),
        example("a plan that never lets go", Guest { extra: after, ..honest() }, Code::ExamplePlan, "10 ms"),
        example(
            "a plan of an effect that does not exist",
            Guest { effect: "none", ..honest() },
            Code::ExamplePlan,
            "effect",
        ),
        example(
            "a plan below its verb's effect",
            {
                let mut guest = honest();
                guest.manifest["verbs"][0]["effect"] = json!("change");
                guest
            },
            Code::ExampleGrant,
            "below",
        ),
        example("a plan for a program nobody asked for", Guest { program: "rm", ..honest() }, Code::ExampleGrant, "rm"),
        example(
            "a plan for a program that climbs",
            Guest { program: "/bin/../sh", ..honest() },
            Code::ExampleGrant,
            "/steps/0/program",
        ),
        example(
            "a plan for a shell by the back door",
            Guest { program: "echo;sh", ..honest() },
            Code::ExampleGrant,
            "/steps/0/program",
        ),
        interpret("an interpret that never ends", LOOP, "processor time"),
        interpret("an interpret that traps", TRAP, "unreachable"),
        interpret("an interpret that takes all memory", GROW, "16 MiB"),
        interpret("an interpret that fills the stack", DEEP, "stack"),
        result("a result that is no JSON", "lines: 1", "no JSON"),
        result("a result that breaks its schema", r#"{"lines":"many"}"#, "/lines"),
        result("a result 10,000 lists deep", &"[".repeat(10_000), "no JSON"),
    ]
}
