//! Rules from a few lines of WebAssembly text, so that a test can say exactly how one misbehaves.

use std::path::Path;

use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::guest::section;

/// What a rule's functions do. The default finds nothing wrong with one agent.
pub struct RuleGuest {
    pub manifest: Value,
    /// Runs first in `evaluate` unless the first agent's name has one letter less or more than `web-1`.
    pub evaluate: String,
    /// What is kept for the agent, if anything.
    pub state: Option<Vec<u8>>,
    /// The key of the one thing it finds wrong, if it does.
    pub finds: Option<&'static str>,
    /// How often it answers for one agent.
    pub answers: u32,
    /// Whether it says that it judged.
    pub judged: bool,
}

/// A manifest of a rule that finds nothing.
pub fn manifest(name: &str) -> Value {
    json!({
        "abi": "1.1", "name": name, "version": "1.0.0", "summary": "A rule of the tests.",
        "config_schema": { "type": "object", "properties": { "level": { "type": "number", "default": 7 } } },
        "rule": { "reads": ["cpu.total"], "examples": [{ "turns": [{ "at_s": 0 }] }] }
    })
}

impl RuleGuest {
    pub fn new(name: &str) -> RuleGuest {
        RuleGuest {
            manifest: manifest(name),
            evaluate: String::new(),
            state: None,
            finds: None,
            answers: 1,
            judged: true,
        }
    }

    /// The component's bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut core = wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{error}"));
        let mut resolve = Resolve::default();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|above| above.join("sdk/wit/1.1").is_dir());
        let wit = root.expect("the released WIT is in the repository").join("sdk/wit");
        resolve.push_dir(wit.join("1.0")).expect("the released WIT parses");
        let (package, _) = resolve.push_dir(wit.join("1.1")).expect("the released WIT parses");
        let world = resolve.select_world(&[package], Some("rule-plugin")).expect("the world is there");
        embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false).expect("embeds");
        let mut bytes = ComponentEncoder::default().module(&core).expect("a module").encode().expect("a component");
        bytes.extend(section("viworks:manifest", self.manifest.to_string().as_bytes()));
        bytes
    }

    fn text(&self) -> String {
        let mut data: Vec<u8> = Vec::new();
        let mut put = |bytes: &[u8]| {
            data.resize(data.len().next_multiple_of(8), 0);
            let at = 16 + u32::try_from(data.len()).expect("small");
            data.extend_from_slice(bytes);
            at
        };
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small");
        let manifest = self.manifest.to_string();
        let described = [put(manifest.as_bytes()), len(manifest.as_bytes())];
        let describe = put(&words(&described));
        let state = self.state.as_ref().map_or([0, 0, 0], |state| [1, put(state), len(state)]);
        let finding = self.finds.map_or([0, 0], |key| {
            let (at, size) = (put(key.as_bytes()), len(key.as_bytes()));
            let (word, line) = (put(b"critical"), put(b"it is bad"));
            // key, severity, since-ms, value, message, as the canonical ABI lays them out.
            let finding = words(&[at, size, word, 8, 0, 0, 0, 0, 0, 0, line, 9]);
            [put(&finding), 1]
        });
        let answer = words(&[0, self.judged.into(), finding[0], finding[1], state[0], state[1], state[2]]);
        let answers = put(&answer.repeat(self.answers as usize));
        let answered = put(&words(&[answers, self.answers]));
        let (bytes, heap) = (
            data.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>(),
            (16 + data.len()).next_multiple_of(16),
        );
        let body = &self.evaluate;
        format!(
            r#"(module
                (import "viworks:plugin/log@1.0.0" "write" (func $log (param i32 i32 i32 i32 i32 i32)))
                (memory (export "memory") 4)
                (data (i32.const 16) "{bytes}")
                (global $top (mut i32) (i32.const {heap}))
                (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
                                            (i32.sub (i32.const 0) (local.get $align))))
                    (global.set $top (i32.add (local.get $at) (local.get $size)))
                    (block $fits (loop $again
                        (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
                        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                        (br $again)))
                    (local.get $at))
                (func (export "viworks:plugin/rules@1.1.0#describe") (result i32) (i32.const {describe}))
                (func (export "viworks:plugin/rules@1.1.0#evaluate")
                    (param i32 i32 i64 i32 i32 i32 i32) (param $entries i32) (param i32 i32 i32 i32 i32 i32 i32)
                    (result i32) (local $n i32)
                    (if (i32.ne (i32.load offset=4 (local.get $entries)) (i32.const 5)) (then {body}))
                    (i32.const {answered}))
            )"#
        )
    }
}
