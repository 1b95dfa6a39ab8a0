//! Containers, as the engine's own socket tells of them. Without an engine there are none to tell of, which is
//! said and is no fault. What an engine tells is bounded here, in time, bytes and number.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Body as _;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use wire::sample::Container;

/// Most containers told of; those that run come first.
const MAX_CONTAINERS: usize = 100;
/// Longest name.
const MAX_NAME: usize = 128;
/// Longest time the engine gets for everything.
const WITHIN: Duration = Duration::from_secs(5);
/// Most bytes of one answer.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Where the engine is when nobody says.
const USUAL: &str = "/run/docker.sock";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Remembers the last look, because CPU use over an interval needs two.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
    used: HashMap<String, (u64, Instant)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    restart_count: u64,
    state: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    status: String,
    #[serde(default)]
    exit_code: i32,
    health: Option<Health>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    cpu_stats: Cpu,
    #[serde(default)]
    memory_stats: Memory,
}

#[derive(Default, Deserialize)]
struct Cpu {
    #[serde(default)]
    cpu_usage: Usage,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    total_usage: u64,
}

#[derive(Default, Deserialize)]
struct Memory {
    #[serde(default)]
    usage: u64,
    #[serde(default)]
    stats: BTreeMap<String, u64>,
}

impl Memory {
    /// Without what the kernel would give back at once, as the engine's own tool counts.
    fn used(&self) -> u64 {
        let cache = ["inactive_file", "total_inactive_file"].iter().find_map(|name| self.stats.get(*name));
        self.usage.saturating_sub(cache.copied().unwrap_or(0))
    }
}

impl Engine {
    /// The engine at `DOCKER_HOST`, or at the usual place; one that is not on this machine tells of another.
    pub fn at(docker_host: Option<&str>) -> Engine {
        let socket = docker_host.map_or(Some(USUAL), |host| host.strip_prefix("unix://")).unwrap_or_default();
        Engine { socket: PathBuf::from(socket), used: HashMap::new() }
    }

    /// Every container, by name.
    ///
    /// # Errors
    /// Why there are none to tell of, for people.
    pub async fn look(&mut self) -> Result<Vec<Container>, String> {
        if self.socket.as_os_str().is_empty() {
            return Err("the engine is not on this machine".to_owned());
        }
        let socket = self.socket.clone();
        match tokio::time::timeout(WITHIN, self.ask(&socket)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(format!("no engine at {}: {error}", socket.display())),
            Err(_) => Err(format!("the engine at {} does not answer within {} s", socket.display(), WITHIN.as_secs())),
        }
    }

    async fn ask(&mut self, socket: &Path) -> Result<Vec<Container>, Failure> {
        let stream = UnixStream::connect(socket).await?;
        let (mut sender, connection) = handshake::<_, String>(TokioIo::new(stream)).await?;
        // The connection does the reading and writing; it ends with the sender.
        tokio::pin!(connection);
        let asking = self.ask_each(&mut sender);
        tokio::select! {
            biased;
            found = asking => found,
            ended = &mut connection => { ended?; Err("it closed the connection".into()) }
        }
    }

    async fn ask_each(&mut self, sender: &mut SendRequest<String>) -> Result<Vec<Container>, Failure> {
        let mut listed: Vec<Listed> = get(sender, "/containers/json?all=1").await?;
        listed.sort_by(|a, b| {
            let order = |listed: &Listed| (listed.state != "running", listed.names.first().cloned());
            order(a).cmp(&order(b))
        });
        listed.truncate(MAX_CONTAINERS);
        let mut used = HashMap::new();
        let mut found = BTreeMap::new();
        for Listed { id, names, state } in listed {
            let name = names.first().map_or(id.as_str(), |name| name.trim_start_matches('/'));
            let name: String = name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME).collect();
            let mut container = Container { name: name.clone(), state, ..Container::default() };
            // Gone between two questions: what the list said stands.
            if let Ok(Inspected { restart_count, state }) = get(sender, &format!("/containers/{id}/json")).await {
                container.restarts = Some(restart_count);
                container.health = state.health.map(|health| health.status);
                container.exit_code = matches!(state.status.as_str(), "exited" | "dead").then_some(state.exit_code);
                container.state = state.status;
            }
            if container.state == "running" {
                let stats = format!("/containers/{id}/stats?stream=false&one-shot=true");
                if let Ok(stats) = get::<Stats>(sender, &stats).await {
                    let (now, total) = (Instant::now(), stats.cpu_stats.cpu_usage.total_usage);
                    container.cpu_percent = self.used.get(&id).map(|before| cpu_percent(*before, (total, now)));
                    container.memory_bytes = Some(stats.memory_stats.used());
                    used.insert(id, (total, now));
                }
            }
            if !name.is_empty() && name.len() <= MAX_NAME {
                found.insert(name, container);
            }
        }
        self.used = used;
        Ok(found.into_values().collect())
    }
}

/// Nanoseconds of CPU over nanoseconds; 100 is one core in full.
fn cpu_percent((before, then): (u64, Instant), (after, now): (u64, Instant)) -> f64 {
    let span = now.duration_since(then).as_nanos().max(1);
    after.saturating_sub(before) as f64 / span as f64 * 100.0
}

async fn get<T: DeserializeOwned>(sender: &mut SendRequest<String>, path: &str) -> Result<T, Failure> {
    sender.ready().await?;
    let request = Request::get(path).header("host", "engine").body(String::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > MAX_ANSWER_BYTES {
                return Err(format!("an answer is over {MAX_ANSWER_BYTES} bytes").into());
            }
            bytes.extend_from_slice(&data);
        }
    }
    if !status.is_success() {
        return Err(format!("it answers {path} with {status}").into());
    }
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// Answers as an engine with one container does, over one connection, until it is closed.
    async fn play(listener: UnixListener) {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        let mut buffer = vec![0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            let asked = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let path = asked.split(' ').nth(1).expect("a path").to_owned();
            let body = match path.as_str() {
                "/containers/json?all=1" => {
                    r#"[{"Id":"a1","Names":["/web"],"State":"running"},{"Id":"b2","Names":["/job"],"State":"exited"}]"#
                }
                "/containers/a1/json" => {
                    r#"{"RestartCount":3,"State":{"Status":"running","ExitCode":0,"Health":{"Status":"unhealthy"}}}"#
                }
                "/containers/b2/json" => r#"{"RestartCount":0,"State":{"Status":"exited","ExitCode":137}}"#,
                _ => {
                    r#"{"cpu_stats":{"cpu_usage":{"total_usage":5}},"memory_stats":{"usage":100,"stats":{"inactive_file":40}}}"#
                }
            };
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.expect("writes");
        }
    }

    #[tokio::test]
    async fn an_engine_is_asked_for_each_container() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("binds");
        let mut engine = Engine::at(Some(&format!("unix://{}", socket.display())));
        let found = tokio::select! {
            found = engine.look() => found.expect("it answers"),
            () = play(listener) => panic!("the engine ended first"),
        };
        let web = Container {
            name: "web".into(),
            state: "running".into(),
            health: Some("unhealthy".into()),
            restarts: Some(3),
            memory_bytes: Some(60),
            ..Container::default()
        };
        let job = Container {
            name: "job".into(),
            state: "exited".into(),
            restarts: Some(0),
            exit_code: Some(137),
            ..Container::default()
        };
        assert_eq!(found, [job, web]);
    }

    #[tokio::test]
    async fn no_engine_is_a_fact() {
        let why = Engine::at(Some("unix:///nowhere/docker.sock")).look().await.expect_err("there is none");
        assert!(why.starts_with("no engine at /nowhere/docker.sock: "), "{why}");
        let why = Engine::at(Some("tcp://10.0.0.5:2375")).look().await.expect_err("elsewhere");
        assert_eq!(why, "the engine is not on this machine");
    }

    #[test]
    fn a_core_in_full_is_a_hundred() {
        let then = Instant::now();
        let later = then + Duration::from_secs(2);
        assert_eq!(cpu_percent((0, then), (1_000_000_000, later)), 50.0);
        assert_eq!(cpu_percent((5, then), (1, later)), 0.0, "a container that began anew");
    }
}
