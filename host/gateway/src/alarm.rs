//! When a session's alarm is set, and for when: its deadline moves on with every frame it hears.

use std::time::Duration;

use domain::time::Timestamp;

/// Whether an alarm that rings at `armed` is to be set anew. An earlier `deadline` has to be met. A later one moves on
/// with every frame: to set the alarm each time costs too much, and so does one that rings for nothing between any two
/// heartbeats, which wakes the session as often as they do.
pub fn is_to_be_set(deadline: Timestamp, armed: Timestamp, heartbeat: Duration) -> bool {
    deadline < armed - part(heartbeat) || deadline.since(armed) >= heartbeat / 2
}

/// When the alarm of a deadline rings: a little later, at one of few moments, so that the alarms of many sessions ring
/// together and the host wakes for them once.
pub fn rings(deadline: Timestamp, heartbeat: Duration) -> Timestamp {
    let part = i64::try_from(part(heartbeat).as_micros()).unwrap_or(i64::MAX).max(1);
    Timestamp(deadline.0.div_euclid(part).saturating_add(1).saturating_mul(part))
}

/// How much later than it should an alarm may ring.
fn part(heartbeat: Duration) -> Duration {
    heartbeat / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_set_once_a_heartbeat_rings_soon_after_its_deadline_and_never_before_it() {
        let heartbeat = Duration::from_secs(15);
        let late = heartbeat / 16;
        for begun in [0, 1, 937_499, 937_500, 1_700_000_000_123_456] {
            // What a session that hears something every second does for ten heartbeats.
            let (mut armed, mut set) = (Timestamp(0), 0);
            for second in 0..150 {
                let now = Timestamp(begun) + Duration::from_secs(second);
                let deadline = now + heartbeat + heartbeat / 2;
                if second == 0 || is_to_be_set(deadline, armed, heartbeat) {
                    (armed, set) = (rings(deadline, heartbeat), set + 1);
                    assert!(armed > deadline && armed.since(deadline) <= late);
                }
                assert!(armed > now, "it rings for nothing");
            }
            assert!((10..=25).contains(&set), "{set}");
        }
    }

    #[test]
    fn a_deadline_that_comes_sooner_is_met_and_alarms_ring_together() {
        let heartbeat = Duration::from_secs(15);
        let armed = rings(Timestamp(60_000_000), heartbeat);
        assert!(!is_to_be_set(Timestamp(60_000_000), armed, heartbeat), "it rings for this one");
        assert!(is_to_be_set(Timestamp(50_000_000), armed, heartbeat));
        let moments: std::collections::BTreeSet<Timestamp> =
            (0..10_000).map(|n| rings(Timestamp(n * 1_500), heartbeat)).collect();
        assert!((16..=17).contains(&moments.len()), "{}", moments.len());
        assert_eq!(rings(Timestamp(i64::MAX), heartbeat), Timestamp(i64::MAX), "at the end of time");
    }
}
