//! Who is calling: CHALLENGE, HELLO, WELCOME. An agent proves its key over a nonce that is used once.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::agent::{Agent, Facts, is_label_text};
use domain::time::millis;
use futures_util::{SinkExt as _, StreamExt as _};
use plan::envelope::{hello_parts, parse_key, verify};
use plan::id::AgentId;
use ports::journal::Cluster;
use ports::seal::{Badge, Seal};
use services::presence::{Opened, Unfinished};
use wire::codec::{decode, encode};
use wire::frame::{AgentFrame, Cancel, Challenge, Fault, Goodbye, Have, Hello, HostFrame, Welcome};
use wire::limits::{HELLO_WITHIN_MS, MAX_FACTS, MAX_HELLO_ATTEMPTS, NONCE_BYTES, PROTOCOL_VERSION};

use crate::connected::Coming;
use crate::room::Gateway;

/// Longest that an agent is kept waiting for its WELCOME while the store is away. Agents wait for a minute
/// by themselves; one that is sent away comes back later, at worst a minute after the store is.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// Longest wait for the end of the agent's older session.
const OVERTAKE_WITHIN: Duration = Duration::from_secs(5);
/// What an agent is asked to wait for which there is no place.
const RETRY_AFTER_MS: u64 = 5_000;
/// Longest text of a single fact.
const MAX_FACT_BYTES: usize = 256;

/// A session that is open.
pub struct Greeted {
    /// The agent.
    pub agent: AgentId,
    /// What it opens with.
    pub opened: Opened,
    /// The key it was taken by, when the agent could not know that it counts.
    pub by_next_key: Option<String>,
    /// Its place among the sessions, until it is one of them.
    pub place: Coming,
}

/// What came of a handshake.
pub enum Greeting {
    /// The session is open.
    Open(Box<Greeted>),
    /// It is who it says, and nobody has approved it yet.
    Waits(Box<Hello>),
    /// It went, or was told why not; the socket is to be dropped.
    Gone,
}

/// Why there is no session.
enum Refusal {
    Over(Box<HostFrame>),
    Waits(Box<Hello>),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        Refusal::Over(Box::new(HostFrame::Error(fault)))
    }
}

/// Greets whoever is on `socket` and showed this certificate.
pub async fn greet(gateway: &Gateway, socket: &mut WebSocket, shown: Option<&Badge>) -> Greeting {
    let patience = Duration::from_millis(HELLO_WITHIN_MS);
    let cluster = gateway.seal.cluster();
    let nonce: [u8; NONCE_BYTES] = gateway.ids.secret();
    let asked = tokio::time::timeout(patience, ask(socket, gateway.seal.as_ref(), &nonce)).await;
    let verdict = match asked {
        Err(_) => Err(fault("hello_timeout", format!("no HELLO within {HELLO_WITHIN_MS} ms")).into()),
        Ok(Ok(Some(hello))) => admit(gateway, cluster, &nonce, hello, shown).await,
        Ok(Ok(None)) => return Greeting::Gone,
        Ok(Err(fault)) => Err(fault.into()),
    };
    match verdict {
        Ok(greeted) => {
            welcome(gateway, socket, greeted).await.map_or(Greeting::Gone, |greeted| Greeting::Open(Box::new(greeted)))
        }
        Err(Refusal::Waits(hello)) => Greeting::Waits(hello),
        Err(Refusal::Over(farewell)) => {
            tracing::info!(?farewell, "agent not admitted");
            _ = tokio::time::timeout(patience, send(socket, &farewell)).await;
            _ = socket.close().await;
            Greeting::Gone
        }
    }
}

/// Tells the agent that its session is open; `None`, and it is closed again, when it is gone.
pub async fn welcome(gateway: &Gateway, socket: &mut WebSocket, greeted: Greeted) -> Option<Greeted> {
    let frame = HostFrame::Welcome(opening(gateway, &greeted.opened));
    let patience = Duration::from_millis(HELLO_WITHIN_MS);
    if tokio::time::timeout(patience, send(socket, &frame)).await.is_ok_and(|sent| sent) {
        return Some(greeted);
    }
    let closed = gateway.presence.close(greeted.agent, greeted.opened.epoch, Vec::new()).await;
    _ = closed.inspect_err(|error| tracing::warn!(%error, "session could not be closed in the store"));
    None
}

/// What an agent is told whose key was revoked.
pub fn revoked() -> Fault {
    fault("revoked", "this agent's key was revoked; join again with another key".to_owned())
}

async fn ask(socket: &mut WebSocket, seal: &dyn Seal, nonce: &[u8]) -> Result<Option<Hello>, Fault> {
    let cluster = seal.cluster();
    let challenge = Challenge {
        nonce: URL_SAFE_NO_PAD.encode(nonce),
        cluster_id: cluster.id,
        cluster_epoch: cluster.epoch,
        epoch_signature: Some(seal.prove_epoch()),
        keys: seal.turns(),
        versions: vec![PROTOCOL_VERSION],
    };
    if !send(socket, &HostFrame::Challenge(challenge)).await {
        return Ok(None);
    }
    loop {
        let text = match socket.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Binary(_))) => return Err(fault("malformed_frame", "frames are text".to_owned())),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
        };
        let frame = decode::<AgentFrame>(&text).map_err(|error| fault(error.code(), error.to_string()))?;
        return match frame {
            AgentFrame::Hello(hello) => Ok(Some(hello)),
            _ => Err(fault("hello_expected", "the first frame of an agent is HELLO".to_owned())),
        };
    }
}

async fn admit(
    gateway: &Gateway,
    cluster: Cluster,
    nonce: &[u8],
    hello: Hello,
    shown: Option<&Badge>,
) -> Result<Greeted, Refusal> {
    if hello.protocol != PROTOCOL_VERSION {
        return Err(fault("protocol_version", format!("version {} is not among those offered", hello.protocol)).into());
    }
    let said = hello_parts(cluster.id, hello.agent_id, nonce);
    if shown.is_some_and(|badge| !is_of(badge, &hello, &said)) {
        let message = "the certificate that was shown is another agent's, or of another key than signed";
        return Err(fault("unauthenticated", message.to_owned()).into());
    }
    let proven = || gateway.directory.get(hello.agent_id).filter(|known| proves(&known.agent, &hello, &said));
    let known = match proven() {
        Some(known) => known,
        None => {
            // Another host may have enrolled it, or taken its other key, a moment ago.
            if let Err(error) = gateway.enrol.look_up(hello.agent_id).await {
                tracing::debug!(%error, "an agent could not be looked up");
            }
            // One answer for every way of not being who one says: a stranger learns nothing about ids.
            proven().ok_or_else(refused)?
        }
    };
    if known.agent.revoked_at.is_some() {
        return Err(revoked().into());
    }
    check_held(hello.unfinished.len() + hello.unacknowledged.len())?;
    if known.agent.awaits_approval {
        return Err(Refusal::Waits(Box::new(hello)));
    }
    open(gateway, hello).await.map_err(Refusal::Over)
}

/// Opens a session for an agent that proved who it is.
///
/// # Errors
/// What it is to be told.
pub async fn open(gateway: &Gateway, hello: Hello) -> Result<Greeted, Box<HostFrame>> {
    let agent = hello.agent_id;
    let over = |fault| Box::new(HostFrame::Error(fault));
    // From here on it counts, so that those who come while it is on its way do not find its place free.
    let Some(place) = gateway.connected.expect(agent, gateway.options.max_agents) else {
        return Err(Box::new(goodbye("the host holds as many agents as it may; come again")));
    };
    let counts = gateway.directory.get(agent).map(|known| known.agent.public_key.clone());
    let by_next_key = hello.next_key.map(|next| next.public_key).filter(|next| counts.as_ref() == Some(next));
    let facts = facts(hello.facts).map_err(over)?;
    let unfinished: Vec<Unfinished> =
        hello.unfinished.iter().map(|held| Unfinished { key: held.attempt, started: held.started }).collect();
    // A store that is away keeps an end from being written down; then what was sent stays possibly sent.
    _ = tokio::time::timeout(OVERTAKE_WITHIN, gateway.connected.overtake(agent)).await;
    let open = || gateway.presence.open(agent, facts.clone(), &unfinished, &hello.unacknowledged);
    let opened = gateway.patience.until_stored("a session", open);
    match tokio::time::timeout(OPEN_WITHIN, opened).await {
        Ok(Some(opened)) => Ok(Greeted { agent, opened, by_next_key, place }),
        Ok(None) => Err(over(refused())),
        Err(_) => Err(over(fault("unavailable", "the host's store is away; try again".to_owned()))),
    }
}

/// Whether the key that counts has signed, whichever of its two the agent takes for that.
fn proves(agent: &Agent, hello: &Hello, said: &[u8]) -> bool {
    let Ok(key) = parse_key(&agent.public_key) else { return false };
    let next = hello.next_key.as_ref().map(|next| &next.signature);
    [Some(&hello.signature), next].into_iter().flatten().any(|signature| verify(&key, &[said], signature).is_ok())
}

/// Whether a certificate is this agent's, and of the key that HELLO is signed with.
fn is_of(badge: &Badge, hello: &Hello, said: &[u8]) -> bool {
    let key = parse_key(&badge.public_key);
    badge.agent == hello.agent_id && key.is_ok_and(|key| verify(&key, &[said], &hello.signature).is_ok())
}

fn refused() -> Fault {
    fault("unauthenticated", "unknown agent or wrong signature".to_owned())
}

fn opening(gateway: &Gateway, opened: &Opened) -> Welcome {
    Welcome {
        session_epoch: opened.epoch,
        now_ms: gateway.clock.now().as_millis(),
        heartbeat_ms: millis(gateway.options.heartbeat),
        telemetry_ms: millis(gateway.options.telemetry),
        telemetry_jitter_ms: Some(millis(gateway.options.telemetry_jitter)),
        max_concurrency: gateway.options.agent_concurrency,
        send: opened.send.clone(),
        cancel: opened.cancel.iter().map(|attempt| Cancel { attempt: *attempt, grace_ms: None }).collect(),
        forget: opened.forget.clone(),
        run: opened.run.iter().map(|(key, _)| *key).collect(),
        have: opened
            .have
            .iter()
            .map(|(attempt, [stdout, stderr])| Have { attempt: *attempt, stdout: *stdout, stderr: *stderr })
            .collect(),
    }
}

fn check_held(held: usize) -> Result<(), Fault> {
    match held {
        ..=MAX_HELLO_ATTEMPTS => Ok(()),
        _ => Err(fault("hello_too_long", format!("{held} attempts; at most {MAX_HELLO_ATTEMPTS}"))),
    }
}

/// What an agent says of its machine, held to size: it will be shown and matched for years.
fn facts(said: wire::facts::Facts) -> Result<Facts, Fault> {
    let wire::facts::Facts {
        version,
        os,
        kernel,
        arch,
        hostname,
        container_engine,
        compose,
        mut capabilities,
        labels,
        boot_id,
    } = said;
    let texts = [&version, &os, &kernel, &arch, &hostname, &boot_id];
    let optional = [&container_engine, &compose];
    let long = texts
        .into_iter()
        .chain(optional.into_iter().flatten())
        .find(|text| text.len() > MAX_FACT_BYTES || text.chars().any(char::is_control));
    if let Some(text) = long {
        let start: String = text.chars().filter(|c| !c.is_control()).take(32).collect();
        let rule = format!("fact `{start}…` is over {MAX_FACT_BYTES} bytes or holds control characters");
        return Err(fault("bad_facts", rule));
    }
    let bad_word = capabilities.iter().chain(labels.keys()).chain(labels.values()).find(|word| !is_label_text(word));
    if let Some(word) = bad_word {
        let start: String = word.chars().filter(|c| !c.is_control()).take(32).collect();
        return Err(fault("bad_facts", format!("`{start}` is no capability or label: 1 to 63 of [A-Za-z0-9._/-]")));
    }
    if capabilities.len() > MAX_FACTS || labels.len() > MAX_FACTS || os.is_empty() {
        return Err(fault("bad_facts", format!("an os, and at most {MAX_FACTS} capabilities and labels each")));
    }
    capabilities.sort();
    capabilities.dedup();
    Ok(Facts { version, os, kernel, arch, hostname, container_engine, compose, capabilities, labels, boot_id })
}

/// Writes one frame; `false` when the socket is gone.
pub(crate) async fn send(socket: &mut WebSocket, frame: &HostFrame) -> bool {
    socket.send(Message::Text(encode(frame).into())).await.is_ok()
}

/// What an agent is told that may come again.
pub(crate) fn goodbye(reason: &str) -> HostFrame {
    HostFrame::Goodbye(Goodbye { reason: reason.to_owned(), retry_after_ms: Some(RETRY_AFTER_MS) })
}

fn fault(code: &str, message: String) -> Fault {
    Fault { code: code.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn said(change: impl FnOnce(&mut wire::facts::Facts)) -> Result<(), String> {
        let text = |text: &str| text.to_owned();
        let mut said = wire::facts::Facts {
            version: text("1"),
            os: text("linux"),
            kernel: text("6"),
            arch: text("x86_64"),
            hostname: text("web"),
            container_engine: None,
            compose: None,
            capabilities: Vec::new(),
            labels: BTreeMap::new(),
            boot_id: text("b"),
        };
        change(&mut said);
        facts(said).map(drop).map_err(|fault| fault.code)
    }

    #[test]
    fn what_an_agent_says_is_held_to_size_at_every_edge() {
        let refused = Err("bad_facts".to_owned());
        assert_eq!(said(|facts| facts.os.clear()), refused);
        for (length, expected) in [(MAX_FACT_BYTES, Ok(())), (MAX_FACT_BYTES + 1, refused.clone())] {
            assert_eq!(said(|facts| facts.kernel = "k".repeat(length)), expected);
            assert_eq!(said(|facts| facts.compose = Some("c".repeat(length))), expected);
        }
        for (length, expected) in [(0, refused.clone()), (63, Ok(())), (64, refused.clone())] {
            let word = "w".repeat(length);
            assert_eq!(said(|facts| facts.capabilities = vec![word.clone()]), expected);
            assert_eq!(said(|facts| facts.labels = BTreeMap::from([(word.clone(), "v".to_owned())])), expected);
            assert_eq!(said(|facts| facts.labels = BTreeMap::from([("k".to_owned(), word.clone())])), expected);
        }
        for (count, expected) in [(MAX_FACTS, Ok(())), (MAX_FACTS + 1, refused)] {
            let words = || (0..count).map(|n| format!("w{n}"));
            assert_eq!(said(|facts| facts.capabilities = words().collect()), expected);
            assert_eq!(said(|facts| facts.labels = words().map(|word| (word, "v".to_owned())).collect()), expected);
        }
        assert!(check_held(MAX_HELLO_ATTEMPTS).is_ok());
        assert_eq!(check_held(MAX_HELLO_ATTEMPTS + 1).expect_err("too many").code, "hello_too_long");
    }
}
