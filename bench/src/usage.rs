//! What a run cost: CPU of the generator, of the measured process and of everybody else, and memory.
//! Rates feel a noisy neighbour first, CPU per operation hardly does.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use crate::schedule::now_ns;

/// Raises the limit of open files as far as this process may; one agent is one file.
pub fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// What one process has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// User and system time, seconds.
    pub cpu: f64,
    /// Bytes it caused to be sent to storage.
    pub written: u64,
}

/// What process `pid` has used since it began.
///
/// # Errors
/// When there is no such process.
pub fn used_by(pid: u32) -> Result<Used> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Ok(Used {
        cpu: cpu_of_stat(&stat, ticks_per_second()).context("/proc/PID/stat reads otherwise")?,
        written: field(&io, "write_bytes:"),
    })
}

/// User and system seconds in a `/proc/PID/stat` line. The name in brackets may hold anything.
fn cpu_of_stat(stat: &str, ticks_per_second: f64) -> Option<f64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / ticks_per_second)
}

fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

/// The first number after `name` in a `/proc` text; 0 when it is not there.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// CPU seconds of this process, to the microsecond.
fn own_cpu() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}

/// The whole machine's CPU seconds since boot: `(busy, stolen, idle)`.
pub fn machine_cpu() -> (f64, f64, f64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    machine_of_stat(&stat, ticks_per_second())
}

fn machine_of_stat(stat: &str, ticks_per_second: f64) -> (f64, f64, f64) {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let at = |index: usize| ticks.get(index).copied().unwrap_or(0.0) / ticks_per_second;
    // user, nice, system, idle, iowait, irq, softirq, steal
    (at(0) + at(1) + at(2) + at(5) + at(6), at(7), at(3) + at(4))
}

/// Memory of one process, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident pages, shared ones included.
    pub rss: u64,
    /// Resident pages that nobody else has.
    pub private: u64,
}

/// Memory of process `pid`.
///
/// # Errors
/// When there is no such process, or it is somebody else's.
pub fn memory_of(pid: u32) -> Result<Memory> {
    if let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        let private = field(&text, "Private_Clean:") + field(&text, "Private_Dirty:");
        return Ok(Memory { rss: field(&text, "Rss:") * 1024, private: private * 1024 });
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let private = field(&text, "RssAnon:") * 1024;
    Ok(Memory { rss: field(&text, "VmRSS:") * 1024, private })
}

/// What a stretch of time cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Its length in seconds.
    pub seconds: f64,
    /// CPU seconds of the generator.
    pub generator_cpu_s: f64,
    /// CPU seconds of the measured process; absent when its pid is not known.
    pub server_cpu_s: Option<f64>,
    /// Bytes the measured process wrote to storage.
    pub server_written_bytes: Option<u64>,
    /// CPU seconds of everybody else, per second.
    pub foreign_cores: f64,
    /// CPU seconds taken by the hypervisor, per second.
    pub stolen_cores: f64,
}

impl Cost {
    /// Microseconds of the measured process for each of `operations`.
    pub fn server_us_per(&self, operations: u64) -> Option<f64> {
        self.server_cpu_s.filter(|_| operations > 0).map(|cpu| cpu * 1e6 / operations as f64)
    }

    /// Whether others took so much of the machine that the stretch says little.
    pub fn disturbed(&self) -> bool {
        self.server_cpu_s.is_some() && (self.foreign_cores > 0.10 || self.stolen_cores > 0.03)
    }
}

/// Measures one stretch of time.
pub struct Meter {
    began: u64,
    own: f64,
    server: Option<(u32, Used)>,
    machine: (f64, f64, f64),
}

impl Meter {
    /// Begins now. `server` is the measured process.
    pub fn start(server: Option<u32>) -> Meter {
        let server = server.and_then(|pid| used_by(pid).ok().map(|used| (pid, used)));
        Meter { began: now_ns(), own: own_cpu(), server, machine: machine_cpu() }
    }

    /// What was used since.
    pub fn stop(&self) -> Cost {
        let seconds = Duration::from_nanos(now_ns() - self.began).as_secs_f64().max(1e-9);
        let generator_cpu_s = own_cpu() - self.own;
        let now = self.server.and_then(|(pid, before)| used_by(pid).ok().map(|used| (before, used)));
        let server_cpu_s = now.map(|(before, used)| used.cpu - before.cpu);
        let (busy, stolen, _) = machine_cpu();
        let accounted = generator_cpu_s + server_cpu_s.unwrap_or(0.0);
        Cost {
            seconds,
            generator_cpu_s,
            server_cpu_s,
            server_written_bytes: now.map(|(before, used)| used.written.saturating_sub(before.written)),
            foreign_cores: ((busy - self.machine.0 - accounted) / seconds).max(0.0),
            stolen_cores: ((stolen - self.machine.1) / seconds).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 12345 1000 200";
        assert_eq!(cpu_of_stat(stat, 100.0), Some(3.0));
        assert_eq!(cpu_of_stat("nonsense", 100.0), None);
    }

    #[test]
    fn the_machine_line_is_split_into_busy_stolen_and_idle() {
        let stat = "cpu  100 10 40 1000 50 3 7 25 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(machine_of_stat(stat, 10.0), (16.0, 2.5, 105.0));
    }

    #[test]
    fn this_process_has_memory_and_its_work_is_metered() {
        let pid = std::process::id();
        let memory = memory_of(pid).expect("own memory");
        assert!(memory.rss > 500 * 1024 && memory.private <= memory.rss, "{memory:?}");
        let meter = Meter::start(Some(pid));
        let mut sum = 0_u64;
        // Not by the clock on the wall: on a busy machine that goes on without us.
        let until = own_cpu() + 0.05;
        while own_cpu() < until {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(sum > 0 && meter.stop().generator_cpu_s > 0.005);
    }
}
