//! The agents' door, with an agent played by the test that says what a real one never would.

use std::sync::Arc;

use domain::attempt::State;
use ed25519_dalek::SigningKey;
use futures_util::future::join_all;
use plan::outcome::{End, Outcome, StreamEnd};
use serde_json::json;
use tests::client::{Api, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::played::{Played, join_body};
use tests::store::Store;
use tests::wait::{CEILING, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use wire::frame::{AgentFrame, HostFrame};
use wire::join::{MAX_JOIN_BYTES, PATH};
use wire::limits::{self, MAX_FRAME_BYTES};

tests::on_both_stores![
    only_the_key_that_joined_opens_a_session_and_only_for_this_nonce,
    what_is_no_frame_ends_the_session_and_nothing_else,
    nobody_can_report_about_another_machines_command,
    a_revoked_agent_is_cut_and_not_let_in_again,
    a_taken_name_is_refused_and_its_token_is_good_for_another,
    the_newest_session_of_an_agent_wins,
    an_end_that_cannot_be_ends_the_session_and_not_the_host,
];

#[tokio::test]
async fn a_join_is_read_to_its_limit_and_no_further() {
    let host = TestHost::start().await;
    let stranger = Api::anonymous(&host.agents_url());
    let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    for (length, answer) in [(MAX_JOIN_BYTES, (400, "malformed_body")), (MAX_JOIN_BYTES + 1, (413, "body_too_large"))] {
        let answered = stranger.post_raw(PATH, "application/json", padded(length)).await;
        assert_eq!((answered.status, answered.code()), answer, "{length}");
    }
}

#[tokio::test]
async fn neither_listener_has_the_routes_of_the_other() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let made = admin.post("/api/v1/join-tokens", &json!({})).await.expect(201);
    let key = SigningKey::from_bytes(&rand::random());
    let join = join_body(made["token"].as_str().expect("a token"), "played", &key);
    for caller in [&host.nobody(), &admin] {
        let refused = caller.post(PATH, &join).await;
        assert_eq!((refused.status, refused.code()), (404, "not_found"), "joining at the API's port");
        let refused = caller.get(limits::PATH).await;
        assert_eq!((refused.status, refused.code()), (404, "not_found"), "an agent's socket at the API's port");
    }
    let socket = format!("{}{}", host.url().replacen("http", "ws", 1), limits::PATH);
    let Err(Error::Http(refused)) = connect_async(socket).await else { panic!("a socket opens") };
    assert_eq!(refused.status().as_u16(), 404);
    let agents = Api::anonymous(&host.agents_url());
    for caller in [&agents, &agents.with_token(admin.token())] {
        for path in ["/api/v1/me", "/api/v1/agents", "/openapi.json", "/metrics", "/ws/events"] {
            assert_eq!(caller.get(path).await.status, 404, "{path} at the agents' port");
        }
    }
    // Nothing came of it: the token was good all the time, where agents join.
    assert_eq!(agents.post(PATH, &join).await.status, 201);
}

#[tokio::test]
async fn one_address_has_so_many_sockets_without_hello_and_one_more_once_somebody_said_it() {
    let mut host = TestHost::new();
    host.set_sections("[agent_management]\nmax_unauthenticated_per_address = 2\n");
    host.launch().await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    // The join's own connection may still be on its way out.
    let (mut first, challenge) = until("a place", async || played.try_dial().await.ok()).await;
    let (_second, _) = until("another", async || played.try_dial().await.ok()).await;
    let refused = played.try_dial().await.err().expect("closed at once");
    assert!(!matches!(*refused, Error::Http(_)), "unread: {refused}");
    first.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert!(matches!(first.hear().await, Some(HostFrame::Welcome(_))));
    let _third = until("the place of who is no stranger any more", async || played.try_dial().await.ok()).await;
    assert!(played.try_dial().await.is_err());
}

#[tokio::test]
async fn a_host_has_so_many_strangers_and_the_next_waits_for_its_turn() {
    let mut host = TestHost::new();
    host.set_sections("[agent_management]\nmax_unauthenticated = 2\n");
    host.launch().await;
    let admin = host.admin().await;
    let played = Arc::new(Played::join(&host, &admin, "played").await);
    let (mut first, challenge) = played.dial().await;
    let _second = played.dial().await;
    let waiting = played.clone();
    let mut third = JoinSet::new();
    third.spawn(async move { waiting.dial().await });
    let stranger = Api::anonymous(&host.agents_url());
    assert_eq!(stranger.get("/livez").await.status, 200);
    assert!(third.try_join_next().is_none(), "both places are taken");
    first.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert!(matches!(first.hear().await, Some(HostFrame::Welcome(_))));
    third.join_next().await.expect("it dials").expect("its turn came");
}

#[tokio::test]
async fn a_host_holds_so_many_sessions_and_tells_the_next_to_come_again() {
    let mut host = TestHost::new();
    host.set_sections("[agent_management]\nmax_agents = 1\n");
    host.launch().await;
    let admin = host.admin().await;
    let (one, two) = (Played::join(&host, &admin, "one").await, Played::join(&host, &admin, "two").await);
    let (mut socket, _) = one.open().await;
    assert!(is_sent_away(&two).await);
    // Full or not, who has a place dials for it and has it: the host may not know yet that its older session is gone.
    let (newer, _) = one.open().await;
    assert_eq!(socket.ended().await.as_deref(), Some("replaced"));
    assert!(is_sent_away(&two).await, "one place is all there is");
    drop(newer);
    until("the place of who left", async || (!is_sent_away(&two).await).then_some(())).await;
}

/// Whether one more is told to come again; it leaves in any case.
async fn is_sent_away(played: &Played) -> bool {
    let (mut socket, challenge) = played.dial().await;
    socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    match socket.hear().await {
        Some(HostFrame::Welcome(_)) => false,
        Some(HostFrame::Goodbye(goodbye)) => {
            assert_eq!(goodbye.retry_after_ms, Some(5_000));
            assert_eq!(socket.ended().await, None);
            true
        }
        other => panic!("neither let in nor asked to come again: {other:?}"),
    }
}

#[tokio::test]
async fn of_many_agents_that_come_at_once_exactly_as_many_get_a_session_as_there_is_room_for() {
    const MOST: usize = 3;
    let mut host = TestHost::new();
    host.set_sections(&format!("[agent_management]\nmax_agents = {MOST}\n"));
    host.launch().await;
    let admin = host.admin().await;
    let mut all = Vec::new();
    for number in 0..4 * MOST {
        all.push(Played::join(&host, &admin, &format!("web-{number}")).await);
    }
    // Joined before, for whoever has dialled has to say who it is in time.
    let dialling = all.into_iter().map(|played| async move {
        let (socket, again) = tokio::join!(played.dial(), played.dial());
        (played, socket, again)
    });
    let comers = join_all(dialling).await;
    // All have been let through the door before any of them has said who it is.
    let mut greeting = JoinSet::new();
    for (played, (mut socket, challenge), again) in comers {
        greeting.spawn(async move {
            socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
            let heard = socket.hear().await;
            (played, socket, heard, again)
        });
    }
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for (played, mut socket, heard, again) in greeting.join_all().await {
        match heard {
            Some(HostFrame::Welcome(_)) => inside.push((played, socket, again)),
            Some(HostFrame::Goodbye(goodbye)) => {
                assert_eq!(goodbye.retry_after_ms, Some(5_000));
                assert_eq!(socket.ended().await, None);
                outside.push((played, again));
            }
            other => panic!("neither let in nor asked to come again: {other:?}"),
        }
    }
    assert_eq!((inside.len(), outside.len()), (MOST, 3 * MOST));

    // Who has a session has its place in a full house, too; who has none gets that of who left.
    let (played, mut socket, (mut again, challenge)) = inside.remove(0);
    again.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert!(matches!(again.hear().await, Some(HostFrame::Welcome(_))), "its own place");
    assert_eq!(socket.ended().await.as_deref(), Some("replaced"));
    let (played, (mut next, challenge)) = outside.remove(0);
    next.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert!(matches!(next.hear().await, Some(HostFrame::Goodbye(_))), "one more than there is room for");
    assert!(is_sent_away(&played).await, "nor when it dials anew");
    drop(inside);
    until("the place of who left", async || (!is_sent_away(&played).await).then_some(())).await;
}

#[tokio::test]
async fn who_only_asks_at_the_agents_door_keeps_no_place_there() {
    let mut host = TestHost::new();
    host.set_sections("[agent_management]\nmax_unauthenticated_per_address = 2\n");
    host.launch().await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    for path in ["/livez", "/nowhere", limits::PATH] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let asking = (0..2).map(|_| async { until("a place", async || asked(&host, &request).await).await });
        let strangers = join_all(asking).await;
        for (_, answer) in &strangers {
            assert!(answer.contains("connection: close\r\n") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
        }
        let agent = until("both places", async || Some((played.try_dial().await.ok()?, played.try_dial().await.ok()?)));
        drop((agent.await, strangers));
    }
}

/// A connection, and all that it is answered until the host closes it; `None` when there was no place for it.
async fn asked(host: &TestHost, request: &str) -> Option<(TcpStream, String)> {
    let mut stream = TcpStream::connect(host.agents_address()).await.expect("the door is there");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    let read = timeout(CEILING, stream.read_to_string(&mut answer)).await.expect("it is closed");
    read.ok().filter(|read| *read > 0).map(|_| (stream, answer))
}

/// Sends what the host was to run; whether it is the end of the session, and how.
async fn after_end(host: &TestHost, admin: &Api, name: &str, outcome: serde_json::Value) -> Option<String> {
    let played = Played::join(host, admin, name).await;
    let (mut socket, _) = played.open().await;
    let id = admin.exec(name, &json!({ "program": "true" })).await;
    let Some(HostFrame::Command(command)) = socket.hear().await else { panic!("no command") };
    let frame = json!({ "type": "RESULT", "attempt": command.attempt, "outcome": outcome });
    socket.say_text(frame.to_string()).await;
    match socket.hear().await {
        Some(HostFrame::ResultAck { .. }) => None,
        Some(HostFrame::Error(fault)) => {
            // Nothing of it was taken for true.
            assert!(!state_of(&admin.invocation(&id, name).await).is_terminal());
            Some(fault.code)
        }
        other => panic!("neither taken nor refused: {other:?}"),
    }
}

async fn an_end_that_cannot_be_ends_the_session_and_not_the_host(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let steps = |count: usize| json!({ "end": { "kind": "exited" }, "steps": vec![json!({}); count] });
    let stdout = |bytes: u64, head: u64| {
        json!({ "end": { "kind": "exited" }, "steps": [{ "exit_code": 0 }],
            "stdout": { "bytes": bytes, "head": head, "tail": 0 } })
    };
    for (name, outcome, code) in [
        ("eight", steps(8), None),
        ("nine", steps(9), Some("bad_result")),
        ("many", steps(300_000), Some("bad_result")),
        ("more-kept-than-there-was", stdout(5, 10), Some("bad_result")),
        ("kept-and-not-sent", stdout(10, 10), None),
    ] {
        assert_eq!(after_end(&host, &admin, name, outcome).await.as_deref(), code, "{name}");
    }
}

async fn only_the_key_that_joined_opens_a_session_and_only_for_this_nonce(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut played = Played::join(&host, &admin, "played").await;

    let (mut socket, challenge) = played.dial().await;
    let old = played.hello(&challenge);
    socket.say(&AgentFrame::Hello(old.clone())).await;
    assert!(matches!(socket.hear().await, Some(HostFrame::Welcome(_))), "the right key is let in");

    let (mut socket, fresh) = played.dial().await;
    assert_ne!(fresh.nonce, challenge.nonce);
    socket.say(&AgentFrame::Hello(old)).await;
    assert_eq!(socket.ended().await.as_deref(), Some("unauthenticated"), "a replayed HELLO");

    played.key = SigningKey::from_bytes(&[7; 32]);
    let (mut socket, challenge) = played.dial().await;
    socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert_eq!(socket.ended().await.as_deref(), Some("unauthenticated"), "another key");

    let (mut socket, _) = played.dial().await;
    socket.say(&AgentFrame::Heartbeat { attempts: 0 }).await;
    assert_eq!(socket.ended().await.as_deref(), Some("hello_expected"), "anything before HELLO");
}

async fn what_is_no_frame_ends_the_session_and_nothing_else(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    for (text, code) in [
        (r#"{"type":"REBOOT"}"#.to_owned(), "malformed_frame"),
        ("not json".to_owned(), "malformed_frame"),
        (r#"{"type":"ACK"}"#.to_owned(), "malformed_frame"),
        (r#"{"type":"ACK","attempt":"nonsense"}"#.to_owned(), "malformed_frame"),
    ] {
        let (mut socket, _) = played.open().await;
        socket.say_text(text.clone()).await;
        assert_eq!(socket.ended().await.as_deref(), Some(code), "{text}");
    }
    let (mut socket, _) = played.open().await;
    socket.say_text(" ".repeat(MAX_FRAME_BYTES + 1)).await;
    assert_eq!(socket.ended().await.as_deref(), Some("frame_too_long"));
    // Far over the limit the socket may be cut before anything can be said about it.
    let (mut socket, _) = played.open().await;
    socket.say_text(" ".repeat(2 * MAX_FRAME_BYTES)).await;
    let code = socket.ended().await;
    assert!(code.as_deref().is_none_or(|code| code == "frame_too_long"), "{code:?}");

    let id = admin.exec("web-1", &json!({ "program": "true" })).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded, "the others go on");
}

async fn nobody_can_report_about_another_machines_command(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let mut gated = Gated::new();
    let id = admin.exec("web-1", &gated.args()).await;
    gated.started().await;
    admin.reaches(&id, "web-1", State::Running).await;
    let (mut socket, _) = played.open().await;
    let attempt = format!("{id}/1").parse().expect("an attempt");
    let outcome = Outcome { stdout: StreamEnd::default(), ..Outcome::not_started(End::Cancelled { started: false }) };
    socket.say(&AgentFrame::Ack { attempt }).await;
    socket.say(&AgentFrame::Result { attempt, outcome, traceparent: None }).await;
    // An answer to the claim, or the end of the session, says that it was read.
    let heard = socket.hear().await;
    assert!(matches!(heard, Some(HostFrame::ResultAck { .. } | HostFrame::Error(_)) | None), "{heard:?}");
    assert_eq!(state_of(&admin.invocation(&id, "web-1").await), State::Running);

    gated.open();
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
    assert_eq!((gated.starts(), &invocation["stdout"]), (1, &json!("out\nend\n")));
}

async fn a_revoked_agent_is_cut_and_not_let_in_again(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    let (mut socket, _) = played.open().await;
    let answer = admin.post("/api/v1/agents/played/revoke", &json!({})).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    assert_eq!(socket.ended().await.as_deref(), Some("cut"));

    let (mut socket, challenge) = played.dial().await;
    socket.say(&AgentFrame::Hello(played.hello(&challenge))).await;
    assert_eq!(socket.ended().await.as_deref(), Some("revoked"));
    // Nobody runs anything on it either.
    let body = json!({ "verb": "exec.run", "args": { "program": "true" }, "target": { "agents": ["played"] } });
    assert_eq!(admin.post("/api/v1/commands", &body).await.code(), "no_target");
}

async fn a_taken_name_is_refused_and_its_token_is_good_for_another(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    let door = Api::anonymous(&host.agents_url());
    let made = admin.post("/api/v1/join-tokens", &json!({})).await.expect(201);
    let token = made["token"].as_str().expect("a token");
    let key = SigningKey::from_bytes(&rand::random());
    for revoked in [false, true] {
        if revoked {
            assert!(admin.post("/api/v1/agents/played/revoke", &json!({})).await.status < 300);
        }
        let refused = door.post(PATH, &join_body(token, "played", &key)).await;
        assert_eq!((refused.status, refused.code()), (409, "agent_name_taken"), "revoked: {revoked}");
        assert_eq!(refused.headers["content-type"], "application/problem+json");
        assert!(refused.json["detail"].as_str().is_some_and(|detail| detail.contains("played")), "{refused:?}");
        let known = admin.get("/api/v1/agents/played").await.expect(200);
        assert_eq!(known["id"], played.id.to_string(), "the name is still the first one's");
    }
    let joined = door.post(PATH, &join_body(token, "another", &key)).await.expect(201);
    assert_eq!(admin.get("/api/v1/agents/another").await.expect(200)["id"], joined["agent_id"]);
}

async fn the_newest_session_of_an_agent_wins(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let played = Played::join(&host, &admin, "played").await;
    let (mut older, first) = played.open().await;
    let (mut newer, second) = played.open().await;
    assert!(second.session_epoch > first.session_epoch);
    assert_eq!(older.ended().await.as_deref(), Some("replaced"));
    let id = admin.exec("played", &json!({ "program": "true" })).await;
    let heard = newer.hear().await;
    assert!(
        matches!(&heard, Some(HostFrame::Command(command)) if command.attempt.to_string() == format!("{id}/1")),
        "{heard:?}"
    );
}
