//! Starting an agent: reads what the operator wrote and what the disk remembers, then works.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::clock::{self, Alarm};
use crate::config::Config;
use crate::document::DocumentError;
use crate::driver::{Driver, Known, Sampling};
use crate::failure::RunError;
use crate::identity::Identity;
use crate::journal::Journal;
use crate::machine::{Machine, Setup};
use crate::policy::Policy;
use crate::socket::check_url;
use crate::spool::Spool;
use crate::supervisor::client::Place;
use crate::telemetry::{Sampler, Sources};
use crate::ways::{Net, dial_supervisor};
use crate::writer::Writer;

/// How to run an agent.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where identity, journal and output lie.
    pub data: PathBuf,
    /// The policy file; `policy.toml` in `data` when absent, and if that is missing nothing is allowed.
    pub policy: Option<PathBuf>,
    /// The settings file; `agent.toml` in `data` when absent, and if that is missing the defaults hold.
    pub config: Option<PathBuf>,
    /// The program to start as supervisor; this process's own when absent.
    pub program: Option<PathBuf>,
    /// Ends the agent. Its children live on.
    pub stop: CancellationToken,
}

/// Runs until `stop`.
///
/// # Errors
/// [`RunError`].
pub async fn run(options: Options) -> Result<(), RunError> {
    let identity = Identity::load(&options.data)?;
    let url = check_url(&identity.ws_url).map_err(RunError::Url)?;
    let config = load(options.config.as_deref(), &options.data.join("agent.toml"), Config::load)?.unwrap_or_default();
    let policy = load(options.policy.as_deref(), &options.data.join("policy.toml"), Policy::load)?;
    let mut policy = policy.unwrap_or_else(|| {
        tracing::warn!("there is no policy file, so every command will be refused; see viworks-agent run --policy");
        Policy::default()
    });
    policy.engine_env = config.engine_env.clone();
    let _lock = take_lock(&options.data)?;
    let spool = Spool::open(&options.data).map_err(|source| RunError::Io { doing: "open the spool", source })?;
    let (journal, recovered) = Journal::open(&options.data.join("journal"))?;
    if recovered.cut_bytes > 0 {
        tracing::warn!(bytes = recovered.cut_bytes, "the journal ended in a torn write, which was cut off");
    }
    tracing::info!(
        agent = %identity.agent_id,
        name = identity.name,
        unfinished = recovered.unfinished.len(),
        unacknowledged = recovered.unacknowledged.len(),
        "agent ready"
    );
    let setup = Setup {
        agent_id: identity.agent_id,
        cluster_id: identity.cluster_id,
        cluster_key: identity.cluster_key,
        key: identity.key,
        next_key: identity.next_key,
        boot_id: clock::boot_id(),
        policy: policy.clone(),
        spool: config.spool,
        seed: rand::random(),
    };
    let machine = Machine::new(setup, recovered, clock::now());
    if let Err(error) = spool.sweep(|attempt| machine.wants(attempt)) {
        tracing::warn!(%error, "cannot remove output that nobody wants any more");
    }
    let journal = Writer::start("journal", journal)
        .map_err(|source| RunError::Io { doing: "start the journal's thread", source })?;
    let place = Place { data: options.data.clone(), program: options.program };
    let docker_host = config.engine_env.get("DOCKER_HOST").cloned();
    let sources = Sources { data: options.data, docker_host, services: config.services.clone() };
    let mut driver = Driver {
        machine,
        journal,
        spool,
        care: dial_supervisor(&place),
        place,
        url,
        known: Arc::new(Known { policy, config, labels: identity.labels, host: identity.host }),
        facts: None,
        net: Net::Waiting(Instant::now()),
        greeted: false,
        sampling: Sampling::Busy(tokio::task::spawn_blocking(move || (Sampler::new(sources).map(Box::new), None))),
        backoff: Backoff::default(),
        rng: SmallRng::seed_from_u64(rand::random()),
        was_in_session: false,
        alarm: Alarm::default(),
    };
    driver.work(&options.stop).await?;
    driver.finish().await
}

/// Reads the file that was named, else the usual one if it is there.
fn load<T>(
    named: Option<&Path>,
    usual: &Path,
    read: fn(&Path) -> Result<T, DocumentError>,
) -> Result<Option<T>, DocumentError> {
    match named {
        Some(path) => read(path).map(Some),
        None if usual.exists() => read(usual).map(Some),
        None => Ok(None),
    }
}

fn take_lock(data: &Path) -> Result<Flock<std::fs::File>, RunError> {
    let io = |source| RunError::Io { doing: "write agent.lock", source };
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(data.join("agent.lock")).map_err(io)?;
    let mut lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| RunError::Taken(data.to_owned()))?;
    lock.set_len(0).map_err(io)?;
    writeln!(lock, "{}", std::process::id()).map_err(io)?;
    Ok(lock)
}
