//! Cut off while a command runs: a reader of its events, again and again, and the agent that runs it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::id::AttemptKey;
use plan::outcome::{End, Outcome, StepEnd, Stream, StreamEnd};
use serde_json::json;
use services::digest::sha256_hex;
use tests::events::Event;
use tests::host::TestHost;
use tests::played::{Played, Socket};
use tests::store::Store;
use tests::wait::until;
use wire::frame::{AgentFrame, HostFrame, Output, Unfinished};

/// How often the reader is cut off.
const CUTS: u32 = 100;
/// How far what is said may be ahead of the reader: it is now behind the log and now waits for what happens.
const AHEAD: u32 = 5;

/// One attempt on an agent that the test plays.
struct Attempt {
    socket: Socket,
    key: AttemptKey,
    said: BTreeMap<&'static str, String>,
}

impl Attempt {
    /// Takes the command that comes and starts it.
    async fn start(mut socket: Socket) -> Attempt {
        let key = loop {
            if let HostFrame::Command(command) = socket.hear().await.expect("a frame") {
                break command.attempt;
            }
        };
        socket.say(&AgentFrame::Ack { attempt: key }).await;
        socket.say(&AgentFrame::Started { attempt: key, pid: 7, traceparent: None }).await;
        Attempt { socket, key, said: BTreeMap::new() }
    }

    async fn print(&mut self, stream: Stream, text: &str) {
        let said = self.said.entry(stream.as_str()).or_default();
        let (attempt, offset, data) = (self.key, said.len() as u64, STANDARD.encode(text));
        said.push_str(text);
        self.socket.say(&AgentFrame::Output(Output { attempt, stream, offset, data, gone: None })).await;
    }

    async fn end(&mut self) {
        self.end_as(End::Exited).await;
    }

    async fn end_as(&mut self, how: End) {
        let end = |stream: Stream| {
            let text = self.said.get(stream.as_str()).map_or("", String::as_str);
            let sha256 = sha256_hex(text.as_bytes());
            StreamEnd { bytes: text.len() as u64, head: text.len() as u64, tail: 0, sha256 }
        };
        let (stdout, stderr) = (end(Stream::Stdout), end(Stream::Stderr));
        let step = StepEnd { exit_code: Some(0), stdout_bytes: stdout.bytes, ..StepEnd::default() };
        let outcome = Outcome { end: how, steps: vec![step], stdout, stderr, duration_ms: 5 };
        self.socket.say(&AgentFrame::Result { attempt: self.key, outcome, traceparent: None }).await;
    }
}

/// What each agent printed on each stream, put together from events.
fn printed(events: &[Event]) -> BTreeMap<(String, String), String> {
    let mut texts: BTreeMap<(String, String), String> = BTreeMap::new();
    for event in events.iter().filter(|event| event.name == "output") {
        let word = |field: &str| event.data[field].as_str().expect("a word").to_owned();
        let text = texts.entry((word("agent"), word("stream"))).or_default();
        assert_eq!(event.data["offset"], text.len(), "nothing is missing before it, and nothing comes twice");
        text.push_str(&event.text());
    }
    texts
}

tests::on_both_stores![what_was_printed_unheard_is_kept_when_its_end_was_asked_for_meanwhile];

async fn what_was_printed_unheard_is_kept_when_its_end_was_asked_for_meanwhile(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    let (socket, _) = played.open().await;
    let body = json!({ "verb": "exec.run", "args": { "program": "true" }, "target": { "agents": ["played"] } });
    let id = admin.submit(&body).await;
    let mut attempt = Attempt::start(socket).await;
    attempt.print(Stream::Stdout, "heard\n").await;
    let printed = async || admin.invocation(&id, "played").await["stdout"].as_str().expect("text").to_owned();
    until("it is kept", async || (printed().await == "heard\n").then_some(())).await;
    drop(attempt.socket);
    assert_eq!(admin.post(&format!("/api/v1/commands/{id}/cancel"), &json!({})).await.status, 202);

    let (mut socket, challenge) = played.dial().await;
    let mut hello = played.hello(&challenge);
    hello.unfinished = vec![Unfinished { attempt: attempt.key, started: true }];
    socket.say(&AgentFrame::Hello(hello)).await;
    let Some(HostFrame::Welcome(welcome)) = socket.hear().await else { panic!("not let in") };
    assert_eq!(welcome.cancel.iter().map(|cancel| cancel.attempt).collect::<Vec<_>>(), [attempt.key]);
    attempt.socket = socket;
    attempt.print(Stream::Stdout, "unheard\n").await;
    attempt.end_as(End::Cancelled { started: true }).await;
    let ended = admin.ended(&id, "played").await;
    assert_eq!((&ended["state"], &ended["stdout"]), (&json!("cancelled"), &json!("heard\nunheard\n")), "{ended}");
}

#[tokio::test]
async fn a_reader_of_a_command_cut_off_a_hundred_times_hears_all_of_it_once() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let (one, two) = (Played::join(&host, &admin, "one").await, Played::join(&host, &admin, "two").await);
    let ((first, _), (second, _)) = (one.open().await, two.open().await);
    let body = json!({ "verb": "exec.run", "args": { "program": "true" }, "target": { "agents": ["one", "two"] } });
    let id = admin.submit(&body).await;
    let cuts = Cell::new(0);

    let talk = async {
        let mut attempts = [Attempt::start(first).await, Attempt::start(second).await];
        for piece in 0.. {
            // Each cut lets one more be said, which is an event that the reader has not had: nobody waits for ever.
            until("the reader goes on", async || (piece < cuts.get() + AHEAD).then_some(())).await;
            if cuts.get() >= CUTS {
                break;
            }
            let stream = if piece % 3 == 2 { Stream::Stderr } else { Stream::Stdout };
            attempts[piece as usize % 2].print(stream, &format!("piece {piece}\n")).await;
        }
        for attempt in &mut attempts {
            attempt.end().await;
        }
        attempts
    };
    let listen = async {
        let (mut cursor, mut heard) = (String::new(), Vec::new());
        loop {
            let mut stream = admin.events(&id, Some(&cursor)).await;
            // Every tenth is cut off before it has read anything; who knows what is on its way to the others.
            if cuts.get() % 10 != 9 {
                let event = stream.next().await.expect("the command is not over");
                cursor.clone_from(&event.id);
                heard.push(event);
            }
            drop(stream);
            if heard.last().is_some_and(|event: &Event| event.name == "end") {
                return heard;
            }
            cuts.set(cuts.get() + 1);
        }
    };
    let (attempts, heard) = tokio::join!(talk, listen);

    assert!(cuts.get() >= CUTS);
    assert_eq!(heard, admin.events(&id, None).await.rest().await, "as somebody hears it who was never cut off");
    let numbers: Vec<u64> = heard.iter().map(|event| event.id.parse().expect("a number")).collect();
    let before_the_end = &numbers[..numbers.len() - 1];
    assert!(before_the_end.windows(2).all(|two| two[0] < two[1]), "{before_the_end:?}");
    assert_eq!(heard.iter().filter(|event| event.name == "end").count(), 1);
    assert_eq!(heard.last().expect("an end").data["status"], "succeeded");

    let mut said = BTreeMap::new();
    for (played, attempt) in [&one, &two].into_iter().zip(&attempts) {
        said.extend(
            attempt.said.iter().map(|(stream, text)| ((played.id.to_string(), (*stream).to_owned()), text.clone())),
        );
    }
    assert_eq!(printed(&heard), said);
    for name in ["state", "status"] {
        let told: Vec<String> =
            heard.iter().filter(|event| event.name == name).map(|event| event.data.to_string()).collect();
        assert!(told.len() >= 2 && told.iter().collect::<BTreeSet<_>>().len() == told.len(), "once each: {told:#?}");
    }
    for played in [&one, &two] {
        let id = played.id.to_string();
        for state in ["running", "succeeded"] {
            let told = |event: &&Event| event.data["agent"] == id && event.data["state"] == state;
            assert_eq!(heard.iter().filter(told).count(), 1, "{state} of {id}");
        }
    }
}
