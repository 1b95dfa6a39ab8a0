//! A real agent on a temporary folder, with a policy of harmless programs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::client::Api;
use crate::host::{TestHost, Tls};
use crate::process::{Process, is_alive, kill9, kill9_now};
use crate::programs::{program, tool};
use crate::wait::until;

/// Programs the policy allows, with any arguments.
const ALLOWED: [&str; 7] = ["uname", "true", "false", "sleep", "echo", "cat", "sh"];

/// Programs a machine with a container engine allows besides, if it has them.
const CONTAINER_TOOLS: [&str; 2] = ["docker", "docker-compose"];

/// One agent. Dropped, it is killed with its supervisor and what that runs.
pub struct TestAgent {
    /// Its name.
    pub name: String,
    dir: tempfile::TempDir,
    log_level: Option<&'static str>,
    process: Option<Process>,
}

impl TestAgent {
    /// Joins, starts and waits until the host sees it.
    pub async fn start(host: &TestHost, admin: &Api, name: &str) -> TestAgent {
        let mut agent = TestAgent::join(host, admin, name).await;
        agent.run();
        agent.seen(admin, "online").await;
        agent
    }

    /// Joins with the container tools in its policy and this engine in its settings, starts, and waits
    /// until the host sees it.
    ///
    /// # Panics
    /// When its settings cannot be written.
    pub async fn start_with_engine(host: &TestHost, admin: &Api, name: &str, endpoint: &str) -> TestAgent {
        TestAgent::start_with_tools(host, admin, name, endpoint, None).await
    }

    /// As [`TestAgent::start_with_engine`], and with this folder for docker's configuration and plugins.
    ///
    /// # Panics
    /// When its settings cannot be written.
    pub async fn start_with_tools(
        host: &TestHost,
        admin: &Api,
        name: &str,
        endpoint: &str,
        folder: Option<&Path>,
    ) -> TestAgent {
        let mut agent = TestAgent::join(host, admin, name).await;
        let tools = CONTAINER_TOOLS.into_iter().filter(|tool| Path::new("/usr/bin").join(tool).is_file());
        write_policy(&agent.policy(), &ALLOWED.into_iter().chain(tools).collect::<Vec<_>>());
        let mut settings = format!("[container_engine]\nendpoint = {}\n", toml::Value::from(endpoint));
        if let Some(folder) = folder {
            writeln!(settings, "config = {}", toml::Value::from(folder.display().to_string())).expect("text grows");
        }
        std::fs::write(agent.data().join("agent.toml"), settings).expect("the settings are written");
        agent.run();
        agent.seen(admin, "online").await;
        agent
    }

    /// Joins and does not start.
    ///
    /// # Panics
    /// When the host or the agent refuses.
    pub async fn join(host: &TestHost, admin: &Api, name: &str) -> TestAgent {
        let token = admin.post("/api/v1/join-tokens", &json!({})).await.expect(201);
        let token = token["token"].as_str().expect("a token");
        TestAgent::join_with(host, token, name).unwrap_or_else(|words| panic!("the agent cannot join: {words}"))
    }

    /// Joins with this token and does not start.
    ///
    /// # Errors
    /// What the agent said when it could not.
    ///
    /// # Panics
    /// When the agent's program cannot be started.
    pub fn join_with(host: &TestHost, token: &str, name: &str) -> Result<TestAgent, String> {
        let agent = TestAgent {
            name: name.to_owned(),
            dir: tempfile::tempdir().expect("a folder"),
            log_level: None,
            process: None,
        };
        let mut join = Command::new(program("viworks-agent"));
        join.args(["join", &host.agents_url(), "--name", name, "--data"]).arg(agent.data());
        join.args(["--token", token]).stdin(Stdio::null());
        if let Some(Tls::SignedBy(authority)) = host.tls() {
            join.arg("--ca").arg(authority);
        }
        let done = join.output().expect("the agent's program starts");
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        write_policy(&agent.policy(), &ALLOWED);
        Ok(agent)
    }

    /// Has it look for its host at another address from its next start on.
    ///
    /// # Panics
    /// When its identity cannot be changed.
    pub fn connect_to(&self, address: SocketAddr) {
        let file = self.data().join("identity.json");
        let mut identity: Value =
            serde_json::from_str(&std::fs::read_to_string(&file).expect("an identity")).expect("JSON");
        identity["ws_url"] = json!(format!("ws://{address}{}", wire::limits::PATH));
        // Written in place, so that it stays as private as it was.
        std::fs::write(&file, identity.to_string()).expect("the identity is written");
    }

    /// How much it says from its next start on.
    pub fn set_log_level(&mut self, level: &'static str) {
        self.log_level = Some(level);
    }

    /// What runs it, for whoever starts it another way.
    pub fn command(&self) -> Command {
        let mut run = Command::new(program("viworks-agent"));
        run.args(["run", "--data"]).arg(self.data()).arg("--policy").arg(self.policy());
        run
    }

    /// Starts its process.
    ///
    /// # Panics
    /// When it runs already.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "the agent runs already");
        let mut run = self.command();
        run.envs(self.log_level.map(|level| ("VIWORKS_LOG", level)));
        self.process = Some(Process::start(&mut run, &self.dir.path().join("agent.log")));
    }

    /// Ends it, changes its policy file and starts it again.
    ///
    /// # Panics
    /// When it does not run, or the file cannot be written.
    pub fn change_policy(&mut self, change: impl FnOnce(String) -> String) {
        self.kill9();
        let text = std::fs::read_to_string(self.policy()).expect("the policy");
        std::fs::write(self.policy(), change(text)).expect("the policy is written");
        self.run();
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// What its doctor says, and whether all is well.
    ///
    /// # Panics
    /// When the agent's program cannot be started.
    pub fn doctor(&self) -> (bool, String) {
        let mut doctor = Command::new(program("viworks-agent"));
        doctor.args(["doctor", "--data"]).arg(self.data()).arg("--policy").arg(self.policy());
        let done = doctor.stdin(Stdio::null()).output().expect("the agent's program starts");
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("the agent runs").pid()
    }

    /// Waits until the host says it has this status.
    ///
    /// # Panics
    /// When it does not.
    pub async fn seen(&mut self, api: &Api, status: &str) {
        let path = format!("/api/v1/agents/{}", self.name);
        let name = self.name.clone();
        until(&format!("agent `{name}` is {status}"), async || {
            if let Some(process) = self.process.as_mut() {
                process.assert_alive();
            }
            (api.get(&path).await.json["status"] == *status).then_some(())
        })
        .await;
    }

    /// `kill -9` of the agent alone; its supervisor and what that runs live on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self) {
        self.process.take().expect("the agent runs").kill9();
    }

    /// `kill -9` of agent and supervisor; what that ran is left without a parent.
    ///
    /// # Panics
    /// When one of them does not run.
    pub async fn kill9_with_supervisor(&mut self) {
        let supervisor = self.supervisor().expect("a supervisor runs");
        self.kill9();
        kill9(supervisor).await;
    }

    /// The supervisor's process id, if it runs.
    pub fn supervisor(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.data().join("supervisor.lock")).ok()?;
        let pid = text.trim().parse().ok()?;
        // The id may be somebody else's by now.
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (line.contains(&self.data().display().to_string()) && is_alive(pid)).then_some(pid)
    }

    /// Its journal's file.
    pub fn journal(&self) -> PathBuf {
        self.data().join("journal").join("log")
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn policy(&self) -> PathBuf {
        self.dir.path().join("policy.toml")
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.process = None;
        // Its guards end what it ran.
        if let Some(supervisor) = self.supervisor() {
            kill9_now(supervisor);
        }
    }
}

fn write_policy(path: &Path, programs: &[&str]) {
    let mut text = String::from("effects = [\"read\", \"change\", \"destroy\", \"host\"]\n");
    for name in programs {
        let file = toml::Value::from(tool(name).display().to_string());
        writeln!(text, "[programs.{name}]\npath = {file}\nstdin = true").expect("text grows");
        if CONTAINER_TOOLS.contains(name) {
            text.push_str("env = [\"*\"]\ncwd = [\"/\"]\n");
        }
    }
    std::fs::write(path, text).expect("the policy is written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("the policy is private");
}
