//! `docker.stats`: what containers use right now.

use viworks_sdk::prelude::*;

use crate::container::{JSON, docker, ok};
use crate::quantity::{pair, percent};
use crate::spelling::{NAME, count};

/// Measures what containers use right now. Takes about two seconds.
#[derive(Args)]
pub struct Stats {
    /// Which; all that run when empty.
    #[arg(default, length = ..=100, items(length = 1..=255, pattern = NAME), example = json!(["web"]))]
    containers: Vec<String>,
    /// Those that do not run too.
    #[arg(default)]
    all: bool,
}

/// What one container uses. Bytes are as precise as docker prints them: about four digits. What docker
/// could not measure is absent.
#[derive(Output)]
pub struct Usage {
    /// The full id.
    id: String,
    /// Its name.
    name: String,
    /// Percent of one processor; several busy ones make more than 100.
    cpu_percent: Option<f64>,
    /// Bytes of memory in use.
    memory_bytes: Option<u64>,
    /// Bytes of memory it may use; the machine's when it has no limit.
    memory_limit_bytes: Option<u64>,
    /// Percent of the memory it may use.
    memory_percent: Option<f64>,
    /// Bytes received over the network since it was started.
    network_received_bytes: Option<u64>,
    /// Bytes sent over the network since it was started.
    network_sent_bytes: Option<u64>,
    /// Bytes read from disks since it was started.
    disk_read_bytes: Option<u64>,
    /// Bytes written to disks since it was started.
    disk_written_bytes: Option<u64>,
    /// Processes and threads; 0 when it does not run.
    processes: Option<u64>,
}

#[derive(Output)]
struct Line {
    #[output(from = "ID")]
    id: String,
    #[output(from = "Name")]
    name: String,
    #[output(from = "CPUPerc")]
    cpu: String,
    #[output(from = "MemUsage")]
    memory: String,
    #[output(from = "MemPerc")]
    memory_percent: String,
    #[output(from = "NetIO")]
    network: String,
    #[output(from = "BlockIO")]
    disk: String,
    #[output(from = "PIDs")]
    processes: String,
}

#[verb(
    name = "docker.stats",
    effect = Read,
    needs = "docker",
    idempotent,
    cancel = Clean,
    timeout = "60s",
    example = json!({ "containers": ["web", "db"] }),
    golden(
        args = json!({}),
        stdout = r#"{"BlockIO":"0B / 0B","CPUPerc":"2.29%","Container":"1ffeac05fb79","ID":"1ffeac05fb792644f8450b3f61058d5dcca0a387548d00158dc2ed2c34a6f37f","MemPerc":"0.70%","MemUsage":"460KiB / 64MiB","Name":"hc","NetIO":"1.45kB / 656B","PIDs":"1"}
"#,
        result = json!([{
            "id": "1ffeac05fb792644f8450b3f61058d5dcca0a387548d00158dc2ed2c34a6f37f", "name": "hc",
            "cpu_percent": 2.29, "memory_bytes": 471040, "memory_limit_bytes": 67108864, "memory_percent": 0.7,
            "network_received_bytes": 1450, "network_sent_bytes": 656, "disk_read_bytes": 0, "disk_written_bytes": 0,
            "processes": 1
        }]),
    ),
)]
impl Verb for Stats {
    type Output = Vec<Usage>;

    fn plan(&self, _: &Context) -> Result<Plan> {
        docker("stats")
            .args(["--no-stream", "--no-trunc", JSON])
            .flag("--all", self.all)
            .operand(&self.containers)
            .plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Vec<Usage>> {
        let lines: Vec<Line> = ok(out)?.json_lines()?;
        let mut found = Vec::with_capacity(lines.len());
        for line in lines {
            found.push(line.read());
        }
        Ok(found)
    }

    fn summarize(&self, _: &Outputs, found: &Vec<Usage>) -> String {
        count(found.len(), "container")
    }
}

impl Line {
    fn read(self) -> Usage {
        let (memory_bytes, memory_limit_bytes) = pair(&self.memory);
        let (network_received_bytes, network_sent_bytes) = pair(&self.network);
        let (disk_read_bytes, disk_written_bytes) = pair(&self.disk);
        Usage {
            id: self.id,
            name: self.name,
            cpu_percent: percent(&self.cpu),
            memory_bytes,
            memory_limit_bytes,
            memory_percent: percent(&self.memory_percent),
            network_received_bytes,
            network_sent_bytes,
            disk_read_bytes,
            disk_written_bytes,
            processes: self.processes.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn containers_stand_behind_the_options() {
        let plan = test::plan::<Stats>(json!({ "containers": ["web"], "all": true })).expect("accepted");
        let expected = ["stats", "--no-stream", "--no-trunc", "--format={{json .}}", "--all", "--", "web"];
        assert_eq!(plan.steps[0].args, expected);
        let plan = test::plan::<Stats>(json!({})).expect("accepted");
        assert_eq!(plan.steps[0].args, ["stats", "--no-stream", "--no-trunc", "--format={{json .}}"]);
    }

    #[test]
    fn what_was_not_measured_is_absent() {
        let line = r#"{"BlockIO":"--","CPUPerc":"--","ID":"a","MemPerc":"--","MemUsage":"-- / --","Name":"x","NetIO":"--","PIDs":"--"}"#;
        let answer = test::interpret::<Stats>(json!({}), &test::exited(0).with_stdout(line)).expect("read");
        assert_eq!(answer.result, json!([{ "id": "a", "name": "x" }]));
    }

    #[test]
    fn a_missing_container_is_named() {
        let out = test::exited(1).with_stderr("Error response from daemon: No such container: nosuch\n");
        let answer = test::interpret::<Stats>(json!({ "containers": ["nosuch"] }), &out).expect("judged");
        assert_eq!(
            (answer.succeeded, answer.summary.as_str()),
            (false, "there is no container `nosuch` on this machine")
        );
    }
}
