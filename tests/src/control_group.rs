//! A control group of a test's own with another inside of it, in whichever version this machine has the controllers.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A group with limits, and one in it that has none of its own. Dropped, both are removed.
pub struct ControlGroup {
    /// The outer one, in the tree of memory and in that of time; version 2 has one tree for both.
    memory: PathBuf,
    cpu: PathBuf,
    is_two: bool,
}

/// Longest its processes may take to be gone.
const CEILING: Duration = Duration::from_secs(10);
/// What time of cores is counted over.
const PERIOD_US: u32 = 100_000;

impl ControlGroup {
    /// Makes one that may have so much memory and so many cores' time; `None`, said aloud, where that is not permitted.
    pub fn new(memory_bytes: u64, cores: f64) -> Option<ControlGroup> {
        match ControlGroup::make(memory_bytes, cores) {
            Ok(made) => Some(made),
            Err(why) => {
                // Not a failure with CI=true either: what runs there may not be let near the machine's groups.
                let test = std::thread::current().name().unwrap_or("a test").to_owned();
                let _ = std::io::stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes());
                None
            }
        }
    }

    fn make(memory_bytes: u64, cores: f64) -> Result<ControlGroup, String> {
        let name = format!("viworks-test-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let tree = |controller: &str| {
            mounts.lines().find_map(|line| {
                let (before, after) = line.split_once(" - ")?;
                let has = after.starts_with("cgroup ") && after.split([' ', ',']).any(|word| word == controller);
                has.then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or_default()))
            })
        };
        let made = match (tree("memory"), tree("cpu")) {
            (Some(memory), Some(cpu)) => {
                ControlGroup { memory: memory.join(&name), cpu: cpu.join(&name), is_two: false }
            }
            _ => {
                let root = PathBuf::from("/sys/fs/cgroup");
                let given = std::fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
                if !["memory", "cpu"].iter().all(|wanted| given.split_whitespace().any(|word| word == *wanted)) {
                    return Err("no control groups for memory and time here".to_owned());
                }
                ControlGroup { memory: root.join(&name), cpu: root.join(&name), is_two: true }
            }
        };
        for folder in [&made.memory, &made.cpu] {
            let inner = folder.join("inner");
            std::fs::create_dir_all(&inner).map_err(|error| format!("{}: {error}", inner.display()))?;
        }
        made.allow_memory(memory_bytes)?;
        let quota = (f64::from(PERIOD_US) * cores).round();
        if made.is_two {
            write(&made.cpu.join("cpu.max"), &format!("{quota} {PERIOD_US}"))?;
        } else {
            write(&made.cpu.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
            write(&made.cpu.join("cpu.cfs_quota_us"), &quota.to_string())?;
        }
        Ok(made)
    }

    /// Allows it so much memory from now on.
    ///
    /// # Errors
    /// When the kernel does not.
    pub fn allow_memory(&self, bytes: u64) -> Result<(), String> {
        let file = if self.is_two { "memory.max" } else { "memory.limit_in_bytes" };
        write(&self.memory.join(file), &bytes.to_string())
    }

    /// Moves a process into the inner one.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn admit(&self, pid: i32) {
        for folder in [&self.memory, &self.cpu] {
            write(&folder.join("inner/cgroup.procs"), &pid.to_string()).expect("the process moves");
        }
    }
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // A group with a process in it stays, and one that was killed takes a moment to be gone.
        let begun = Instant::now();
        for folder in [&self.memory, &self.cpu].into_iter().flat_map(|folder| [folder.join("inner"), folder.clone()]) {
            while folder.exists() && std::fs::remove_dir(&folder).is_err() && begun.elapsed() < CEILING {
                std::thread::yield_now();
            }
        }
    }
}
