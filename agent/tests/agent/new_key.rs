//! An agent makes another key: whoever is killed between whichever two steps, one of its keys is taken, the
//! rotation goes on, and in the end agent and host have the same one and the old one is worth nothing.

use agent::clock::Now;
use agent::config::SpoolLimits;
use agent::identity::{Identity, adopt_next_key, load_or_make_key, load_or_make_next_key, make_data_dir};
use agent::journal::Recovered;
use agent::line::HostTrust;
use agent::machine::{Input, Machine, Output, Setup};
use agent::policy::Policy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plan::envelope::{hello_parts, key_text, parse_key, rotate_parts, verify};
use wire::codec::encode;
use wire::frame::{AgentFrame, Challenge, Hello, HostFrame};

use crate::played::welcome;
use crate::support::{agent_id, cluster_id, cluster_key};

const NOW: Now = Now { mono_ms: 1_000, wall_ms: 1_800_000_000_000 };
const NONCE: [u8; 32] = [3; 32];

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Killed {
    Agent,
    Host,
    Both,
}

/// An agent's disk and process, and what a host has stored of it.
struct World {
    dir: tempfile::TempDir,
    machine: Machine,
    /// The key that counts.
    stored: String,
    retired: Vec<String>,
    wanted: bool,
    /// Frames on their way.
    to_agent: Vec<HostFrame>,
    to_host: Vec<AgentFrame>,
}

fn boot(data: &std::path::Path) -> Machine {
    let identity = Identity::load(data).expect("an identity");
    let setup = Setup {
        agent_id: identity.agent_id,
        cluster_id: identity.cluster_id,
        cluster_key: identity.cluster_key,
        key: identity.key,
        next_key: identity.next_key,
        boot_id: "boot".to_owned(),
        policy: Policy::default(),
        spool: SpoolLimits::default(),
        seed: 1,
    };
    Machine::new(setup, Recovered::default(), NOW)
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().expect("a folder");
        make_data_dir(dir.path()).expect("made");
        let key = load_or_make_key(dir.path()).expect("a key");
        let stored = key_text(&key.verifying_key());
        let identity = Identity {
            agent_id: agent_id(),
            name: "box".to_owned(),
            cluster_id: cluster_id(),
            cluster_key: cluster_key().verifying_key(),
            ws_url: "ws://127.0.0.1:9/ws/agent".to_owned(),
            host: HostTrust::default(),
            labels: [].into(),
            key,
            next_key: None,
        };
        identity.store(dir.path()).expect("stored");
        let machine = boot(dir.path());
        let (to_agent, to_host) = (Vec::new(), Vec::new());
        World { dir, machine, stored, retired: Vec::new(), wanted: false, to_agent, to_host }
    }

    /// The host's rule, as `gateway::handshake` has it.
    fn takes(&self, hello: &Hello) -> bool {
        let said = hello_parts(cluster_id(), agent_id(), &NONCE);
        let key = parse_key(&self.stored).expect("a key");
        let next = hello.next_key.as_ref().map(|next| &next.signature);
        [Some(&hello.signature), next].into_iter().flatten().any(|proof| verify(&key, &[&said], proof).is_ok())
    }

    /// A session is opened; what the host says then of keys.
    fn connect(&mut self) {
        (self.to_agent, self.to_host) = (Vec::new(), Vec::new());
        self.machine.handle(Input::Closed, NOW);
        self.machine.handle(Input::Opened { facts: Box::default() }, NOW);
        self.hear(&HostFrame::Challenge(Challenge {
            nonce: URL_SAFE_NO_PAD.encode(NONCE),
            cluster_id: cluster_id(),
            cluster_epoch: 1,
            epoch_signature: None,
            keys: Vec::new(),
            versions: vec![1],
        }));
        let hello = self.frames().into_iter().find_map(|frame| match frame {
            AgentFrame::Hello(hello) => Some(hello),
            _ => None,
        });
        let hello = hello.expect("HELLO");
        assert!(self.takes(&hello), "locked out: {hello:?}");
        self.hear(&HostFrame::Welcome(welcome()));
        assert!(self.machine.in_session());
        self.frames();
        if hello.next_key.is_some_and(|next| next.public_key == self.stored) {
            self.to_agent.push(HostFrame::KeyAck { public_key: self.stored.clone() });
        }
        if self.wanted {
            self.to_agent.push(HostFrame::RotateKey);
        }
    }

    fn hear(&mut self, frame: &HostFrame) {
        self.machine.handle(Input::Text(encode(frame)), NOW);
    }

    /// What the machine says, leaving out all else that it wants: nothing of that concerns keys.
    fn frames(&mut self) -> Vec<AgentFrame> {
        let outputs = std::iter::from_fn(|| self.machine.poll());
        outputs.filter_map(|output| if let Output::Frame(frame) = output { Some(frame) } else { None }).collect()
    }

    /// What the driver does.
    fn obey(&mut self, output: Output) {
        match output {
            Output::MakeKey => {
                let key = load_or_make_next_key(self.dir.path()).expect("made");
                self.machine.handle(Input::KeyMade(Box::new(key)), NOW);
            }
            Output::AdoptKey => adopt_next_key(self.dir.path()).expect("adopted"),
            Output::Frame(frame) => self.to_host.push(frame),
            _ => {}
        }
    }

    /// One thing happens; `false` when nothing is left to happen.
    fn step(&mut self) -> bool {
        if let Some(output) = self.machine.poll() {
            self.obey(output);
        } else if !self.to_host.is_empty() {
            if let AgentFrame::NewKey(new) = self.to_host.remove(0)
                && new.public_key != self.stored
            {
                let said = rotate_parts(cluster_id(), agent_id(), &self.stored, &new.public_key);
                for (key, proof) in [(&self.stored, &new.signature), (&new.public_key, &new.new_signature)] {
                    verify(&parse_key(key).expect("a key"), &[&said], proof).expect("proven by both");
                }
                let old = std::mem::replace(&mut self.stored, new.public_key);
                self.retired.push(old);
                self.wanted = false;
            } else {
                return true;
            }
            self.to_agent.push(HostFrame::KeyAck { public_key: self.stored.clone() });
        } else if !self.to_agent.is_empty() {
            let frame = self.to_agent.remove(0);
            self.hear(&frame);
        } else {
            return false;
        }
        true
    }

    fn kill(&mut self, who: Killed) {
        if who == Killed::Host {
            // An agent that lives does what it began.
            while let Some(output) = self.machine.poll() {
                self.obey(output);
            }
        } else {
            self.machine = boot(self.dir.path());
        }
        self.connect();
    }
}

#[test]
fn whoever_dies_at_whichever_step_one_key_is_taken_and_the_rotation_comes_to_its_end() {
    let mut walks = 0;
    for who in [Killed::Agent, Killed::Host, Killed::Both] {
        for first in 0.. {
            let mut died = false;
            for second in 0..4 {
                let mut world = World::new();
                let original = world.stored.clone();
                world.connect();
                world.wanted = true;
                world.to_agent.push(HostFrame::RotateKey);
                let alive = (0..first).all(|_| world.step());
                world.kill(who);
                died |= alive;
                // Once more, a little later.
                let _ = (0..second).all(|_| world.step());
                world.kill(Killed::Agent);
                while world.step() {}
                let identity = Identity::load(world.dir.path()).expect("an identity");
                assert_eq!(key_text(&identity.key.verifying_key()), world.stored, "{who:?} after {first} and {second}");
                assert!(identity.next_key.is_none());
                assert_eq!(world.retired, [original], "one rotation, and the old key is over");
                world.kill(Killed::Both);
                walks += 1;
            }
            if !died {
                break;
            }
        }
    }
    assert!(walks > 60, "{walks}");
}
