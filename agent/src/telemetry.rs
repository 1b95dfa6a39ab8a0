//! Looks at the machine's load and fills one [`Sample`]. What cannot be read is left out and named.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sysinfo::{Disks, Networks, System};
use tokio::runtime::Handle;
use wire::sample::{Disk, Network, Sample, Usage};

use crate::clock;
use crate::supervisor::protocol::lock_path;
use engine::Engine;

pub mod engine;
pub mod services;
pub mod share;

/// Most disks and most networks in one sample.
const MAX_ENTRIES: usize = 64;
/// Most cores told of one by one.
const MAX_CORES: usize = 256;
/// Longest name of a mount or an interface; what has a longer one is left out.
const MAX_NAME: usize = 128;
/// Longest reason why something is missing.
const MAX_REASON: usize = 200;

/// What is looked at besides the machine itself.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The agent's folder.
    pub data: PathBuf,
    /// `DOCKER_HOST`, if it is set.
    pub docker_host: Option<String>,
    /// Units to watch.
    pub services: Vec<String>,
}

/// Remembers the last look, because use over an interval needs two.
#[derive(Debug)]
pub struct Sampler {
    data: PathBuf,
    services: Vec<String>,
    engine: Engine,
    system: System,
    networks: Networks,
    looked: Instant,
}

impl Sampler {
    /// Takes the first look. May block for as long as the kernel does.
    pub fn new(sources: Sources) -> Option<Sampler> {
        let Sources { data, docker_host, services } = sources;
        let mut system = System::new().ok()?;
        system.refresh_cpu_usage();
        let networks = Networks::new_with_refreshed_list().ok()?;
        let engine = Engine::at(docker_host.as_deref());
        Some(Sampler { data, services, engine, system, networks, looked: Instant::now() })
    }

    /// Takes a sample of the time since the last look. May block for as long as the kernel does, for
    /// example on a network disk whose server is gone. `runtime` carries the talk with the container engine.
    pub fn take(&mut self, runtime: &Handle) -> Sample {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.networks.refresh(true);
        let seconds = self.looked.elapsed().as_secs_f64().max(0.001);
        self.looked = Instant::now();
        let mut missing = Vec::new();
        let mut note = |what: &str, why: String| {
            let reason = format!("{what}: {why}");
            missing.push(reason.chars().filter(|letter| !letter.is_control()).take(MAX_REASON).collect());
        };
        let share = share::look(Path::new("/proc/self"));
        let containers = runtime.block_on(self.engine.look()).map_err(|why| note("containers", why)).ok();
        let services = services::look(&self.services).map_err(|why| note("services", why)).unwrap_or_default();
        let mut sample = Sample {
            at_ms: clock::now().wall_ms,
            cpu_percent: Some(percent(self.system.global_cpu_usage())),
            cores_percent: self.system.cpus().iter().take(MAX_CORES).map(|cpu| percent(cpu.usage())).collect(),
            cpu_limit_cores: share.cores.filter(|cores| *cores < self.system.cpus().len() as f64),
            load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
            memory: self.memory(share.memory),
            swap: usage(self.system.used_swap(), self.system.total_swap()),
            disks: disks(),
            networks: self.networks(seconds),
            containers,
            services,
            missing,
            agent: Default::default(),
        };
        sample.agent.rss_bytes = self.resident();
        sample
    }

    /// Of the machine, or of the share of it that this agent's control group may have.
    fn memory(&self, share: Option<Usage>) -> Option<Usage> {
        let total = self.system.total_memory();
        match share {
            Some(share) if (1..total).contains(&share.total_bytes) => Some(share),
            _ => usage(self.system.used_memory().min(total), total),
        }
    }

    fn networks(&self, seconds: f64) -> Vec<Network> {
        let mut networks: Vec<Network> = self
            .networks
            .iter()
            .filter(|(name, _)| name.as_os_str() != "lo")
            .map(|(name, data)| Network {
                interface: name.to_string_lossy().into_owned(),
                rx_bytes_per_s: data.received() as f64 / seconds,
                tx_bytes_per_s: data.transmitted() as f64 / seconds,
            })
            .collect();
        networks.retain(|network| is_name(&network.interface));
        networks.sort_by(|a, b| a.interface.cmp(&b.interface));
        networks.truncate(MAX_ENTRIES);
        networks
    }

    /// Resident memory of this process and the supervisor.
    fn resident(&self) -> u64 {
        let supervisor = std::fs::read_to_string(lock_path(&self.data)).unwrap_or_default();
        let own = resident_of("self");
        match supervisor.trim() {
            "" => own,
            pid => own + resident_of(pid),
        }
    }
}

fn resident_of(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    kib * 1024
}

fn disks() -> Vec<Disk> {
    let Ok(found) = Disks::new_with_refreshed_list() else { return Vec::new() };
    let mut disks: Vec<Disk> = found
        .iter()
        .filter(|disk| disk.total_space() > 0)
        .map(|disk| Disk {
            mount: disk.mount_point().to_string_lossy().into_owned(),
            usage: Usage {
                used_bytes: disk.total_space().saturating_sub(disk.available_space()),
                total_bytes: disk.total_space(),
            },
        })
        .collect();
    disks.retain(|disk| is_name(&disk.mount));
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    disks.dedup_by(|a, b| a.mount == b.mount);
    disks.truncate(MAX_ENTRIES);
    disks
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn percent(value: f32) -> f64 {
    f64::from(value.clamp(0.0, 100.0))
}

fn usage(used_bytes: u64, total_bytes: u64) -> Option<Usage> {
    (total_bytes > 0).then_some(Usage { used_bytes, total_bytes })
}
