//! Builds components from a few lines of WebAssembly text, so that a test can say exactly how a guest
//! misbehaves. The end-to-end tests drop the same guests into a real host's folder.

use std::path::Path;

use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What a component's three functions do. The default answers everything well.
pub struct Guest {
    pub manifest: Value,
    /// What the custom section says; the manifest when absent.
    pub stamp: Option<Vec<u8>>,
    pub stamped: bool,
    /// Runs first in `describe`.
    pub describe: String,
    /// Runs at instantiation.
    pub start: String,
    /// Runs first in `plan` when the arguments are other than `{}`.
    pub plan: String,
    /// Runs first in `interpret` when the arguments are other than `{}`.
    pub interpret: String,
    /// JSON text that `interpret` answers.
    pub result: String,
    /// Whether `interpret` says that the verb did what it should.
    pub succeeded: bool,
    pub program: &'static str,
    pub effect: &'static str,
    /// Pages of memory at the start.
    pub pages: u32,
    /// A function of this name is imported besides what the ABI has.
    pub import: Option<&'static str>,
    /// WASI's chance is imported; `$chance` calls it.
    pub wasi: bool,
    /// Runs first whenever the host wants room for what it passes in.
    pub realloc: String,
    /// More of the module: tables, functions, what runs after a call.
    pub extra: String,
}

/// Never ends.
pub const LOOP: &str = "(loop $for_ever (br $for_ever))";
/// Ends at once, badly.
pub const TRAP: &str = "unreachable";
/// Calls itself until the stack is full.
pub const DEEP: &str = "(call $deeper)";
/// Logs an error as a panic handler does, then traps.
pub const PANIC: &str = r#"(call $log (i32.const 32) (i32.const 5) (i32.const 37) (i32.const 13) (i32.const 28) (i32.const 2)) unreachable"#;
/// Takes memory until there is none.
pub const GROW: &str = "(loop $more (drop (memory.grow (i32.const 16))) (br $more))";
/// Writes 1,000 log lines of 12 bytes.
pub const CHATTER: &str = "(local.set $n (i32.const 1000)) (loop $more
    (call $log (i32.const 16) (i32.const 4) (i32.const 20) (i32.const 8) (i32.const 28) (i32.const 2))
    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
    (br_if $more (local.get $n)))";

/// A manifest with one verb, `<name>.run`.
pub fn manifest(name: &str, version: &str) -> Value {
    json!({
        "abi": "1.0", "name": name, "version": version, "summary": "A guest of the tests.",
        "grants": { "effects": ["read", "change"], "programs": [{ "program": "echo", "args": [["**"]] }] },
        "verbs": [{
            "name": format!("{name}.run"), "summary": "Echoes.", "effect": "read", "idempotent": true, "cancel": "clean",
            "default_timeout_ms": 60_000,
            "args_schema": { "type": "object", "additionalProperties": false, "properties": { "mode": { "type": "integer" } } },
            "result_schema": { "type": "object", "properties": { "lines": { "type": "integer" } }, "required": ["lines"] },
            "examples": [{ "args": {}, "golden": { "exit_code": 0, "stdout": "hi\n", "result": { "lines": 1 } } }]
        }]
    })
}

impl Guest {
    pub fn new(name: &str, version: &str) -> Guest {
        Guest {
            manifest: manifest(name, version),
            stamp: None,
            stamped: true,
            describe: String::new(),
            start: String::new(),
            plan: String::new(),
            interpret: String::new(),
            result: r#"{"lines":1}"#.into(),
            succeeded: true,
            program: "echo",
            effect: "read",
            pages: 1,
            import: None,
            wasi: false,
            realloc: String::new(),
            extra: String::new(),
        }
    }

    /// The component's bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.component(self.core());
        if self.stamped {
            let stamp = self.stamp.clone().unwrap_or_else(|| self.manifest.to_string().into_bytes());
            bytes.extend(section("viworks:manifest", &stamp));
        }
        bytes
    }

    /// The module inside.
    pub fn core(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A component of any module that has what the ABI wants; without a stamp.
    pub fn component(&self, mut core: Vec<u8>) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|above| above.join("sdk/wit/1.0"));
        let wit = folder.into_iter().find(|wit| wit.is_dir()).expect("the released WIT is in the repository");
        let (package, _) = resolve.push_dir(wit).expect("the released WIT parses");
        let world = match self.import {
            None if self.wasi => {
                let random = "package wasi:random@0.2.0; interface random { get-random-u64: func() -> u64; }";
                resolve.push_str("random.wit", random).expect("parses");
                let text = "package test:chance; world chance { import wasi:random/random@0.2.0; include viworks:plugin/verb-plugin@1.0.0; }";
                let package = resolve.push_str("chance.wit", text).expect("parses");
                resolve.select_world(&[package], Some("chance"))
            }
            None => resolve.select_world(&[package], Some("verb-plugin")),
            Some(name) => {
                let text = format!(
                    "package test:evil; world evil {{ import {name}: func(); include viworks:plugin/verb-plugin@1.0.0; }}"
                );
                let package = resolve.push_str("evil.wit", &text).expect("parses");
                resolve.select_world(&[package], Some("evil"))
            }
        };
        embed_component_metadata(&mut core, &resolve, world.expect("the world is there"), StringEncoding::UTF8, false)
            .expect("embeds");
        ComponentEncoder::default().module(&core).expect("a module").encode().expect("a component")
    }

    fn text(&self) -> String {
        let mut data = Data { bytes: b"infoa lined {}  errorat lib.rs:7:9".to_vec() };
        let manifest = self.manifest.to_string();
        let describe = data.pair(manifest.as_bytes());
        let describe = data.words(&describe);
        let plan = self.plan_answer(&mut data);
        let result = data.pair(self.result.as_bytes());
        let summary = data.pair(b"said hi");
        let interpret = data.words(&[0, self.succeeded.into(), result[0], result[1], summary[0], summary[1]]);
        let import = self.import.map_or(String::new(), |name| format!(r#"(import "$root" "{name}" (func $evil))"#));
        let chance = if self.wasi {
            r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $chance (result i64)))"#
        } else {
            ""
        };
        let use_import = if self.import.is_some() { "call $evil" } else { "" };
        let ctx = "(param i32 i32 i32 i32 i32 i32)";
        let (bytes, heap) = (data.escaped(), (16 + data.bytes.len()).next_multiple_of(16));
        format!(
            r#"(module
                (import "viworks:plugin/log@1.0.0" "write" (func $log (param i32 i32 i32 i32 i32 i32)))
                {import}
                {chance}
                (memory (export "memory") {pages})
                (data (i32.const 16) "{bytes}")
                (global $top (mut i32) (i32.const {heap}))
                (func $deeper (call $deeper))
                (func $start (local $n i32) {start_body}) (start $start)
                (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
                    (local $at i32)
                    {realloc}
                    (local.set $at (i32.and (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
                                            (i32.sub (i32.const 0) (local.get $align))))
                    (global.set $top (i32.add (local.get $at) (local.get $size)))
                    (block $fits (loop $again
                        (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
                        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                        (br $again)))
                    (local.get $at))
                (func (export "viworks:plugin/verbs@1.0.0#describe") (result i32) (local $n i32)
                    {describe_body} {use_import} (i32.const {describe}))
                (func (export "viworks:plugin/verbs@1.0.0#plan") {ctx} (param $args i32) (param $size i32) (result i32) (local $n i32)
                    (if (i32.ne (local.get $size) (i32.const 2)) (then {plan_body})) (i32.const {plan}))
                (func (export "viworks:plugin/verbs@1.0.0#interpret") (param $p i32) (result i32) (local $n i32)
                    (if (i32.ne (i32.load offset=28 (local.get $p)) (i32.const 2)) (then {interpret_body})) (i32.const {interpret}))
                {extra}
            )"#,
            realloc = self.realloc,
            extra = self.extra,
            pages = self.pages,
            start_body = self.start,
            describe_body = self.describe,
            plan_body = self.plan,
            interpret_body = self.interpret,
        )
    }

    /// `ok(agent-plan)` with one step of one argument, as the canonical ABI lays it out.
    fn plan_answer(&self, data: &mut Data) -> u32 {
        let program = data.pair(self.program.as_bytes());
        let arg = data.pair(b"hi");
        let args = data.words(&arg);
        let step = data.words(&[program[0], program[1], args, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let effect = data.pair(self.effect.as_bytes());
        let summary = data.pair(b"echo hi");
        data.words(&[0, step, 1, effect[0], effect[1], 0, 0, summary[0], summary[1]])
    }
}

/// Static data that begins at address 16.
struct Data {
    bytes: Vec<u8>,
}

impl Data {
    fn put(&mut self, bytes: &[u8]) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = 16 + u32::try_from(self.bytes.len()).expect("small");
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// Address and length, as strings and lists are passed.
    fn pair(&mut self, bytes: &[u8]) -> [u32; 2] {
        [self.put(bytes), u32::try_from(bytes.len()).expect("small")]
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    fn escaped(&self) -> String {
        self.bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
    }
}

/// A custom section.
pub fn section(name: &str, data: &[u8]) -> Vec<u8> {
    let mut body = leb(name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    [vec![0], leb(body.len()), body].concat()
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}
