//! `/ws/events` and `/events` from outside: who may listen, until when, and what a listener that is cut off again and
//! again hears.

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Api, exec_body};
use tests::events::Events;
use tests::host::TestHost;
use tests::played::Played;
use tests::wait::{CEILING, until};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Listener {
    /// Opens a socket, with the token in its header if there is one.
    async fn open(host: &TestHost, token: Option<&str>, cursor: Option<u64>) -> Result<Listener, u16> {
        let query = cursor.map(|cursor| format!("?cursor={cursor}")).unwrap_or_default();
        let url = format!("{}/ws/events{query}", host.url().replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("a request");
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Listener(stream)),
            Err(Error::Http(refused)) => Err(refused.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn say(&mut self, text: impl Into<String>) {
        self.0.send(Message::Text(text.into().into())).await.expect("the socket is open");
    }

    /// The next frame; `None` when the socket is closed.
    async fn hear(&mut self) -> Option<Value> {
        loop {
            match timeout(CEILING, self.0.next()).await.expect("a frame or the end in time") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next event that is part of the log: its id and what it is.
    async fn event(&mut self) -> Option<(u64, Value)> {
        loop {
            let frame = self.hear().await?;
            if let Some(id) = frame["id"].as_u64() {
                return Some((id, frame));
            }
        }
    }

    /// The code of the problem that ends the conversation.
    async fn refused(&mut self) -> String {
        let mut code = String::new();
        while let Some(frame) = self.hear().await {
            if frame["type"] == "ERROR" {
                code = frame["problem"]["code"].as_str().expect("a code").to_owned();
            }
        }
        code
    }
}

#[tokio::test]
async fn a_socket_is_for_who_proves_who_they_are_and_for_as_long_as_they_may() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    assert_eq!(Listener::open(&host, Some("forged"), None).await.err(), Some(401));
    assert_eq!(
        Listener::open(&host, Some(admin.token()), Some(u64::MAX)).await.err(),
        None,
        "it opens, and says why not"
    );
    // Somebody who says nothing is sent away after five seconds; who says something else, at once.
    let mut silent = Listener::open(&host, None, None).await.expect("opens");
    for wrong in
        [r#"{"type":"AUTH","token":"forged"}"#, r#"{"type":"HELLO"}"#, "AUTH", r#"{"type":"AUTH","token":"a","x":1}"#]
    {
        let mut other = Listener::open(&host, None, None).await.expect("opens");
        other.say(wrong).await;
        assert!(matches!(other.refused().await.as_str(), "invalid_token" | "unauthenticated"), "{wrong}");
    }
    assert_eq!(silent.refused().await, "unauthenticated");

    let ada = host.user(&admin, "ada", "viewer").await;
    let mut by_header = Listener::open(&host, Some(ada.token()), None).await.expect("opens");
    let mut by_frame = Listener::open(&host, None, None).await.expect("opens");
    by_frame.say(json!({ "type": "AUTH", "token": ada.token() }).to_string()).await;
    for listener in [&mut by_header, &mut by_frame] {
        assert_eq!(listener.hear().await.expect("a frame")["type"], "READY");
        assert_eq!(listener.hear().await.expect("a frame")["event"], "plugins");
    }
    let body = json!({ "refresh_token": "vwr_another" });
    ada.post("/api/v1/auth/logout", &body).await.expect(204);
    assert_eq!((by_header.refused().await, by_frame.refused().await), ("token_expired".into(), "token_expired".into()));
}

#[tokio::test]
async fn one_principal_has_so_many_streams_by_whichever_way_and_others_go_on() {
    let mut host = TestHost::new();
    host.set_sections("[security]\nstreams_per_principal = 2\n");
    host.launch().await;
    let admin = host.admin().await;
    let ada = host.user(&admin, "ada", "viewer").await;
    let listener = Listener::open(&host, Some(ada.token()), None).await.expect("opens");
    let by_events = ada.request(Method::GET, "/api/v1/events").send().await.expect("an answer");
    assert_eq!(by_events.status().as_u16(), 200);
    let refused = ada.get("/api/v1/events").await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert_eq!(refused.headers["retry-after"], "1");
    let mut third = Listener::open(&host, Some(ada.token()), None).await.expect("opens, and says why not");
    assert_eq!(third.refused().await, "rate_limited");
    let mut another = Listener::open(&host, Some(admin.token()), None).await.expect("opens");
    assert_eq!(another.hear().await.expect("a frame")["type"], "READY", "another principal");
    drop(listener);
    until("the place of the one that ended", async || {
        let mut again = Listener::open(&host, Some(ada.token()), None).await.ok()?;
        (again.hear().await?["type"] == "READY").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_socket_is_one_of_its_addresses_connections_for_as_long_as_it_lives() {
    let mut host = TestHost::new();
    host.set_server("max_connections_per_address = 8");
    host.launch().await;
    let admin = host.admin().await;
    let url = format!("{}/ws/events", host.url().replacen("http", "ws", 1));
    let open = async || {
        let mut request = url.as_str().into_client_request().expect("a request");
        let value = format!("Bearer {}", admin.token()).parse().expect("a header");
        request.headers_mut().insert("authorization", value);
        connect_async(request).await.ok().map(|(stream, _)| Listener(stream))
    };
    let mut listeners = Vec::new();
    while let Some(listener) = open().await {
        listeners.push(listener);
        assert!(listeners.len() <= 8, "never refused");
    }
    // Whoever asks otherwise has a few of the eight.
    assert!(listeners.len() > 3, "{}", listeners.len());
    for listener in &mut listeners {
        assert_eq!(listener.hear().await.expect("a frame")["type"], "READY");
    }
    drop(listeners.pop());
    listeners.push(until("the place of the one that ended", open).await);
}

async fn a_hundred_commands_come_and_go(admin: &Api) {
    for _ in 0..100 {
        let id = admin.submit(&exec_body("box", &json!({ "program": "true" }))).await;
        admin.cancel(&id).await;
    }
}

#[tokio::test]
async fn a_listener_cut_off_a_hundred_times_hears_everything_once() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.put_plugin("exec").await;
    host.serves_plugin(&admin, "exec").await;
    Played::away(&host, &admin, "box", |_| ()).await;
    let mut first = Listener::open(&host, Some(admin.token()), None).await.expect("opens");
    let begin = first.hear().await.expect("a frame")["cursor"].as_u64().expect("a cursor");
    drop(first);
    // Things happen while the listener comes and goes.
    let happen = a_hundred_commands_come_and_go(&admin);
    let listen = async {
        let (mut cursor, mut heard) = (begin, Vec::new());
        for cut in 0..100 {
            let mut listener = Listener::open(&host, Some(admin.token()), Some(cursor)).await.expect("opens");
            for _ in 0..=cut % 2 {
                let (id, event) = listener.event().await.expect("an event");
                heard.push(event);
                cursor = id;
            }
            // Gone without a word, with who knows what on its way.
            drop(listener);
        }
        heard
    };
    let ((), heard) = tokio::join!(happen, listen);
    let mut whole = Listener::open(&host, Some(admin.token()), Some(begin)).await.expect("opens");
    let mut expected = Vec::new();
    while expected.len() < heard.len() {
        expected.push(whole.event().await.expect("an event").1);
    }
    assert_eq!(heard, expected);
    assert_eq!(heard.len(), 150);
}

#[tokio::test]
async fn a_stream_cut_off_a_hundred_times_tells_everything_once() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.put_plugin("exec").await;
    host.serves_plugin(&admin, "exec").await;
    Played::away(&host, &admin, "box", |_| ()).await;
    let open = async |cursor: &str| {
        let request = admin.request(Method::GET, "/api/v1/events").header("last-event-id", cursor);
        Events::of(request.send().await.expect("an answer"))
    };
    // What is in no log, as which verbs there are, has no id.
    let logged = async |stream: &mut Events| loop {
        let event = stream.next().await.expect("an event");
        if !event.id.is_empty() {
            return event;
        }
    };
    let begin = "0".to_owned();
    let listen = async {
        let (mut cursor, mut heard) = (begin.clone(), Vec::new());
        for cut in 0..100 {
            let mut stream = open(&cursor).await;
            for _ in 0..=cut % 2 {
                let event = logged(&mut stream).await;
                cursor.clone_from(&event.id);
                heard.push(event);
            }
            drop(stream);
        }
        heard
    };
    let ((), heard) = tokio::join!(a_hundred_commands_come_and_go(&admin), listen);
    let mut whole = open(&begin).await;
    let mut expected = Vec::new();
    while expected.len() < heard.len() {
        expected.push(logged(&mut whole).await);
    }
    assert_eq!(heard, expected);
    assert_eq!(heard.len(), 150);
}
