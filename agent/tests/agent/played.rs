//! A host that the test plays, and the real agent that talks to it.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};

use agent::identity::Identity;
use agent::line::HostTrust;
use agent::supervisor::protocol::lock_path;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::envelope::{hello_parts, seal, verify};
use plan::id::AttemptKey;
use plan::keyring::Turn;
use plan::outcome::{Outcome, Stream};
use plan::step::Plan;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use wire::codec::{decode, encode};
use wire::frame::{AgentFrame, Challenge, Command, Hello, HostFrame, Welcome};

use crate::support::{CEILING, agent_id, cluster_id, cluster_key, envelope, plan, step};

const POLICY: &str = r#"
effects = ["read"]
max_concurrency = 2
[programs.sh]
path = "/bin/sh"
[programs.uname]
path = "/usr/bin/uname"
args = [["-s"]]
"#;

pub struct Bed {
    pub dir: tempfile::TempDir,
    pub listener: TcpListener,
    pub agent: Option<Child>,
    /// Variables it is started with from the next time on.
    pub environment: Vec<(&'static str, String)>,
    /// How the host says its key came to be.
    pub turns: Vec<Turn>,
}

impl Bed {
    pub async fn new() -> Bed {
        let mut bed = Bed::idle().await;
        bed.start();
        bed
    }

    /// One whose agent has not been started.
    pub async fn idle() -> Bed {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let data = dir.path().join("data");
        agent::identity::make_data_dir(&data).expect("makes it");
        let identity = Identity {
            agent_id: agent_id(),
            name: "box".to_owned(),
            cluster_id: cluster_id(),
            cluster_key: cluster_key().verifying_key(),
            ws_url: format!("ws://{}/ws/agent", listener.local_addr().expect("is bound")),
            host: HostTrust::default(),
            labels: [("site".to_owned(), "eu-1".to_owned())].into(),
            key: agent::identity::load_or_make_key(&data).expect("makes a key"),
            next_key: None,
        };
        identity.store(&data).expect("stores");
        std::fs::write(data.join("policy.toml"), POLICY).expect("writes");
        std::fs::set_permissions(data.join("policy.toml"), std::fs::Permissions::from_mode(0o600)).expect("sets");
        Bed { dir, listener, agent: None, environment: Vec::new(), turns: Vec::new() }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn start(&mut self) {
        let mut process = Process::new(env!("CARGO_BIN_EXE_viworks-agent"));
        process.args(["run", "--data"]).arg(self.data()).stdin(Stdio::null()).stderr(self.log_file());
        process.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.agent = Some(process.spawn().expect("the binary starts"));
    }

    fn log_file(&self) -> File {
        File::options().create(true).append(true).open(self.dir.path().join("agent.log")).expect("opens")
    }

    /// What the agent said on its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).expect("reads")
    }

    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("runs");
        agent.kill().expect("kills");
        agent.wait().expect("waits");
    }

    pub fn kill_supervisor(&self) {
        self.signal_supervisor(Signal::SIGKILL);
    }

    pub fn signal_supervisor(&self, signal: Signal) {
        if let Some(pid) = supervisor(&self.data()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    pub async fn accept(&self) -> Session {
        let (mut session, nonce) = self.challenge(1, None).await;
        let AgentFrame::Hello(hello) = session.next().await else { panic!("no HELLO") };
        let key = Identity::load(&self.data()).expect("joined").key.verifying_key();
        assert_eq!(verify(&key, &[&hello_parts(cluster_id(), agent_id(), &nonce)], &hello.signature), Ok(()));
        session.heard.push(AgentFrame::Hello(hello));
        session
    }

    /// A socket on which the agent was challenged by a host of this epoch.
    pub async fn challenge(&self, epoch: u64, proof: Option<String>) -> (Session, [u8; 32]) {
        let (stream, _) = tokio::time::timeout(CEILING, self.listener.accept()).await.expect("comes").expect("accepts");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("upgrades");
        let nonce = [9; 32];
        let challenge = Challenge {
            nonce: URL_SAFE_NO_PAD.encode(nonce),
            cluster_id: cluster_id(),
            cluster_epoch: epoch,
            epoch_signature: proof,
            keys: self.turns.clone(),
            versions: vec![1, 2],
        };
        socket.send(Message::text(encode(&HostFrame::Challenge(challenge)))).await.expect("sends");
        (Session { socket, heard: Vec::new() }, nonce)
    }

    /// A session that is open, with nothing to cancel or forget.
    pub async fn session(&self) -> (Session, Hello) {
        let mut session = self.accept().await;
        let Some(AgentFrame::Hello(hello)) = session.heard.pop() else { panic!("no HELLO") };
        session.say(HostFrame::Welcome(welcome())).await;
        (session, hello)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        self.signal_supervisor(Signal::SIGTERM);
        self.signal_supervisor(Signal::SIGCONT);
    }
}

fn supervisor(data: &Path) -> Option<i32> {
    let pid = std::fs::read_to_string(lock_path(data)).ok()?.trim().parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    name.contains("supervise").then_some(pid)
}

pub fn welcome() -> Welcome {
    Welcome {
        session_epoch: 1,
        now_ms: agent::clock::now().wall_ms,
        heartbeat_ms: 1_000,
        telemetry_ms: 300,
        telemetry_jitter_ms: None,
        max_concurrency: 8,
        send: Vec::new(),
        cancel: Vec::new(),
        forget: Vec::new(),
        run: Vec::new(),
        have: Vec::new(),
    }
}

pub fn command(key: AttemptKey, plan: Plan) -> Command {
    let not_after_ms = agent::clock::now().wall_ms + 60_000;
    let envelope = seal(&envelope(key, plan, not_after_ms), &cluster_key());
    Command {
        attempt: key,
        start_within_ms: 30_000,
        kill_after_ms: None,
        finish_within_ms: None,
        envelope,
        secret_key: None,
        traceparent: None,
    }
}

pub fn shell(key: AttemptKey, script: &str) -> Command {
    command(key, plan(vec![step("sh", &["-c", script])]))
}

pub struct Session {
    pub socket: WebSocketStream<TcpStream>,
    pub heard: Vec<AgentFrame>,
}

impl Session {
    pub async fn say(&mut self, frame: HostFrame) {
        self.socket.send(Message::text(encode(&frame))).await.expect("sends");
    }

    pub async fn next(&mut self) -> AgentFrame {
        loop {
            let message = tokio::time::timeout(CEILING, self.socket.next()).await.expect("says something in time");
            match message.expect("lives").expect("speaks WebSocket") {
                Message::Text(text) => return decode(&text).expect("a frame"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next frame that `wanted` wants; all others are remembered.
    pub async fn until(&mut self, wanted: impl Fn(&AgentFrame) -> bool) -> AgentFrame {
        // Heartbeats come for ever, so each frame in time is not enough.
        let came = tokio::time::timeout(CEILING, async {
            loop {
                let frame = self.next().await;
                if wanted(&frame) {
                    return frame;
                }
                self.heard.push(frame);
            }
        });
        came.await.expect("comes in time")
    }

    pub async fn result(&mut self, key: AttemptKey) -> Outcome {
        match self.until(|frame| matches!(frame, AgentFrame::Result { attempt, .. } if *attempt == key)).await {
            AgentFrame::Result { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Attempts start in any order: it may have been heard already.
    pub async fn started(&mut self, key: AttemptKey) -> u32 {
        let is_it = |frame: &AgentFrame| matches!(frame, AgentFrame::Started { attempt, .. } if *attempt == key);
        let frame = match self.heard.iter().find(|frame| is_it(frame)) {
            Some(frame) => frame.clone(),
            None => self.until(is_it).await,
        };
        match frame {
            AgentFrame::Started { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    /// Output heard so far in this session, put together by offset.
    pub fn output(&self, key: AttemptKey) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in &self.heard {
            if let AgentFrame::Output(output) = frame
                && output.attempt == key
                && output.stream == Stream::Stdout
            {
                let data = STANDARD.decode(&output.data).expect("base64");
                let end = output.offset as usize + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[output.offset as usize..end].copy_from_slice(&data);
            }
        }
        bytes
    }
}
