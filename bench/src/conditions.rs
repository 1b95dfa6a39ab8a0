//! Under which conditions a figure was taken: it means nothing without them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::usage::machine_cpu;

/// Below this idle share before or after, others were at work.
const QUIET: f64 = 0.85;

/// The machine and the build.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conditions {
    /// Commit of the working directory, `+changes` behind it when files differ; empty outside a repository.
    pub commit: String,
    /// `release` or `dev`: how the generator was built.
    pub build: String,
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// How many of them.
    pub cores: usize,
    /// Memory of the machine, bytes.
    pub memory_bytes: u64,
    /// Load averages.
    pub load: String,
    /// Share of the machine that was idle for a second before.
    pub idle_before: f64,
    /// Share of the machine that was idle for a second after; absent while it is running.
    pub idle_after: Option<f64>,
    /// File system under the stores, e.g. `ext4`.
    pub filesystem: String,
    /// What a commit promises.
    pub durability: String,
}

impl Conditions {
    /// Looks around; takes a second. `store` is where databases will lie.
    pub async fn look(store: &Path, durability: &str) -> Conditions {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let found = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
            found.map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = line(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Conditions {
            commit: commit(),
            build: if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: line(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib * 1024,
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            idle_before: idle_share().await,
            idle_after: None,
            filesystem: filesystem(store, &read("/proc/self/mounts")),
            durability: durability.to_owned(),
        }
    }

    /// Looks again at the end; takes a second.
    pub async fn look_again(&mut self) {
        self.idle_after = Some(idle_share().await);
    }

    /// Whether the machine had something else to do before or after.
    pub fn disturbed(&self) -> bool {
        self.idle_before < QUIET || self.idle_after.is_some_and(|idle| idle < QUIET)
    }
}

impl std::fmt::Display for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gib = self.memory_bytes as f64 / f64::from(1_u32 << 30);
        writeln!(f, "commit {}, {} build", if self.commit.is_empty() { "unknown" } else { &self.commit }, self.build)?;
        writeln!(f, "{} × {}, {gib:.0} GiB, kernel {}, {}", self.cores, self.cpu, self.kernel, self.filesystem)?;
        write!(f, "load {}, idle before {:.0} %", self.load, self.idle_before * 100.0)?;
        if let Some(after) = self.idle_after {
            write!(f, ", after {:.0} %", after * 100.0)?;
        }
        if self.disturbed() {
            write!(f, " — NOT QUIET, repeat before quoting")?;
        }
        write!(f, "\ndurability: {}", self.durability)
    }
}

async fn idle_share() -> f64 {
    let before = machine_cpu();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = machine_cpu();
    let idle = after.2 - before.2;
    let all = idle + (after.0 - before.0) + (after.1 - before.1);
    if all > 0.0 { idle / all } else { 0.0 }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let clean = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| changes.is_empty());
    if clean { head } else { format!("{head}+changes") }
}

/// Type of the file system that holds `path`: the longest mount point that is above it.
fn filesystem(path: &Path, mounts: &str) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && path.starts_with(fields[1]));
    above.max_by_key(|fields| fields[1].len()).map_or(String::new(), |fields| fields[2].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_decides_the_file_system() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n";
        assert_eq!(filesystem(Path::new("/nowhere/x"), mounts), "ext4");
        assert_eq!(filesystem(Path::new("/dev/shm/x"), mounts), "tmpfs");
    }

    #[tokio::test]
    async fn conditions_name_the_machine_and_say_when_it_was_not_quiet() {
        let mut conditions = Conditions::look(Path::new("/"), "SQLite WAL, synchronous=FULL").await;
        assert!(conditions.cores > 0 && !conditions.kernel.is_empty() && conditions.memory_bytes > 0);
        (conditions.idle_before, conditions.idle_after) = (0.9, Some(0.5));
        assert!(conditions.to_string().contains("NOT QUIET"), "{conditions}");
    }
}
