//! How much an agent takes on: the protocol core alone, with a disk that is always quick and no supervisor.

use agent::clock::Now;
use agent::journal::Replay;
use agent::machine::{Input, MAX_HELD, Machine, Output};
use agent::policy::Policy;
use plan::effect::Effect;
use plan::outcome::{End, RejectCause};
use wire::codec::encode;
use wire::frame::{AgentFrame, Cancel, HostFrame};

use crate::played::{command, welcome};
use crate::support::{attempt, challenge, plan, setup, step};

/// An agent in session that starts nothing.
struct Busy(Machine);

impl Busy {
    fn new() -> Busy {
        let policy = Policy::of(&[Effect::Read], &[("true", "/bin/true")]).expect("every machine has it");
        let setup = setup(policy, "boot", 1);
        let mut busy = Busy(Machine::new(setup, Replay::default().finish(), Busy::now()));
        busy.hear(Input::Opened { facts: Box::default() });
        busy.say(HostFrame::Challenge(challenge()));
        busy.say(HostFrame::Welcome(welcome()));
        busy
    }

    fn now() -> Now {
        Now { mono_ms: 1_000, wall_ms: agent::clock::now().wall_ms }
    }

    /// What the agent answers to a frame.
    fn say(&mut self, frame: HostFrame) -> Vec<AgentFrame> {
        self.hear(Input::Text(encode(&frame)))
    }

    fn hear(&mut self, input: Input) -> Vec<AgentFrame> {
        let mut said = Vec::new();
        self.0.handle(input, Busy::now());
        while let Some(output) = self.0.poll() {
            match output {
                Output::Frame(frame) => said.push(frame),
                Output::Journal(_) => self.0.handle(Input::Durable(1), Busy::now()),
                _ => {}
            }
        }
        said
    }
}

#[test]
fn an_agent_holds_so_many_attempts_and_is_busy_for_the_next_until_one_ends() {
    let mut agent = Busy::new();
    let order = |number: usize| HostFrame::Command(command(attempt(number as u128, 1), plan(vec![step("true", &[])])));
    for number in 1..=MAX_HELD {
        let key = attempt(number as u128, 1);
        assert_eq!(agent.say(order(number)), [AgentFrame::Ack { attempt: key }], "{number}");
    }
    let said = agent.say(order(MAX_HELD + 1));
    let [AgentFrame::Result { attempt: refused, outcome, .. }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*refused, attempt(MAX_HELD as u128 + 1, 1));
    assert!(matches!(outcome.end, End::Rejected { cause: RejectCause::Busy, .. }), "{outcome:?}");

    // One that is over makes room for one more, and no more than that.
    agent.say(HostFrame::Cancel(Cancel { attempt: attempt(1, 1), grace_ms: None }));
    let said = agent.say(order(MAX_HELD + 2));
    assert!(matches!(said[..], [AgentFrame::Ack { .. }]), "{said:?}");
    let said = agent.say(order(MAX_HELD + 3));
    assert!(matches!(said[..], [AgentFrame::Result { .. }]), "{said:?}");
}
