//! The agent's way to its supervisor: connect to the living one, or start one.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::supervisor::peer::Peer;
use crate::supervisor::protocol::{Event, Request};

/// The agent's end of the socket.
pub type Link = Peer<Event, Request>;

/// From the wish for a supervisor to giving up on it for now.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries to reach one that was not started here, or did not get as far as to be reached.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How much both say.
const LOG_LEVEL: &str = "VIWORKS_LOG";
/// The supervisor's own words are begun anew above this size.
const MAX_LOG_BYTES: u64 = 1 << 20;

/// Where the supervisor's program and data lie.
#[derive(Clone, Debug)]
pub struct Place {
    /// The agent's data directory.
    pub data: PathBuf,
    /// The program to start as `PROGRAM supervise --data DATA`; this process's own when absent.
    pub program: Option<PathBuf>,
}

/// Connects, starting a supervisor if none lives.
///
/// # Errors
/// Why none could be reached within ten seconds.
pub async fn connect(place: &Place) -> std::io::Result<Link> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut child: Option<tokio::process::Child> = None;
    loop {
        let refused = match dial(&place.data).await {
            Ok(stream) => return Peer::new(stream),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            let message = format!(
                "no supervisor answers ({refused}); its own words are in {}",
                place.data.join("supervisor.err").display()
            );
            return Err(std::io::Error::new(refused.kind(), message));
        }
        // One that finds another alive ends at once; then the next dial reaches that one.
        let alive = match &mut child {
            Some(child) => {
                tokio::time::sleep(LOOK_EVERY).await;
                child.try_wait()?.is_none()
            }
            None => false,
        };
        if !alive {
            let mut started = start(place)?;
            if let Some(mut words) = started.stdout.take() {
                // It says nothing, and ends when agents are answered, or with the process.
                let _ = tokio::time::timeout_at(deadline, words.read(&mut [0])).await;
            }
            child = Some(started);
        }
    }
}

async fn dial(data: &Path) -> std::io::Result<UnixStream> {
    let dir = std::fs::File::open(data)?;
    UnixStream::connect(format!("/proc/self/fd/{}/supervisor.sock", dir.as_raw_fd())).await
}

fn start(place: &Place) -> std::io::Result<tokio::process::Child> {
    let words = place.data.join("supervisor.err");
    let too_long = std::fs::metadata(&words).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES);
    let mut options = std::fs::OpenOptions::new();
    // Its own file, not our standard error: whoever reads that waits for its end, and the supervisor
    // outlives us.
    let words = options.create(true).write(true).append(!too_long).truncate(too_long).open(words)?;
    let program = place.program.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let mut command = tokio::process::Command::new(program);
    command.arg0("viworks-agent").arg("supervise").arg("--data").arg(&place.data);
    // Whatever else the agent was started with is nothing that the parent of all children need hold.
    command.env_clear().envs(std::env::var_os(LOG_LEVEL).map(|level| (LOG_LEVEL, level)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(words).kill_on_drop(false);
    command.spawn()
}
