//! What compose gets of a file, and which files are refused.

use compose::Up;
use compose::file::read::{MAX_DEPTH, MAX_NODES, read};
use compose::file::write::write;
use viworks_sdk::Failure;
use viworks_sdk::json::{Value, json};
use viworks_sdk::test;

#[track_caller]
fn refused(file: &str, keyword: &str, said: &str) {
    let failure: Failure = test::plan::<Up>(json!({ "project": "p", "file": file })).expect_err("refused");
    let [issue] = failure.issues.as_slice() else { panic!("{failure}") };
    assert_eq!((issue.pointer.as_str(), issue.keyword.as_str()), ("/file", keyword), "{file}\n{failure}");
    assert!(issue.message.contains(said), "{}", issue.message);
}

/// What compose gets, for a file with one service that has these lines.
#[track_caller]
fn handed_on(args: Value) -> (String, std::collections::BTreeMap<String, String>) {
    let plan = test::plan::<Up>(args).expect("accepted");
    let step = &plan.steps[0];
    (step.stdin.clone().expect("the file"), step.env.clone())
}

#[test]
fn what_is_handed_on_reads_the_same_everywhere() {
    for (file, expected) in [
        (
            "a: 1\nb: [x, 0755, 1.10, ~, null, '', yes, on]",
            r#"{"a": 1, "b": [x, 0755, 1.10, null, null, "", yes, on]}"#,
        ),
        // Sixty-based numbers and dates are nobody's intention.
        ("p: [22:22, 2001-12-14 21:59:43, a b]", r#"{"p": ["22:22", "2001-12-14 21:59:43", "a b"]}"#),
        ("a: 'it''s'\nb: \"\\u0041\\n\\\"\\\\\"", r#"{"a": "it's", "b": "A\n\"\\"}"#),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", r#"{"a": "x\ny\n", "b": "x y"}"#),
        ("a: \"\u{85}\u{2028}\u{7f}\u{feff}é😀\"", "{\"a\": \"\\u0085\\u2028\\u007f\\ufeffé😀\"}"),
        ("b: --x\nc: -1\nd: .5\ne: =\nf: -x", r#"{"b": "--x", "c": -1, "d": .5, "e": "=", "f": -x}"#),
        ("a: {b: &x [1], c: *x}", r#"{"a": {"b": [1], "c": [1]}}"#),
        ("yes: no\n1: 2\n? k\n: v", r#"{"yes": no, "1": 2, "k": v}"#),
        ("a: # privileged: true\n  - b # c\n", r#"{"a": [b]}"#),
    ] {
        match read(file) {
            Ok(tree) => assert_eq!(write(&tree).trim_end(), expected, "{file}"),
            Err(failure) => panic!("{file}: {failure}"),
        }
        // It is its own fixed point: reading what was written gives the same tree.
        let again = read(expected).unwrap_or_else(|failure| panic!("{expected}: {failure}"));
        assert_eq!(write(&again).trim_end(), expected);
    }
}

#[test]
fn variables_reach_compose_under_names_that_steer_nothing() {
    let file = "services:\n  web:\n    image: nginx:${TAG}\n    command: echo $TAG $${TAG} ${OTHER}\n    \
                environment: [TAG, A=$TAG, OTHER]\n    labels: { TAG: x }\n  \
                db:\n    image: x\n    environment: { TAG: , LD_PRELOAD: ~ }\n    build: { context: https://x/y, args: [TAG] }\n\
                secrets: { s: { environment: TAG }, t: { environment: OTHER } }\n";
    let env = json!({ "TAG": "1.2", "LD_PRELOAD": "/x.so" });
    let (text, env) = handed_on(json!({ "project": "p", "file": file, "env": env }));
    let names: Vec<&str> = env.keys().map(String::as_str).collect();
    assert_eq!(names, ["VIWORKS_VAR_LD_PRELOAD", "VIWORKS_VAR_TAG"]);
    for part in [
        r#""image": "nginx:${VIWORKS_VAR_TAG}""#,
        r#""command": "echo $VIWORKS_VAR_TAG $${TAG} ${OTHER}""#,
        r#""environment": ["TAG=${VIWORKS_VAR_TAG}", "A=$VIWORKS_VAR_TAG", OTHER]"#,
        r#""labels": {"TAG": x}"#,
        r#""environment": {"TAG": "${VIWORKS_VAR_TAG}", "LD_PRELOAD": "${VIWORKS_VAR_LD_PRELOAD}"}"#,
        r#""args": ["TAG=${VIWORKS_VAR_TAG}"]"#,
        r#""secrets": {"s": {"environment": VIWORKS_VAR_TAG}, "t": {"environment": OTHER}}"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn what_is_no_single_plain_document_is_refused_with_its_line() {
    refused("services: {", "yaml", "line 2");
    refused("services:\n\tweb: x", "yaml", "line 2");
    refused("services: *nobody", "yaml", "line 1");
    refused(" \n", "yaml", "empty");
    refused("# only a comment\n", "yaml", "empty");
    refused("services: {a: {image: x}}\n---\nservices: {a: {privileged: true}}", "documents", "line 2");
    refused("services:\n  a: {image: x}\n  a: {image: y}", "duplicate_key", "line 3, column 3: `a` stands twice");
    refused("services: {a: {image: x}}\n\"services\": {}", "duplicate_key", "`services` stands twice");
    refused("services:\n  a: !reset {}", "tag", "line 2");
    refused("services:\n  a: {privileged: !!bool 'true'}", "tag", "line 2");
    refused("services:\n  a: !!binary aGk=", "tag", "line 2");
    refused("services: {? [a] : b}", "key", "a key is text");
    refused("services: {? {a: b} : c}", "key", "a key is text");
    refused("x: &a web\nservices: {*a : {image: x}}", "key", "not an alias");
    refused("services: {&a web: {image: x}}", "key", "without an anchor");
    refused("services: {web: {image: !!str x}}", "tag", "line 1");
    refused("services: {a: {'<<': {privileged: true}}}", "key", "without quotes");
    refused("services: {a: {<<: {b: c}, <<: {d: e}}}", "duplicate_key", "give it a list");
    refused("services: {a: {<<: x}}", "merge", "takes a mapping");
    refused("services: {a: {<<: [x]}}", "merge", "takes a mapping");
    refused("services: &a {b: *a}", "alias", "inside what it names");
    refused("image: nginx", "services", "no `services:`");
    refused("services:", "services", "no `services:`");
    refused("services: [web]", "services", "no `services:`");
    refused("- a", "services", "no `services:`");
}

#[test]
fn bombs_do_not_go_off() {
    let mut bomb = String::from("x0: &a0 [l, o, l]\n");
    for level in 1..30 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("x{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", "));
    }
    refused(&bomb, "size", &MAX_NODES.to_string());
    let text = format!("x: &a '{}'\ny: [{}]\n", "l".repeat(30_000), ["*a"; 5].join(", "));
    refused(&text, "size", "bytes");
    refused(&"[".repeat(5000), "depth", "line 1");
    refused(&format!("{}{}", "[".repeat(40), "]".repeat(40)), "depth", &MAX_DEPTH.to_string());
    refused(&"a: ".repeat(5000), "yaml", "line 1");
    refused(&"- ".repeat(20_000), "depth", "levels");
    refused(&"{a: ".repeat(10_000), "depth", "levels");
    refused(&"? ".repeat(20_000), "key", "line 1");
    refused(&"&a ".repeat(10_000), "yaml", "line 1");
    let nested: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    refused(&nested, "depth", "levels");
    let keys: String = (0..1000).map(|key| format!("k{key}: 1\n")).collect();
    refused(&keys, "keys", "256");
    let anchors: String = (0..1000).map(|anchor| format!("- &a{anchor} 1\n")).collect();
    refused(&anchors, "anchors", "256");
    // Anchors in one another would each keep a copy.
    let inner = format!("[{}]", vec!["1"; 4000].join(","));
    let chain: String = (0..20).map(|level| format!("[&c{level} ")).collect();
    refused(&format!("x: {chain}{inner}{}", "]".repeat(20)), "anchors", "over many levels");
}

#[test]
fn a_large_honest_file_is_taken() {
    let service = |name: usize| {
        format!(
            "  s{name}:\n    image: nginx:1.27\n    environment:\n      A: b\n    ports: [\"80{name:03}:80\"]\n    volumes: [\"d{name}:/d\"]\n"
        )
    };
    let file = format!("services:\n{}", (0..250).map(service).collect::<String>());
    assert!(file.len() < 65_536, "{}", file.len());
    let (text, _) = handed_on(json!({ "project": "p", "file": file }));
    assert!(text.contains("\"s249\""), "{}", text.len());
}
