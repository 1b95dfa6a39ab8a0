//! When an agent looks at its machine: the protocol core alone, by a clock that the test turns.

use agent::clock::Now;
use agent::journal::Replay;
use agent::machine::{Input, Machine, Output};
use agent::policy::Policy;
use plan::effect::Effect;
use wire::codec::encode;
use wire::frame::{HostFrame, Welcome};

use crate::played::welcome;
use crate::support::{challenge, setup};

const OPENED_MS: u64 = 1_000;
const EVERY_MS: u64 = 10_000;

/// Answers what the agent asks of its disk, and whether it wants a sample.
fn settle(machine: &mut Machine, now: Now) -> bool {
    let mut sample = false;
    while let Some(output) = machine.poll() {
        match output {
            Output::Sample => sample = true,
            Output::Journal(_) => machine.handle(Input::Durable(1), now),
            _ => {}
        }
    }
    sample
}

/// When an agent takes its first few hundred samples that was told of this jitter, from the session's begin on.
fn samples(jitter_ms: Option<u64>, seed: u64) -> Vec<u64> {
    let at = |mono_ms: u64| Now { mono_ms, wall_ms: 1_767_222_000_000 };
    let policy = Policy::of(&[Effect::Read], &[]).expect("nothing to look for");
    let mut machine = Machine::new(setup(policy, "boot", seed), Replay::default().finish(), at(OPENED_MS));
    let told = Welcome { heartbeat_ms: 60_000, telemetry_ms: EVERY_MS, telemetry_jitter_ms: jitter_ms, ..welcome() };
    for input in [
        Input::Opened { facts: Box::default() },
        Input::Text(encode(&HostFrame::Challenge(challenge()))),
        Input::Text(encode(&HostFrame::Welcome(told))),
    ] {
        machine.handle(input, at(OPENED_MS));
        assert!(!settle(&mut machine, at(OPENED_MS)), "none before its time");
    }
    let (mut taken, mut now_ms) = (Vec::new(), OPENED_MS);
    while taken.len() < 400 {
        now_ms = machine.deadline(at(now_ms)).expect("an open session has clocks");
        machine.handle(Input::Heard, at(now_ms));
        if settle(&mut machine, at(now_ms)) {
            taken.push(now_ms - OPENED_MS);
        }
    }
    taken
}

/// The shortest and the longest wait between two of them.
fn waits(taken: &[u64]) -> (u64, u64) {
    let waits = || taken.windows(2).map(|two| two[1] - two[0]);
    (waits().min().expect("many"), waits().max().expect("many"))
}

#[test]
fn samples_are_as_far_apart_as_the_host_says_give_or_take_its_jitter() {
    for (jitter_ms, most) in [(Some(0), 0), (None, 1_000), (Some(3_000), 3_000), (Some(u64::MAX), 5_000)] {
        let taken = samples(jitter_ms, 7);
        assert!(taken[0] <= 2_000, "{taken:?}");
        let (least, longest) = waits(&taken);
        assert!(least >= EVERY_MS - most && longest <= EVERY_MS + most, "{jitter_ms:?}: {least} to {longest}");
        // Nearly all of the room is used: of 400 the outermost tenths are not all missed.
        let (low, high) = (EVERY_MS - most * 9 / 10, EVERY_MS + most * 9 / 10);
        assert!(least <= low && longest >= high, "{jitter_ms:?}: {least} to {longest}");
    }
}

#[test]
fn machines_that_were_started_together_do_not_speak_together() {
    let fleet: Vec<Vec<u64>> = (0..50).map(|seed| samples(Some(1_000), seed)).collect();
    for n in [0, 10, 399] {
        let mut instants: Vec<u64> = fleet.iter().map(|taken| taken[n]).collect();
        instants.sort_unstable();
        instants.dedup();
        assert!(instants.len() > 40, "sample {n}: {instants:?}");
    }
}
