//! Holds `docs/protocol.md` against the types: its examples are frames, its vectors verify, its numbers
//! are ours.

use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use plan::envelope::{Envelope, epoch_parts, hello_parts, join_parts, key_text, sign};
use plan::keyring::{Keyring, Turn};
use serde_json::Value;
use wire::codec::{decode, encode};
use wire::frame::{AgentFrame, HostFrame};
use wire::join::{Join, Joined};
use wire::limits;

fn page() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The page's JSON examples.
fn examples() -> Vec<Value> {
    let page = page();
    let blocks = page.split("```json\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default());
    blocks.map(|text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
}

fn example(type_name: &str) -> Value {
    let found = examples().into_iter().find(|example| example["type"] == type_name);
    found.unwrap_or_else(|| panic!("no example of {type_name}"))
}

fn host(type_name: &str) -> HostFrame {
    decode(&example(type_name).to_string()).expect("a frame of the host")
}

/// Whether `again` holds everything that `example` does; it may say defaults beside.
fn says_no_less(again: &Value, example: &Value) -> bool {
    match (again, example) {
        (Value::Object(again), Value::Object(example)) => {
            example.iter().all(|(key, value)| again.get(key).is_some_and(|other| says_no_less(other, value)))
        }
        (Value::Array(again), Value::Array(example)) => {
            again.len() == example.len()
                && again.iter().zip(example).all(|(again, example)| says_no_less(again, example))
        }
        (again, example) => again == example,
    }
}

#[test]
fn every_example_reads_as_what_it_stands_for() {
    let (mut frames, mut documents) = (Vec::new(), 0);
    for example in examples() {
        let text = example.to_string();
        let Some(name) = example["type"].as_str() else {
            let read = serde_json::from_str::<Join>(&text).is_ok()
                || serde_json::from_str::<Joined>(&text).is_ok()
                || serde_json::from_str::<Envelope>(&text).is_ok();
            assert!(read, "{text}");
            documents += 1;
            continue;
        };
        frames.push(name.to_owned());
        let again = decode::<HostFrame>(&text).map(|frame| encode(&frame));
        let again = again.or_else(|_| decode::<AgentFrame>(&text).map(|frame| encode(&frame)));
        let again: Value =
            serde_json::from_str(&again.unwrap_or_else(|error| panic!("{error}: {text}"))).expect("JSON");
        assert!(says_no_less(&again, &example), "{name}: a field was not read\n{example}\n{again}");
    }
    frames.sort_unstable();
    frames.dedup();
    let all = [
        "ACK",
        "CANCEL",
        "CERTIFICATE",
        "CHALLENGE",
        "COMMAND",
        "ERROR",
        "GOODBYE",
        "HEARTBEAT",
        "HELLO",
        "KEY_ACK",
        "NEW_KEY",
        "OUTPUT",
        "PENDING",
        "RESULT",
        "RESULT_ACK",
        "ROTATE_KEY",
        "STARTED",
        "TELEMETRY",
        "WELCOME",
    ];
    assert_eq!((frames, documents), (all.map(str::to_owned).to_vec(), 3));
}

#[test]
fn the_vectors_are_signed_over_the_bytes_the_page_names() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let page = page();
    assert!(page.contains(&key_text(&key.verifying_key())));

    let HostFrame::Challenge(challenge) = host("CHALLENGE") else { panic!("no CHALLENGE") };
    let epoch = epoch_parts(challenge.cluster_id, challenge.cluster_epoch);
    assert_eq!(challenge.epoch_signature, Some(sign(&key, &[&epoch])));
    let former = SigningKey::from_bytes(&[6; 32]);
    let turn = Turn::new(challenge.cluster_id, &former, &key.verifying_key(), 2, 1_700_000_000_000);
    assert_eq!(challenge.keys, [turn]);
    let ring = Keyring::pinned(former.verifying_key()).after(challenge.cluster_id, &challenge.keys).expect("followed");
    assert_eq!(ring.current(), &key.verifying_key());
    let nonce: Vec<u8> = (0..32).collect();
    let hello: AgentFrame = decode(&example("HELLO").to_string()).expect("a frame of the agent");
    let AgentFrame::Hello(hello) = hello else { panic!("no HELLO") };
    assert_eq!(hello.signature, sign(&key, &[&hello_parts(challenge.cluster_id, hello.agent_id, &nonce)]));

    let HostFrame::Command(command) = host("COMMAND") else { panic!("no COMMAND") };
    let envelope = command.envelope.open(&key.verifying_key()).expect("signed with this key");
    let shown = examples().into_iter().find(|example| example.get("plan").is_some()).expect("an envelope");
    assert_eq!(serde_json::from_value::<Envelope>(shown).expect("an envelope"), envelope);
    assert_eq!(command.attempt.command, envelope.command_id);

    let join = examples().into_iter().find_map(|example| serde_json::from_value::<Join>(example).ok()).expect("a join");
    assert_eq!(join.proof, sign(&key, &[&join_parts(&join.token, &join.name)]));
}

#[test]
fn the_table_of_limits_holds_our_numbers() {
    let page = page();
    let table = page.split("## 7. Limits").nth(1).expect("the table");
    let row = |what: &str| table.lines().find(|line| line.starts_with(&format!("| {what} |"))).expect("a row");
    for (what, number) in [
        ("one frame's text", limits::MAX_FRAME_BYTES),
        ("output in one OUTPUT", limits::MAX_OUTPUT_CHUNK_BYTES),
        ("attempts in HELLO, both lists together", limits::MAX_HELLO_ATTEMPTS),
        ("capabilities; labels", limits::MAX_FACTS),
        ("a plan's JSON", plan::step::MAX_PLAN_BYTES),
        ("steps of a plan", plan::step::MAX_STEPS),
        ("standard input of a step", plan::step::MAX_STDIN_BYTES),
        ("summary", plan::step::MAX_SUMMARY_BYTES),
        ("arguments of a step; one; all together", plan::step::MAX_ARGS),
        ("arguments of a step; one; all together", plan::step::MAX_ARG_BYTES),
        ("arguments of a step; one; all together", plan::step::MAX_ARGV_BYTES),
        ("lock keys; one", plan::step::MAX_LOCKS),
        ("lock keys; one", plan::step::MAX_LOCK_BYTES),
    ] {
        let row = row(what).replace(',', "");
        let numbers = row.split(|c: char| !c.is_ascii_digit()).filter_map(|text| text.parse::<usize>().ok());
        assert!(numbers.into_iter().any(|found| found == number), "{what} is {number}, the page says: {row}");
    }
    assert!(row("from open socket to verified HELLO").contains(&format!("{} s", limits::HELLO_WITHIN_MS / 1000)));
}
