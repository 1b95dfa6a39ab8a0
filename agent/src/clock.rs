//! The one place that asks the machine what time it is.
//!
//! Deadlines are kept on the clock that counts from boot and goes on counting while the machine
//! sleeps, so neither a changed wall clock nor a closed lid lets anything start late. It means the
//! same to every process of one boot, which is why the journal may hold it.

use nix::time::{ClockId, clock_gettime};

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since boot.
    pub mono_ms: u64,
    /// Milliseconds since 1970-01-01 UTC, as this machine believes.
    pub wall_ms: i64,
}

/// Reads both clocks.
pub fn now() -> Now {
    Now { mono_ms: u64::try_from(read(ClockId::CLOCK_BOOTTIME)).unwrap_or(0), wall_ms: read(ClockId::CLOCK_REALTIME) }
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock).expect("every Linux has this clock");
    time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000
}

/// The kernel's name for this boot; empty where it gives none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}
