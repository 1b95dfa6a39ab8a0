//! Gates 1 and 2: files that are no component, claim to be larger than they are, or import what no guest gets.

use runtime::Code;

use super::Case;
use crate::guest::{Guest, section};

/// Interfaces of every world of WASI, and of others that a toolchain may bring along.
const WORLDS: &[&str] = &[
    "wasi:cli/environment@0.2.0",
    "wasi:cli/exit@0.2.3",
    "wasi:cli/stdout@0.2.9",
    "wasi:cli/terminal-stdin@0.2.0",
    "wasi:clocks/monotonic-clock@0.2.0",
    "wasi:clocks/wall-clock@0.2.0",
    "wasi:filesystem/types@0.2.0",
    "wasi:filesystem/preopens@0.2.0",
    "wasi:http/outgoing-handler@0.2.0",
    "wasi:http/types@0.2.10",
    "wasi:io/streams@0.2.0",
    "wasi:io/poll@0.2.0",
    "wasi:random/random@0.2.0",
    "wasi:random/insecure-seed@0.2.0",
    "wasi:sockets/tcp@0.2.0",
    "wasi:sockets/ip-name-lookup@0.2.0",
    "wasi:cli/environment@0.3.0",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:logging/logging",
    "wasi:nn/inference@0.2.0-rc-2024-10-28",
    "wasi:threads/spawn@0.1.0",
    "fermyon:spin/key-value@2.0.0",
];

/// Names that only look like the log.
const LOOKALIKES: &[&str] = &[
    "viworks:plugin/log@2.0.0",
    "viworks:plugin/log",
    "viworks:plugin/logs@1.0.0",
    "viworks:plugin/log@1.0.0-evil",
    "viworks:plugin/verbs@1.0.0",
    "viworks-plugin:plugin/log@1.0.0",
];

pub fn cases() -> Vec<Case> {
    let mut cases = no_components();
    cases.extend(giants());
    cases.extend(WORLDS.iter().chain(LOOKALIKES).map(|name| {
        let text = format!(r#"(component (import "{name}" (instance)))"#);
        Case::new(name, component(&text), Code::ForbiddenImport, name)
    }));
    cases.extend(beyond());
    cases
}

fn no_components() -> Vec<Case> {
    let cut = Guest::new("demo", "1.0.0").build();
    vec![
        Case::new("an empty file", Vec::new(), Code::Truncated, "0 bytes"),
        Case::new("an executable", b"\x7fELF\x02\x01\x01\0".to_vec(), Code::NotWasm, "magic"),
        Case::new("a script", b"#!/bin/sh\nrm -rf /\n".to_vec(), Code::NotWasm, "magic"),
        Case::new("an archive", b"PK\x03\x04".to_vec(), Code::NotWasm, "magic"),
        Case::new("a version that does not exist", b"\0asm\x63\0\x63\0".to_vec(), Code::NotWasm, "version"),
        Case::new("a core module", wat("(module (func (export \"_start\")))"), Code::CoreModule, "core module"),
        Case::new("a component cut in half", cut[..cut.len() / 2].to_vec(), Code::Truncated, "unexpected end"),
        Case::new("zeros where sections should be", [HEADER, &[0; 4096]].concat(), Code::Truncated, "byte 10"),
        Case::new("an unknown section", exporting(&[HEADER, &[0x7e, 1, 0]].concat()), Code::Malformed, "section"),
        Case::new("a number that never ends", [HEADER, &[7], &[0xff; 64]].concat(), Code::Malformed, "integer"),
        Case::new(
            "a component where a module should be",
            exporting(&[HEADER, b"\x01\x08", HEADER].concat()),
            Code::Malformed,
            "",
        ),
    ]
}

/// Sections and counts that claim more than there is, and nesting without end.
fn giants() -> Vec<Case> {
    const FOUR_GIB: &[u8] = b"\xff\xff\xff\xff\x0f";
    let import = |name: &[u8]| {
        let body = [&[1, 0], leb(name.len()).as_slice(), name, &[5, 0]].concat();
        [HEADER, &[10], &leb(body.len()), &body].concat()
    };
    let nested = (0..2_000).fold(HEADER.to_vec(), |inner, _| [HEADER, &[4], &leb(inner.len()), &inner].concat());
    vec![
        Case::new("a section of 4 GiB", [HEADER, &[7], FOUR_GIB].concat(), Code::Truncated, "unexpected end"),
        Case::new("four thousand million types", exporting(&[HEADER, &[7, 5], FOUR_GIB].concat()), Code::Malformed, ""),
        Case::new(
            "a file over the limit",
            [HEADER, &section("x", &vec![0; 4 * 1024 * 1024])].concat(),
            Code::FileTooBig,
            "4194304",
        ),
        Case::new(
            "a custom section's name past its end",
            [HEADER, &[0, 6], FOUR_GIB, &[0]].concat(),
            Code::Malformed,
            "",
        ),
        Case::new("an import's name of 200,000 bytes", import(&[b'x'; 200_000]), Code::Malformed, "byte"),
        Case::new("an import's name that is no text", import(b"\xff\xfe"), Code::Malformed, "UTF-8"),
        Case::new("components 2,000 deep", exporting(&nested), Code::Malformed, "32 levels"),
    ]
}

/// What wasm can do elsewhere and a plugin cannot: each in a component that exports what a plugin does.
fn beyond() -> Vec<Case> {
    [
        ("shared memory", "(core module (memory 1 1 shared))", "threads"),
        ("64-bit memory", "(core module (memory i64 1))", "memory64"),
        ("several memories", "(core module (memory 1) (memory 1))", "multi"),
        ("exceptions", "(core module (tag))", "exceptions"),
        ("garbage collection", "(core module (type (struct)))", "gc"),
        (
            "relaxed vectors",
            "(core module (func (result v128) (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0))))",
            "relaxed",
        ),
        (
            "wide arithmetic",
            "(core module (func (param i64 i64) (result i64 i64) (i64.mul_wide_s (local.get 0) (local.get 1))))",
            "wide",
        ),
        ("pages of one byte", "(core module (memory 1 (pagesize 1)))", "page"),
        (
            "a module that wants preview 1",
            r#"(core module $m (import "wasi_snapshot_preview1" "fd_write" (func))) (core instance (instantiate $m))"#,
            "wasi_snapshot_preview1",
        ),
        ("a start function of another type", "(core module (func $s (param i32)) (start $s))", "start"),
        ("a body that does not fit its type", "(core module (func (result i32)))", "type"),
        ("100,000 locals", "LOCALS", "locals"),
        ("streams and futures", "(type (stream u8))", "async"),
    ]
    .into_iter()
    .map(|(name, inside, told)| {
        let inside = match inside {
            "LOCALS" => format!("(core module (func {}))", "(local i32)".repeat(100_000)),
            inside => inside.to_owned(),
        };
        Case::new(name, exporting(&component(&format!("(component {inside})"))), Code::Malformed, told)
    })
    .collect()
}

/// How every component begins.
const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

/// Makes a component seem to be a plugin as far as its exports tell.
fn exporting(component: &[u8]) -> Vec<u8> {
    let face = wat(
        r#"(component (component $c) (instance $i (instantiate $c)) (export "viworks:plugin/verbs@1.0.0" (instance $i)))"#,
    );
    // Its sections come first, as their indexes count from the beginning.
    [&face, &component[HEADER.len()..]].concat()
}

fn component(text: &str) -> Vec<u8> {
    wat(text)
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
    bytes
}
