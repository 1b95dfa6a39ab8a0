//! Looks at the machine's load and fills one [`Sample`].

use std::path::PathBuf;
use std::time::Instant;

use sysinfo::{Disks, Networks, System};
use wire::sample::{Disk, Network, Sample, Usage};

use crate::clock;
use crate::supervisor::protocol::lock_path;

/// Most disks and most networks in one sample.
const MAX_ENTRIES: usize = 64;

/// Remembers the last look, because use over an interval needs two.
#[derive(Debug)]
pub struct Sampler {
    data: PathBuf,
    system: System,
    networks: Networks,
    looked: Instant,
}

impl Sampler {
    /// Takes the first look. May block for as long as the kernel does.
    pub fn new(data: PathBuf) -> Option<Sampler> {
        let mut system = System::new().ok()?;
        system.refresh_cpu_usage();
        let networks = Networks::new_with_refreshed_list().ok()?;
        Some(Sampler { data, system, networks, looked: Instant::now() })
    }

    /// Takes a sample of the time since the last look. May block for as long as the kernel does, for
    /// example on a network disk whose server is gone.
    pub fn take(&mut self) -> Sample {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.networks.refresh(true);
        let seconds = self.looked.elapsed().as_secs_f64().max(0.001);
        self.looked = Instant::now();
        let mut sample = Sample {
            at_ms: clock::now().wall_ms,
            cpu_percent: Some(percent(self.system.global_cpu_usage())),
            cores_percent: self.system.cpus().iter().map(|cpu| percent(cpu.usage())).collect(),
            load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
            memory: usage(self.system.used_memory(), self.system.total_memory()),
            swap: usage(self.system.used_swap(), self.system.total_swap()),
            disks: disks(),
            networks: self.networks(seconds),
            agent: Default::default(),
        };
        sample.agent.rss_bytes = self.resident();
        sample
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
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    disks.dedup_by(|a, b| a.mount == b.mount);
    disks.truncate(MAX_ENTRIES);
    disks
}

fn percent(value: f32) -> f64 {
    f64::from(value.clamp(0.0, 100.0))
}

fn usage(used_bytes: u64, total_bytes: u64) -> Option<Usage> {
    (total_bytes > 0).then_some(Usage { used_bytes, total_bytes })
}
