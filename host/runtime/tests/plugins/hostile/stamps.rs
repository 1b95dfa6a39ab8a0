//! Gates 3, 4 and 7: stamps that are no manifest, break its rules, or lie about the component.

use runtime::Code;
use serde_json::{Value, json};

use super::Case;
use crate::guest::{Guest, section};

pub fn cases() -> Vec<Case> {
    let stamp = |name, stamp: &[u8], code, told| {
        let guest = Guest { stamp: Some(stamp.to_vec()), ..Guest::new("demo", "1.0.0") };
        Case::new(name, guest.build(), code, told)
    };
    let mut cases = vec![
        Case::new(
            "no stamp",
            Guest { stamped: false, ..Guest::new("demo", "1.0.0") }.build(),
            Code::NoManifest,
            "section",
        ),
        Case::new("two stamps", twice(), Code::ManifestMalformed, "2 manifest sections"),
        Case::new("a stamp inside another component", hidden(), Code::MissingExport, "verbs"),
        stamp("a stamp that is no JSON", b"name: demo", Code::ManifestMalformed, "line 1"),
        stamp("a stamp that is no text", b"\xc3\x28{}", Code::ManifestMalformed, "line 1"),
        stamp("a stamp that is packed badly", b"\xff\xfe{}", Code::ManifestMalformed, "does not unpack"),
        stamp(
            "a stamp that points out of the file",
            b"\xfe\0\0\0\x7f\0\0\0\x7f",
            Code::ManifestMalformed,
            "does not unpack",
        ),
        stamp(
            "a stamp that points at itself",
            b"\xfe\0\0\0\0\xff\xff\xff\xff",
            Code::ManifestMalformed,
            "does not unpack",
        ),
        stamp("a stamp that is empty", b"", Code::ManifestMalformed, "EOF"),
        stamp("a stamp that is a list", b"[]", Code::ManifestMalformed, "line 1"),
        stamp("a stamp 100,000 lists deep", &[b'['; 100_000], Code::ManifestMalformed, "line 1"),
        stamp("a stamp over the limit", &vec![b' '; 1024 * 1024 + 1], Code::ManifestMalformed, "1048577 bytes"),
        stamp("a stamp with a key twice", br#"{"abi":"1.0","abi":"1.0"}"#, Code::ManifestMalformed, "duplicate"),
        stamp("a stamp for another ABI", br#"{"abi":"2.0","everything":"else"}"#, Code::AbiUnsupported, "2.0"),
        stamp("an ABI that breaks the terminal", b"{\"abi\":\"\\u001b[2J\"}", Code::AbiUnsupported, "u{1b}"),
    ];
    cases.extend(rules());
    cases.extend(lies());
    cases
}

/// Names and numbers that would reach beyond the plugin if they were believed.
fn rules() -> Vec<Case> {
    let changed = |name, pointer: &str, value: Value, code, told| {
        let mut guest = Guest::new("demo", "1.0.0");
        *guest.manifest.pointer_mut(pointer).expect("leads somewhere") = value;
        Case::new(name, guest.build(), code, told)
    };
    let verb = Guest::new("demo", "1.0.0").manifest["verbs"][0].clone();
    let many: Vec<Value> = (0..257)
        .map(|number| {
            let mut verb = verb.clone();
            verb["name"] = json!(format!("demo.run{number}"));
            verb
        })
        .collect();
    vec![
        changed("a name that climbs", "/name", json!("../../etc/cron.d/x"), Code::PluginName, "etc"),
        changed("a name in letters that look alike", "/name", json!("d\u{435}mo"), Code::PluginName, "plugin name"),
        changed("a name of 64 letters", "/name", json!("d".repeat(64)), Code::PluginName, "dddd"),
        changed("a version that is a command", "/version", json!("$(reboot)"), Code::PluginVersion, "reboot"),
        changed("a summary that clears the screen", "/summary", json!("fine\u{1b}[2J"), Code::Summary, "plugin"),
        changed("a summary of 100,000 letters", "/summary", json!("x".repeat(100_000)), Code::Summary, "plugin"),
        changed("no verb at all", "/verbs", json!([]), Code::NoVerb, "0 verbs"),
        changed("257 verbs", "/verbs", json!(many), Code::NoVerb, "257 verbs"),
        changed("a verb twice", "/verbs", json!([verb, verb]), Code::VerbTwice, "demo.run"),
        changed(
            "a verb with a line end in its name",
            "/verbs/0/name",
            json!("demo.run\nHost: x"),
            Code::VerbName,
            "verb name",
        ),
        changed(
            "an effect that does not exist",
            "/verbs/0/effect",
            json!("nothing"),
            Code::ManifestMalformed,
            "nothing",
        ),
        changed(
            "a promise about cancel that does not exist",
            "/verbs/0/cancel",
            json!("always"),
            Code::CancelUnknown,
            "always",
        ),
        changed("a timeout of no time", "/verbs/0/default_timeout_ms", json!(0), Code::TimeoutRange, "0 ms"),
        changed(
            "a timeout of all time",
            "/verbs/0/default_timeout_ms",
            json!(u64::MAX),
            Code::TimeoutRange,
            "18446744073709551615",
        ),
        changed("a timeout before time", "/verbs/0/default_timeout_ms", json!(-1), Code::ManifestMalformed, "-1"),
        changed("a verb without an example", "/verbs/0/examples", json!([]), Code::NoExample, "0 examples"),
        changed(
            "65 examples",
            "/verbs/0/examples",
            json!(vec![json!({ "args": {} }); 65]),
            Code::NoExample,
            "65 examples",
        ),
        changed(
            "a key that no version knows",
            "/verbs/0/examples/0",
            json!({ "args": {}, "run_as": "root" }),
            Code::ManifestMalformed,
            "run_as",
        ),
    ]
}

/// Stamps that promise less than `describe` asks for.
fn lies() -> Vec<Case> {
    let lie = |name, pointer: &'static str, value: Value| {
        let mut guest = Guest::new("demo", "1.0.0");
        let mut stamp = guest.manifest.clone();
        *stamp.pointer_mut(pointer).expect("leads somewhere") = value;
        guest.stamp = Some(stamp.to_string().into_bytes());
        Case::new(name, guest.build(), Code::DescribeDiffers, pointer)
    };
    vec![
        lie("a stamp with another summary", "/summary", json!("Harmless, surely.")),
        lie("a stamp with another version", "/version", json!("9.9.9")),
        lie("a stamp that asks for less", "/grants/programs", json!([])),
        lie("a stamp with a looser schema", "/verbs/0/args_schema/additionalProperties", json!(true)),
        lie("a stamp that calls itself safe to repeat", "/verbs/0/idempotent", json!(false)),
    ]
}

fn twice() -> Vec<u8> {
    [Guest::new("demo", "1.0.0").build(), section("viworks:manifest", b"{}")].concat()
}

/// A plugin as a whole inside another component, which exports nothing itself.
fn hidden() -> Vec<u8> {
    let inner = Guest::new("demo", "1.0.0").build();
    let mut size = inner.len();
    let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
    while size > 0x7f {
        outer.push(u8::try_from(size & 0x7f).expect("seven bits") | 0x80);
        size >>= 7;
    }
    outer.push(u8::try_from(size).expect("seven bits"));
    [outer, inner].concat()
}
