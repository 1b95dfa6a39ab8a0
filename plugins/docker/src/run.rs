//! `docker.run`: a new container.

mod checks;
#[cfg(test)]
mod tests;

use viworks_sdk::prelude::*;

use crate::complaint::{self, between};
use crate::container::{docker, failed};
use crate::exec::Ended;
use crate::spelling::{IMAGE, KEY, LABEL, NAME, PLATFORM, USER, VARIABLE, short};

/// Bytes, with a unit.
const SIZE: &str = "^[1-9][0-9]{0,15}[bkmgBKMG]?$";
/// A time with units.
const DURATION: &str = "^([0-9]{1,6}(ms|s|m|h))+$";

/// Creates a container and starts it.
#[derive(Args)]
pub struct Run {
    /// The image; pulled first when the machine does not have it.
    #[arg(length = 1..=512, pattern = IMAGE, example = "nginx:1.27")]
    image: String,
    /// What to run instead of the image's own command. No shell reads it.
    #[arg(default, allow_dash, length = ..=128, items(length = ..=32768), example = json!(["nginx", "-g", "daemon off;"]))]
    command: Vec<String>,
    /// Its name; docker invents one when absent.
    #[arg(length = 2..=128, pattern = NAME, example = "web")]
    name: Option<String>,
    /// Leave it running and answer with its id. Without, wait for its end and answer with what it printed.
    #[arg(default = true)]
    detach: bool,
    /// Remove it when it ends.
    #[arg(default)]
    rm: bool,
    /// When to pull the image.
    #[arg(default = Pull::Missing)]
    pull: Pull,
    /// Of an image for several platforms, the one for this.
    #[arg(length = 1..=64, pattern = PLATFORM, example = "linux/amd64")]
    platform: Option<String>,
    /// Environment variables. They are visible to all who may see commands or the machine's command lines; secrets
    /// belong into `secret_env`.
    #[arg(default, length = ..=100, keys(pattern = KEY, length = ..=256), items(length = ..=32768), example = json!({ "TZ": "UTC" }))]
    env: BTreeMap<String, String>,
    /// More of them, whose values nobody sees but the container and who may inspect it: kept encrypted, shown as
    /// placeholders. The agent's policy has to allow docker these names.
    #[arg(default, length = ..=64, keys(pattern = VARIABLE, length = ..=128), items(secret))]
    secret_env: BTreeMap<String, String>,
    /// Labels.
    #[arg(default, length = ..=64, keys(pattern = LABEL, length = ..=256), items(length = ..=4096), example = json!({ "com.example.team": "shop" }))]
    labels: BTreeMap<String, String>,
    /// The program that the command is given to, instead of the image's own; empty for none.
    #[arg(length = ..=4096)]
    entrypoint: Option<String>,
    /// Who runs it inside: a name or number, also with a group as `user:group`.
    #[arg(length = 1..=64, pattern = USER, example = "1000:1000")]
    user: Option<String>,
    /// Absolute directory inside the container to run in.
    #[arg(length = 1..=4096, pattern = "^/")]
    workdir: Option<String>,
    /// Its own host name.
    #[arg(length = 1..=63, pattern = "^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$")]
    hostname: Option<String>,
    /// Text for standard input, which is closed after it.
    #[arg(length = ..=131072)]
    stdin: Option<String>,
    /// Put a small init in front that passes signals on and reaps processes.
    #[arg(default)]
    init: bool,
    /// Let it write to volumes and `tmpfs` only.
    #[arg(default)]
    read_only: bool,
    /// Ports to publish on the machine, as `[[address:]port:]container port[/protocol]`, each port one or a range.
    #[arg(default, length = ..=64, items(length = 1..=128), example = json!(["127.0.0.1:8080:80"]))]
    ports: Vec<String>,
    /// What to mount, as `[source:]target[:options]`. A volume's name as source is kept by docker; an absolute
    /// path is the machine's own and raises the effect to `host`.
    #[arg(default, length = ..=64, items(length = 1..=4096), example = json!(["data:/var/lib/app"]))]
    volumes: Vec<String>,
    /// File systems in memory, as `target[:options]`.
    #[arg(default, length = ..=16, items(length = 1..=1024), example = json!(["/run:size=64m"]))]
    tmpfs: Vec<String>,
    /// The network: a name, `none`, or `host` or `container:…`, which raise the effect to `host`.
    #[arg(length = 1..=255, pattern = "^(container:)?[a-zA-Z0-9][a-zA-Z0-9_.-]*$", example = "front")]
    network: Option<String>,
    /// Further names that it has in its network.
    #[arg(default, length = ..=16, items(length = 1..=255, pattern = NAME))]
    network_aliases: Vec<String>,
    /// Names for its hosts file, with an IP address or `host-gateway`.
    #[arg(default, length = ..=32, keys(pattern = NAME, length = ..=255), items(pattern = "^([0-9a-fA-F.:]+|host-gateway)$", length = 1..=45))]
    extra_hosts: BTreeMap<String, String>,
    /// Addresses of name servers.
    #[arg(default, length = ..=8, items(pattern = "^[0-9a-fA-F.:]+$", length = 1..=45))]
    dns: Vec<String>,
    /// When docker starts it again: `no`, `on-failure`, `on-failure:5`, `always`, `unless-stopped`.
    #[arg(length = 1..=32, pattern = "^(no|always|unless-stopped|on-failure(:[0-9]{1,4})?)$", example = "unless-stopped")]
    restart: Option<String>,
    /// Most memory, e.g. `512m`.
    #[arg(length = 1..=20, pattern = SIZE, example = "512m")]
    memory: Option<String>,
    /// Most processors, e.g. 1.5.
    #[arg(range = 0.01..=4096.0, example = 1.5)]
    cpus: Option<f64>,
    /// Most processes and threads.
    #[arg(range = 1..=4194304, example = 200)]
    pids_limit: Option<u32>,
    /// Size of its shared memory, e.g. `64m`.
    #[arg(length = 1..=20, pattern = SIZE)]
    shm_size: Option<String>,
    /// Limits of each process, as `soft` or `soft:hard`.
    #[arg(default, length = ..=20, keys(pattern = "^[a-z]+$", length = ..=32), items(pattern = "^-?[0-9]+(:-?[0-9]+)?$", length = 1..=42), example = json!({ "nofile": "1024:4096" }))]
    ulimits: BTreeMap<String, String>,
    /// Where docker puts what it prints.
    #[arg(length = 1..=64, pattern = "^[a-z0-9][a-z0-9_./:-]*$", example = "json-file")]
    log_driver: Option<String>,
    /// How docker puts it there.
    #[arg(default, length = ..=32, keys(pattern = LABEL, length = ..=128), items(length = ..=1024), example = json!({ "max-size": "10m" }))]
    log_opts: BTreeMap<String, String>,
    /// The signal that asks it to end.
    #[arg(length = 1..=16, pattern = "^((SIG)?[A-Z][A-Z0-9]*([+-][0-9]+)?|[1-9][0-9]?)$", example = "SIGINT")]
    stop_signal: Option<String>,
    /// Seconds that it has to end when it is asked to.
    #[arg(range = 0..=3600)]
    stop_timeout: Option<u32>,
    /// How docker checks whether it is well.
    healthcheck: Option<Healthcheck>,
    /// Leave out the image's own health check.
    #[arg(default)]
    no_healthcheck: bool,
    /// Powers to take away, e.g. `ALL`.
    #[arg(default, length = ..=64, items(pattern = "^[A-Z_]+$", length = 1..=64))]
    cap_drop: Vec<String>,
    /// Powers to give, e.g. `NET_ADMIN`. Raises the effect to `host`.
    #[arg(default, length = ..=64, items(pattern = "^[A-Z_]+$", length = 1..=64))]
    cap_add: Vec<String>,
    /// Security options. All but `no-new-privileges` raise the effect to `host`.
    #[arg(default, length = ..=16, items(pattern = "^[a-z][a-z-]*([=:].+)?$", length = 1..=1024), example = json!(["no-new-privileges"]))]
    security_opt: Vec<String>,
    /// Devices of the machine, as `device[:inside[:rwm]]`. Raises the effect to `host`.
    #[arg(default, length = ..=64, items(pattern = "^/[^:]*(:/[^:]*)?(:[rwm]{1,3})?$", length = 1..=1024))]
    devices: Vec<String>,
    /// Graphics processors: `all`, a number, or `device=…`. Raises the effect to `host`.
    #[arg(length = 1..=128, pattern = "^(all|[0-9]{1,3}|device=[a-zA-Z0-9,-]+)$")]
    gpus: Option<String>,
    /// Give it all powers over the machine. Raises the effect to `host`.
    #[arg(default)]
    privileged: bool,
    /// Whose processes it sees: `host` or `container:…`, which raise the effect to `host`.
    #[arg(length = 1..=255, pattern = "^(host|container:[a-zA-Z0-9][a-zA-Z0-9_.-]*)$")]
    pid: Option<String>,
    /// Whose shared memory it has: `none`, `private`, `shareable`, or `host` or `container:…`, which raise the
    /// effect to `host`.
    #[arg(length = 1..=255, pattern = "^(none|private|shareable|host|container:[a-zA-Z0-9][a-zA-Z0-9_.-]*)$")]
    ipc: Option<String>,
    /// `host` for the machine's own host name. Raises the effect to `host`.
    #[arg(one_of("host"))]
    uts: Option<String>,
    /// `host` to be, as root, root of the machine. Raises the effect to `host`.
    #[arg(one_of("host"))]
    userns: Option<String>,
    /// `private`, or `host`, which raises the effect to `host`.
    #[arg(one_of("private", "host"))]
    cgroupns: Option<String>,
}

/// When to pull an image.
#[derive(Choice)]
enum Pull {
    Missing,
    Always,
    Never,
}

/// How docker checks whether a container is well.
#[derive(Args)]
struct Healthcheck {
    /// A command that exits with 0 when it is. The container's shell reads it, inside the container.
    #[arg(length = 1..=4096, example = "curl -f http://localhost/")]
    command: String,
    /// Time between checks.
    #[arg(length = 1..=32, pattern = DURATION, example = "30s")]
    interval: Option<String>,
    /// Time that one check has.
    #[arg(length = 1..=32, pattern = DURATION, example = "5s")]
    timeout: Option<String>,
    /// Time to start in which failures do not count.
    #[arg(length = 1..=32, pattern = DURATION, example = "1m")]
    start_period: Option<String>,
    /// Failures in a row until it is called unhealthy.
    #[arg(range = 1..=100)]
    retries: Option<u32>,
}

/// The container that was made.
#[derive(Output)]
pub struct Ran {
    /// The full id, when it was not waited for. It is told also when the container could be created but not
    /// started; then it still exists, unless it is removed at its end.
    container_id: Option<String>,
    /// The name that was asked for.
    name: Option<String>,
    /// How it ended and what it printed, when it was waited for.
    ended: Option<Ended>,
    /// What docker warned of.
    warnings: Vec<String>,
}

#[verb(
    name = "docker.run",
    effect = Change,
    needs = "docker",
    timeout = "5m",
    example = json!({
        "image": "nginx:1.27", "name": "web", "ports": ["127.0.0.1:8080:80"], "volumes": ["site:/usr/share/nginx/html:ro"],
        "env": { "TZ": "UTC" }, "restart": "unless-stopped", "memory": "512m", "cpus": 1.5, "read_only": true,
        "tmpfs": ["/run", "/var/cache/nginx"], "labels": { "com.example.team": "shop" },
        "healthcheck": { "command": "curl -f http://localhost/", "interval": "30s", "retries": 3 }
    }),
    example = json!({ "image": "alpine:3", "command": ["date", "-u"], "detach": false, "rm": true, "network": "none" }),
    example = json!({ "image": "alpine:3", "command": ["sh"], "volumes": ["/srv:/srv:ro"], "privileged": true }),
    golden(
        args = json!({ "image": "base:1", "name": "web", "network": "none" }),
        stdout = "ffe46f765ccbee34f8ce8a79a592232f6b88aa7172f4b71b1809f45f61d75520\n",
        result = json!({
            "container_id": "ffe46f765ccbee34f8ce8a79a592232f6b88aa7172f4b71b1809f45f61d75520", "name": "web",
            "warnings": []
        }),
    ),
    golden(
        args = json!({ "image": "base:1", "command": ["sh", "-c", "echo hello; echo oops >&2; exit 3"], "detach": false }),
        exit_code = 3,
        stdout = "hello\n",
        stderr = "oops\n",
        result = json!({
            "ended": {
                "exit_code": 3, "stdout": "hello\n", "stderr": "oops\n", "stdout_truncated": false,
                "stderr_truncated": false, "duration_ms": 0
            },
            "warnings": []
        }),
    ),
)]
impl Verb for Run {
    type Output = Ran;

    fn plan(&self, _: &Context) -> Result<Plan> {
        self.check()?;
        let mut hosts = Vec::new();
        for (name, address) in &self.extra_hosts {
            hosts.push(format!("{name}:{address}"));
        }
        // A name without a value is one that docker takes from its own environment.
        let from_own: Vec<String> = self.secret_env.keys().cloned().collect();
        let draft = docker("run")
            .flag("--detach", self.detach)
            .flag("--rm", self.rm)
            .flag("--interactive", self.stdin.is_some())
            .flag("--init", self.init)
            .flag("--read-only", self.read_only)
            .flag("--no-healthcheck", self.no_healthcheck)
            .flag("--privileged", self.privileged)
            .pairs("--env", &self.env)
            .pairs("--label", &self.labels)
            .pairs("--ulimit", &self.ulimits)
            .pairs("--log-opt", &self.log_opts)
            .opts(&[
                ("--env", &from_own),
                ("--name", &self.name),
                ("--platform", &self.platform),
                ("--entrypoint", &self.entrypoint),
                ("--user", &self.user),
                ("--workdir", &self.workdir),
                ("--hostname", &self.hostname),
                ("--publish", &self.ports),
                ("--volume", &self.volumes),
                ("--tmpfs", &self.tmpfs),
                ("--network", &self.network),
                ("--network-alias", &self.network_aliases),
                ("--add-host", &hosts),
                ("--dns", &self.dns),
                ("--restart", &self.restart),
                ("--memory", &self.memory),
                ("--cpus", &self.cpus),
                ("--pids-limit", &self.pids_limit),
                ("--shm-size", &self.shm_size),
                ("--log-driver", &self.log_driver),
                ("--stop-signal", &self.stop_signal),
                ("--stop-timeout", &self.stop_timeout),
                ("--cap-drop", &self.cap_drop),
                ("--cap-add", &self.cap_add),
                ("--security-opt", &self.security_opt),
                ("--device", &self.devices),
                ("--gpus", &self.gpus),
                ("--pid", &self.pid),
                ("--ipc", &self.ipc),
                ("--uts", &self.uts),
                ("--userns", &self.userns),
                ("--cgroupns", &self.cgroupns),
            ])
            .operand(&self.image)
            .operand(&self.command)
            .envs(&self.secret_env)
            .stdin(&self.stdin);
        // Old clients do not know the option, so what they do anyway is not said.
        let draft = match self.pull {
            Pull::Missing => draft,
            Pull::Always | Pull::Never => draft.opt("--pull", &self.pull),
        };
        let draft = match &self.healthcheck {
            Some(check) => draft.opts(&[
                ("--health-cmd", &check.command),
                ("--health-interval", &check.interval),
                ("--health-timeout", &check.timeout),
                ("--health-start-period", &check.start_period),
                ("--health-retries", &check.retries),
            ]),
            None => draft,
        };
        match self.owns_machine() {
            true => draft.effect(Effect::Host).plan(),
            false => draft.plan(),
        }
    }

    fn interpret(&self, out: &Outputs) -> Result<Ran> {
        let stderr = out.stderr().lossy();
        let dockers = stderr.lines().any(|line| line.starts_with("docker: "));
        let gave_up = !out.succeeded() && (self.detach || matches!(out.exit_code(), Some(125..=127)) && dockers);
        let container_id = out.stdout().lines().last().filter(|line| self.detach && is_id(line));
        if gave_up && container_id.is_none() {
            return Err(failed(out));
        }
        if let (false, Some(125), Some(lost)) =
            (self.detach, out.exit_code(), complaint::engine_went_away(&stderr, waited))
        {
            return Err(Failure::not_succeeded(lost));
        }
        let mut warnings = Vec::new();
        for line in stderr.lines().filter(|_| self.detach) {
            warnings.extend(line.strip_prefix("WARNING: ").map(str::to_owned));
        }
        Ok(Ran { container_id, name: self.name.clone(), warnings, ended: (!self.detach).then(|| Ended::of(out)) })
    }

    fn summarize(&self, out: &Outputs, ran: &Ran) -> String {
        match &ran.container_id {
            Some(id) if out.succeeded() => format!("started container {}", short(id)),
            Some(id) => {
                let why = complaint::explain(&out.stderr().lossy()).unwrap_or_else(|| out.ending());
                let left = if self.rm { "" } else { " was created and is left; it" };
                format!("container {}{left} did not start: {why}", short(id))
            }
            None => out.ending(),
        }
    }
}

/// Why docker could not wait for the container's end. 125 is its own exit code then, and nobody knows the
/// program's.
fn waited(line: &str) -> Option<&str> {
    line.strip_prefix("time=").and_then(|rest| between(rest, "msg=\"error waiting for container: ", "\""))
}

fn is_id(line: &str) -> bool {
    line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}
