//! An agent played by the test, to say on the agents' door what a real one never would.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use plan::envelope::{hello_parts, join_parts, key_text, rotate_parts, sign};
use plan::id::{AgentId, ClusterId};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use wire::codec::{decode, encode};
use wire::facts::Facts;
use wire::frame::{AgentFrame, Challenge, Hello, HostFrame, NewKey, Welcome};
use wire::limits::PROTOCOL_VERSION;

use crate::client::{Answer, Api};
use crate::host::TestHost;
use crate::wait::{CEILING, until};

/// An enrolled agent without a program.
#[derive(Debug)]
pub struct Played {
    /// Its key.
    pub key: SigningKey,
    /// Its id.
    pub id: AgentId,
    /// The installation it joined.
    pub cluster: ClusterId,
    ws: String,
}

/// Body of the join of one with this key.
pub fn join_body(token: &str, name: &str, key: &SigningKey) -> Value {
    json!({
        "token": token, "name": name, "public_key": key_text(&key.verifying_key()),
        "proof": sign(key, &[&join_parts(token, name)]),
    })
}

/// One socket to the agents' door.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Played {
    /// Enrols a new one.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn join(host: &TestHost, admin: &Api, name: &str) -> Played {
        Played::join_as(host, admin, name, &json!({})).await
    }

    /// Enrols a new one by a token as `wanted`.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn join_as(host: &TestHost, admin: &Api, name: &str, wanted: &Value) -> Played {
        let key = SigningKey::from_bytes(&rand::random());
        let joined = Played::try_join(host, admin, name, wanted, key).await;
        joined.unwrap_or_else(|answer| panic!("not joined: {answer:?}"))
    }

    /// Enrols one with this key.
    ///
    /// # Errors
    /// The host's answer when it refuses.
    ///
    /// # Panics
    /// When there is no token for it.
    pub async fn try_join(
        host: &TestHost,
        admin: &Api,
        name: &str,
        wanted: &Value,
        key: SigningKey,
    ) -> Result<Played, Answer> {
        let token = admin.post("/api/v1/join-tokens", wanted).await.expect(201);
        let token = token["token"].as_str().expect("a token");
        let door = Api::anonymous(&host.agents_url());
        let answer = door.post(wire::join::PATH, &join_body(token, name, &key)).await;
        if answer.status != 201 {
            return Err(answer);
        }
        let joined = answer.expect(201);
        let text = |name: &str| joined[name].as_str().expect("text").to_owned();
        let id = text("agent_id").parse().expect("an agent's id");
        let cluster = text("cluster_id").parse().expect("a cluster's id");
        Ok(Played { key, id, cluster, ws: text("ws_url") })
    }

    /// Enrols a new one that comes once, as a machine of these facts, and is away from then on: commands for it are
    /// accepted, and nothing of them runs.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn away(host: &TestHost, admin: &Api, name: &str, change: impl FnOnce(&mut Facts)) -> Played {
        let played = Played::join(host, admin, name).await;
        let (mut socket, challenge) = played.dial().await;
        let mut hello = played.hello(&challenge);
        change(&mut hello.facts);
        socket.say(&AgentFrame::Hello(hello)).await;
        assert!(matches!(socket.hear().await, Some(HostFrame::Welcome(_))), "`{name}` is not let in");
        drop(socket);
        let path = format!("/api/v1/agents/{name}");
        until("the agent is away", async || (admin.get(&path).await.json["status"] == "offline").then_some(())).await;
        played
    }

    /// Opens a socket; what the host says first.
    ///
    /// # Panics
    /// When there is no challenge.
    pub async fn dial(&self) -> (Socket, Challenge) {
        self.try_dial().await.expect("the door opens")
    }

    /// The same at a door that may stay shut.
    ///
    /// # Errors
    /// What became of the connection, or of the upgrade.
    ///
    /// # Panics
    /// When it opens and there is no challenge.
    pub async fn try_dial(&self) -> Result<(Socket, Challenge), Box<Error>> {
        let (stream, _) = connect_async(&self.ws).await?;
        let mut socket = Socket(stream);
        match socket.hear().await {
            Some(HostFrame::Challenge(challenge)) => Ok((socket, challenge)),
            other => panic!("expected CHALLENGE, heard {other:?}"),
        }
    }

    /// A good answer to a challenge.
    ///
    /// # Panics
    /// When the nonce is not base64url.
    pub fn hello(&self, challenge: &Challenge) -> Hello {
        let nonce = URL_SAFE_NO_PAD.decode(&challenge.nonce).expect("base64url");
        let signature = sign(&self.key, &[&hello_parts(self.cluster, self.id, &nonce)]);
        let facts = Facts {
            version: "0.1.0".into(),
            os: "linux".into(),
            capabilities: vec!["exec".into()],
            ..Facts::default()
        };
        Hello {
            protocol: PROTOCOL_VERSION,
            agent_id: self.id,
            signature,
            facts,
            next_key: None,
            unfinished: Vec::new(),
            unacknowledged: Vec::new(),
        }
    }

    /// Makes another key; answers the one before.
    pub fn turn_key(&mut self) -> SigningKey {
        std::mem::replace(&mut self.key, SigningKey::from_bytes(&rand::random()))
    }

    /// Says that its key is to take the place of `old`.
    pub fn new_key(&self, old: &SigningKey) -> NewKey {
        let (from, to) = (key_text(&old.verifying_key()), key_text(&self.key.verifying_key()));
        let said = rotate_parts(self.cluster, self.id, &from, &to);
        NewKey { public_key: to, signature: sign(old, &[&said]), new_signature: sign(&self.key, &[&said]) }
    }

    /// Opens a session.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn open(&self) -> (Socket, Welcome) {
        let (mut socket, challenge) = self.dial().await;
        socket.say(&AgentFrame::Hello(self.hello(&challenge))).await;
        match socket.hear().await {
            Some(HostFrame::Welcome(welcome)) => (socket, welcome),
            other => panic!("expected WELCOME, heard {other:?}"),
        }
    }
}

impl Socket {
    /// Says a frame.
    pub async fn say(&mut self, frame: &AgentFrame) {
        self.say_text(encode(frame)).await;
    }

    /// Says anything. A host that has closed already does not hear it.
    pub async fn say_text(&mut self, text: String) {
        let _ = self.0.send(Message::Text(text.into())).await;
    }

    /// The host's next frame; `None` when the socket is closed.
    ///
    /// # Panics
    /// When nothing comes, or no frame.
    pub async fn hear(&mut self) -> Option<HostFrame> {
        loop {
            match tokio::time::timeout(CEILING, self.0.next()).await.expect("a frame or the end in time") {
                Some(Ok(Message::Text(text))) => return Some(decode(&text).expect("a frame")),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Reads on until the host ends the conversation; the code of its ERROR, if it said one.
    pub async fn ended(&mut self) -> Option<String> {
        let mut code = None;
        while let Some(frame) = self.hear().await {
            if let HostFrame::Error(fault) = frame {
                code = Some(fault.code);
            }
        }
        code
    }
}
