//! Things to store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::access::{Grant, Principal, Role};
use domain::attempt::Event;
use domain::audit::{Entry, Level};
use domain::command::{Command, NewInvocation};
use domain::priority::Priority;
use domain::terms::Terms;
use domain::time::Timestamp;
use domain::verb::VerbName;
use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, AttemptKey, CommandId, KeyId, TokenId, UserId};
use plan::outcome::{End, Outcome, Stream};
use ports::agents::{Agents, JoinToken, Joined, NewAgent};
use ports::commands::{Advance, AttemptEnd, Chunk, NewCommand, Word};
use ports::users::User;
use uuid::Uuid;

/// An instant that everything else is a little after.
pub const NOON: Timestamp = Timestamp(1_700_000_000_000_000);

/// `NOON` and so many seconds.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp(NOON.0 + seconds * 1_000_000)
}

/// A fresh UUID that sorts after all before it, as UUIDv7 do.
pub fn uuid() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Uuid::from_u128(0x018b_cfe5_6800_7000_8000_0000_0000_0000 + u128::from(n))
}

/// An agent as commands need it.
#[derive(Clone, Debug)]
pub struct Machine {
    pub id: AgentId,
    pub name: String,
    pub site: String,
}

pub fn entry(action: &'static str) -> Entry {
    Entry {
        at: NOON,
        level: Level::Info,
        category: "commands",
        action,
        actor: Some("ada".into()),
        resource: Some(("command", "c-1".into())),
        details: r#"{"n":1}"#.into(),
        ip_address: Some("192.0.2.1".into()),
        user_agent: None,
        correlation_id: Some("r-1".into()),
    }
}

pub fn token(site: &str) -> JoinToken {
    JoinToken {
        id: TokenId(uuid()),
        secret_sha256: "5ec".into(),
        site: site.into(),
        labels: BTreeMap::from([("tier".into(), "web".into())]),
        needs_approval: false,
        created_by: "ada".into(),
        created_at: NOON,
        expires_at: at(3600),
        used_at: None,
        used_by: None,
        revoked_at: None,
    }
}

pub fn newcomer(token: TokenId, name: &str) -> NewAgent {
    NewAgent {
        token,
        secret_sha256: "5ec".into(),
        id: AgentId(uuid()),
        name: name.into(),
        public_key: format!("key-{}", uuid()),
        needs_approval: false,
        at: at(1),
        audit: entry("agent.join"),
    }
}

/// Enrols one agent.
pub async fn enrol(store: &impl Agents, name: &str, site: &str) -> Machine {
    let token = token(site);
    store.create_token(token.clone(), entry("token.create"), None).await.expect("token stored");
    match store.join(newcomer(token.id, name)).await.expect("join answered") {
        Joined::Enrolled(agent) => Machine { id: agent.id, name: agent.name, site: agent.site },
        other => panic!("not enrolled: {other:?}"),
    }
}

/// A command on `machines` that waits an hour to start.
pub fn command(machines: &[&Machine]) -> NewCommand {
    let id = CommandId(uuid());
    let command = Command {
        id,
        verb: VerbName::parse("docker.ps").expect("a verb"),
        plugin: "docker".into(),
        plugin_version: "1.2.3".into(),
        plugin_digest: "d1".repeat(32),
        args: r#"{"all":true}"#.into(),
        target: r#"{"all":true}"#.into(),
        priority: Priority::Normal,
        submitter: "ada \"the first\"".into(),
        principal: Some(Principal::Key { key: KeyId(uuid()), owner: UserId(uuid()) }),
        created_at: NOON,
        start_by: at(3600),
        run_timeout_ms: 60_000,
        terms: Terms::default(),
        parent: None,
        summary: "list containers".into(),
        correlation_id: format!("r-{id}"),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
    };
    let invocations = machines.iter().map(|machine| NewInvocation {
        agent: machine.id,
        agent_name: machine.name.clone(),
        site: machine.site.clone(),
        envelope: SignedEnvelope { signed: format!("signed-{}", machine.id), signature: "signature".into() },
        held: false,
    });
    NewCommand {
        command: Arc::new(command),
        invocations: invocations.collect(),
        audit: entry("command.submit"),
        once: None,
    }
}

/// The same with its intent changed.
pub fn with(mut new: NewCommand, change: impl FnOnce(&mut Command)) -> NewCommand {
    let mut command = (*new.command).clone();
    change(&mut command);
    new.command = Arc::new(command);
    new
}

pub fn key(command: CommandId) -> AttemptKey {
    AttemptKey { command, number: 1 }
}

pub fn advance(command: CommandId, agent: AgentId, seconds: i64, events: &[Event]) -> Advance {
    Advance {
        key: key(command),
        agent,
        events: events.to_vec(),
        at: at(seconds),
        message: None,
        end: None,
        word: Word::Anyone,
    }
}

/// It ran to its end, and its result says so.
pub fn finish(command: CommandId, agent: AgentId, seconds: i64, succeeded: bool) -> Advance {
    let outcome = Outcome { duration_ms: 12, ..Outcome::not_started(End::Exited) };
    let end =
        AttemptEnd { outcome, result: Some(r#"{"ok":1}"#.into()), summary: Some("1 ok".into()), parse_fault: None };
    Advance { end: Some(end), ..advance(command, agent, seconds, &[Event::Finish { succeeded }]) }
}

pub fn chunk(command: CommandId, agent: AgentId, offset: u64, data: &str) -> Chunk {
    Chunk { key: key(command), agent, stream: Stream::Stdout, offset, data: data.as_bytes().to_vec(), at: at(5) }
}

pub fn user(name: &str, role: Role) -> User {
    User {
        id: UserId(uuid()),
        name: name.into(),
        password_hash: "$argon2id$".into(),
        role,
        grants: vec![Grant::ordinary()],
        token_version: 1,
        created_at: NOON,
    }
}
