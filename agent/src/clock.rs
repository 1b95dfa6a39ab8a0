//! The one place that asks the machine what time it is.
//!
//! Deadlines are kept on the clock that counts from boot and goes on counting while the machine
//! sleeps, so neither a changed wall clock nor a closed lid lets anything start late. It means the
//! same to every process of one boot, which is why the journal may hold it.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;

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

/// Wakes at an instant since boot. Unlike the runtime's own timers it counts the time the machine slept.
#[derive(Debug, Default)]
pub struct Alarm {
    /// Made when it is first needed.
    timer: Option<AsyncFd<Timer>>,
    set_to: Option<u64>,
}

#[derive(Debug)]
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// Waits until the clock since boot shows `instant_ms`; for ever when there is no such instant.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn at(&mut self, instant_ms: Option<u64>) {
        let Some(instant_ms) = instant_ms else { return std::future::pending().await };
        while now().mono_ms < instant_ms {
            if let Err(error) = self.wait(instant_ms).await {
                tracing::error!(%error, "the alarm clock of this machine does not work; looking every second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn wait(&mut self, instant_ms: u64) -> io::Result<()> {
        let timer = match &self.timer {
            Some(timer) => timer,
            None => {
                let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
                let timer = Timer(TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags)?);
                #[expect(
                    deprecated,
                    reason = "its unsafe successor asks what is plain here: the timer owns its descriptor"
                )]
                self.timer.insert(AsyncFd::new(timer)?)
            }
        };
        if self.set_to != Some(instant_ms) {
            let instant = TimeSpec::from_duration(Duration::from_millis(instant_ms));
            timer.get_ref().0.set(Expiration::OneShot(instant), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            self.set_to = Some(instant_ms);
        }
        let mut ready = timer.readable().await?;
        // Rung, or set anew since: either way it is looked at again and set again if need be.
        self.set_to = None;
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_at_its_instant_and_can_be_moved_either_way() {
        let mut alarm = Alarm::default();
        let begun = now().mono_ms;
        let far = tokio::time::timeout(Duration::from_millis(30), alarm.at(Some(begun + 600_000))).await;
        assert!(far.is_err(), "ten minutes are not over");
        alarm.at(Some(begun + 60)).await;
        assert!((begun + 60..begun + 60_000).contains(&now().mono_ms));
        alarm.at(Some(begun)).await;
        alarm.at(Some(now().mono_ms + 20)).await;
        assert!(now().mono_ms >= begun + 80);
    }
}
