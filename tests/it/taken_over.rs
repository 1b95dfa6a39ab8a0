//! What a host that died had under way is taken over by those beside it: retries that were due at it, and commands
//! whose agents are spread over all of them. Agents are real, and come back through a balancer.

use domain::attempt::State;
use serde_json::{Value, json};
use tests::balancer::{Balancer, Place};
use tests::client::{Api, exec_body, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;
use tests::wait::until;

/// Hosts on one database, with a balancer in front of all of them.
struct Beside {
    hosts: Vec<TestHost>,
    balancer: Balancer,
    /// The first administrator, at each host.
    admins: Vec<Api>,
}

impl Beside {
    async fn start(store: &Store, count: usize) -> Beside {
        let mut hosts = vec![TestHost::start_on(store.clone()).await];
        while hosts.len() < count {
            let mut other = hosts[0].beside();
            other.launch().await;
            hosts.push(other);
        }
        let place = |host: &TestHost| Place { api: host.api_address(), agents: host.agents_address() };
        let balancer = Balancer::start(&hosts.iter().map(place).collect::<Vec<_>>()).await;
        let mut admins = Vec::new();
        for (number, host) in hosts.iter().enumerate() {
            balancer.sees(number, true).await;
            admins.push(host.admin().await);
        }
        Beside { hosts, balancer, admins }
    }

    /// An agent that looks for a host at the balancer, has found one, and is known to all of them.
    async fn agent(&self, name: &str) -> TestAgent {
        let mut agent = TestAgent::join(&self.hosts[0], &self.admins[0], name).await;
        agent.connect_to(self.balancer.agents());
        agent.run();
        for admin in &self.admins {
            agent.seen(admin, "online").await;
        }
        agent
    }

    /// How many agents have their session at each host.
    async fn sessions(&self) -> Vec<u64> {
        let mut counts = Vec::new();
        for admin in &self.admins {
            let text = String::from_utf8(admin.get("/metrics").await.bytes).expect("text");
            let gauge = |line: &str| {
                let value = line.strip_prefix("viworks_agent_sessions")?.trim_start_matches("{}");
                value.trim().parse().ok()
            };
            counts.push(text.lines().find_map(gauge).expect("the gauge"));
        }
        counts
    }
}

/// Adds a line to `notes` each time it runs, and fails the first time.
fn fails_once(notes: &std::path::Path) -> Value {
    let notes = notes.display();
    json!({ "program": "sh", "args": ["-c", format!("echo run >> {notes}; [ $(wc -l < {notes}) -ge 2 ]")] })
}

fn lines(notes: &std::path::Path) -> usize {
    std::fs::read_to_string(notes).unwrap_or_default().lines().count()
}

/// Commands at once: some of their retries are due long enough after the host has died, however they are spread.
const COMMANDS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_of_a_host_that_was_killed_are_started_once_by_the_one_beside_it() {
    let Some(store) = Store::postgres() else { return };
    let mut beside = Beside::start(&store, 2).await;
    let _agent = beside.agent("web-1").await;
    let owner = beside.sessions().await.iter().position(|count| *count == 1).expect("it is at one of them");
    let (down, up) = (&beside.admins[owner], beside.admins[1 - owner].clone());
    let mut commands = Vec::new();
    for number in 0..COMMANDS {
        let notes = beside.hosts[0].scratch().join(format!("notes-{number}"));
        let mut body = exec_body("web-1", &fails_once(&notes));
        body["retry"] = json!({ "max_attempts": 2, "on": ["failed"], "backoff_ms": 30_000 });
        commands.push((down.submit(&body).await, notes));
    }
    for (id, _) in &commands {
        until("its first attempt has failed", async || {
            (down.invocation(id, "web-1").await["attempt"] == 2).then_some(())
        })
        .await;
    }
    beside.hosts[owner].kill9();

    let mut pending = 0;
    for (id, _) in &commands {
        let now = up.invocation(id, "web-1").await;
        pending += usize::from(state_of(&now) == State::Held && now["reason"] == "retry");
    }
    assert!(pending > 0, "retries of the dead host wait");
    for (id, notes) in &commands {
        let ended = up.ended(id, "web-1").await;
        assert_eq!((state_of(&ended), &ended["attempt"], lines(notes)), (State::Succeeded, &json!(2), 2), "{ended:#}");
        let path = format!("/api/v1/commands/{id}/invocations/web-1/attempts");
        let before = up.get(&path).await.expect(200);
        let states: Vec<&Value> = before["items"].as_array().expect("items").iter().map(|one| &one["state"]).collect();
        assert_eq!(states, ["failed"], "{before:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_spread_over_three_hosts_ends_on_all_its_agents_when_one_of_them_is_killed() {
    let Some(store) = Store::postgres() else { return };
    let mut beside = Beside::start(&store, 3).await;
    let names: Vec<String> = (1..=6).map(|number| format!("web-{number}")).collect();
    let mut agents = Vec::new();
    for name in &names {
        agents.push(beside.agent(name).await);
    }
    // The balancer takes turns, and leaves out whoever is slow to say that it is ready.
    let sessions = beside.sessions().await;
    assert!(sessions.iter().all(|count| *count > 0) && sessions.iter().sum::<u64>() == 6, "{sessions:?}");
    let to_all = |args: Value| json!({ "verb": "exec.run", "args": args, "target": { "agents": names } });

    // Through each host one that runs when the host dies, and one that it has hardly accepted.
    let (mut running, mut young) = (Vec::new(), Vec::new());
    for admin in &beside.admins {
        let gated = Gated::new();
        running.push((admin.submit(&to_all(gated.args())).await, gated));
    }
    for (_, gated) in &running {
        until("it runs on all agents", async || (gated.starts() == names.len()).then_some(())).await;
    }
    for (number, admin) in beside.admins.iter().enumerate() {
        let notes = beside.hosts[0].scratch().join(format!("notes-{number}"));
        let args = json!({ "program": "sh", "args": ["-c", format!("echo run >> {}", notes.display())] });
        young.push((admin.submit(&to_all(args)).await, notes));
    }
    beside.hosts[2].kill9();
    for (_, gated) in &mut running {
        names.iter().for_each(|_| gated.open());
    }

    let left = &beside.admins[..2];
    let ends = async |id: &str| {
        for name in &names {
            for admin in left {
                let ended = admin.ended(id, name).await;
                assert_eq!((state_of(&ended), &ended["attempt"]), (State::Succeeded, &json!(1)), "{ended:#}");
            }
        }
    };
    for (id, gated) in &running {
        ends(id).await;
        assert_eq!((gated.starts(), gated.ends()), (names.len(), names.len()), "once on each");
    }
    for (id, notes) in &young {
        ends(id).await;
        assert_eq!(lines(notes), names.len(), "once on each");
    }
    // All of them are served by those that are left, through either.
    for admin in left {
        ends(&admin.submit(&to_all(json!({ "program": "true" }))).await).await;
    }
}
