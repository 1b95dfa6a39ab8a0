//! Units of a real systemd as an agent tells of them, and that agent as one of them, under a limit of its own and one of
//! the slice that it is in.

use serde_json::{Value, json};
use servers::manager::Manager;
use tests::client::Api;
use tests::dock::MACHINE;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::program;
use tests::wait::until;

const LIMIT: u64 = 96 * 1024 * 1024;

/// What the agent says of a series, when it is as it should be.
async fn told(admin: &Api, name: &str, fits: impl Fn(&Value) -> bool) {
    until(&format!("{name} is told of"), async || {
        let latest = admin.get(&format!("/api/v1/telemetry/{MACHINE}")).await.expect(200);
        fits(&latest["series"][name]).then_some(())
    })
    .await;
}

async fn state(admin: &Api, unit: &str, state: &str) {
    told(admin, &format!("service.state{{{unit}}}"), |value| value == state).await;
}

fn service(lines: &str) -> String {
    format!("[Unit]\nDefaultDependencies=no\n\n[Service]\n{lines}\n")
}

#[tokio::test]
async fn units_of_a_real_systemd_are_told_of_and_the_limit_of_their_slice_but_not_the_agent_s_own() {
    let agents = program("viworks-agent");
    let Some(manager) = Manager::own(agents.parent().expect("a folder")) else { return };
    let run = |args: &[&str]| manager.systemctl(args).unwrap_or_else(|error| panic!("{error:#}"));
    for (unit, program) in
        [("well.service", "/bin/sleep 100000"), ("ill.service", "/bin/false"), ("idle.service", "/bin/true")]
    {
        manager.add(unit, &service(&format!("ExecStart={program}"))).expect("added");
    }
    run(&["start", "well.service", "ill.service"]);
    let mut host = TestHost::new();
    host.set_sections("[telemetry]\ninterval_ms = 1000\n");
    host.launch().await;
    let admin = host.admin().await;
    let mut agent = TestAgent::join(&host, &admin, MACHINE).await;
    let units = json!(["well.service", "ill.service", "idle.service", "gone.service"]);
    std::fs::write(agent.data().join("agent.toml"), format!("[telemetry]\nservices = {units}\n")).expect("written");

    let command = agent.command();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: Vec<String> = words.map(|word| format!("{:?}", word.to_str().expect("UTF-8"))).collect();
    let slice = format!("[Unit]\nDefaultDependencies=no\n\n[Slice]\nMemoryMax={LIMIT}\n");
    manager.add("fleet.slice", &slice).expect("added");
    let limited = service(&format!("ExecStart={}\nSlice=fleet.slice\nMemoryMax={}", line.join(" "), LIMIT / 2));
    manager.add("viworks-agent.service", &limited).expect("added");
    run(&["start", "viworks-agent.service"]);
    agent.seen(&admin, "online").await;

    state(&admin, "well.service", "active").await;
    state(&admin, "ill.service", "failed").await;
    state(&admin, "idle.service", "inactive").await;
    state(&admin, "gone.service", "missing").await;
    let is = |bytes: u64| move |value: &Value| value.as_f64() == Some(bytes as f64);
    told(&admin, "mem.total", is(LIMIT)).await;
    told(&admin, "mem.used_pct", |value| value.as_f64().is_some_and(|percent| percent > 1.0 && percent < 100.0)).await;

    // What changes is told of from the next sample on.
    run(&["stop", "well.service"]);
    run(&["reset-failed", "ill.service"]);
    run(&["set-property", "--runtime", "fleet.slice", &format!("MemoryMax={}", LIMIT / 4 * 3)]);
    state(&admin, "well.service", "inactive").await;
    state(&admin, "ill.service", "inactive").await;
    told(&admin, "mem.total", is(LIMIT / 4 * 3)).await;
    run(&["stop", "viworks-agent.service"]);
    agent.seen(&admin, "offline").await;
}
