//! One command to every agent: how long until every result is kept.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::fleet::Fleet;
use crate::latency::Recorder;
use crate::ledger::{Counter, Unheard};
use crate::operator::Operator;
use crate::report::{Measured, round};
use crate::runs::ledger_check::look_up;
use crate::schedule::now_ns;
use crate::usage::Meter;

/// Longest wait for the last result of one command.
const ALL_WITHIN: Duration = Duration::from_secs(300);

/// How a command to many agents is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// All of them at once.
    Plain,
    /// In four waves, a tenth of them at once.
    Rollout,
}

impl Shape {
    /// Both.
    pub const ALL: [Shape; 2] = [Shape::Plain, Shape::Rollout];

    /// Its name in findings.
    pub fn as_str(self) -> &'static str {
        match self {
            Shape::Plain => "plain",
            Shape::Rollout => "rollout",
        }
    }

    /// The command's body.
    fn body(self) -> String {
        let mut body = json!({ "verb": "exec.run", "args": { "program": "true" }, "target": { "all": true } });
        match self {
            Shape::Plain => {}
            Shape::Rollout => {
                body["rollout"] = json!({ "max_concurrency": "10%", "waves": [1, "5%", "25%", "100%"] });
            }
        }
        body.to_string()
    }
}

#[derive(Deserialize)]
struct Accepted {
    id: Uuid,
    targets: Vec<serde::de::IgnoredAny>,
}

/// Sends `repeat` commands, one after another, each to all agents. The first is warm-up when there
/// are more.
///
/// # Errors
/// When a command is refused, or was not accepted for exactly the fleet.
pub async fn run(
    operator: &Arc<Operator>,
    fleet: &Fleet,
    shape: Shape,
    repeat: usize,
    host_pid: Option<u32>,
) -> Result<Measured> {
    let agents = fleet.ids.len();
    let counter = Arc::new(Counter::new(agents));
    fleet.tell(counter.clone());
    let mut client = operator.client();
    let body = shape.body();
    let (whole, replies) = (Recorder::default(), Recorder::default());
    let mut found = Measured::new("broadcast", json!({ "agents": agents, "repeat": repeat, "shape": shape.as_str() }));
    let mut commands = Vec::new();
    let mut accepted_ms = Vec::new();
    let mut meter = Meter::start(host_pid);
    let warmup = usize::from(repeat > 1);
    for round_number in 0..repeat {
        if round_number == warmup {
            meter = Meter::start(host_pid);
        }
        let due = now_ns();
        let accepted: Accepted = operator.post(&mut client, "/api/v1/commands", body.as_bytes()).await?;
        let answered = now_ns();
        if accepted.targets.len() != agents {
            bail!(
                "accepted for {} agents, the fleet has {agents}; use a host with no other agents",
                accepted.targets.len()
            );
        }
        let command = accepted.id.as_u128();
        commands.push(command);
        let Some(instants) = counter.all(command, ALL_WITHIN).await else {
            let heard = counter.heard(command);
            found
                .faults
                .push(format!("only {heard} of {agents} results were acknowledged within {} s", ALL_WITHIN.as_secs()));
            break;
        };
        if round_number >= warmup {
            let last = instants.iter().copied().max().unwrap_or(due);
            whole.record(0, last - due);
            accepted_ms.push((answered - due) as f64 / 1e6);
            instants.iter().for_each(|at| replies.record(0, at.saturating_sub(due)));
        }
    }
    found.cost = meter.stop();
    fleet.tell(Arc::new(Unheard));
    found.latency = whole.quantiles();
    found.operations = found.latency.count * agents as u64;
    found.rate = found.operations as f64 / found.cost.seconds;
    found.note("to_all_p50_ms", round(found.latency.p50_us / 1e3));
    found.note("us_per_target_p50", round(found.latency.p50_us / agents as f64));
    found.note("result_p50_ms", round(replies.quantiles().p50_us / 1e3));
    accepted_ms.sort_by(f64::total_cmp);
    if let Some(middle) = accepted_ms.get(accepted_ms.len() / 2) {
        found.note("accepted_p50_ms", round(*middle));
    }
    let checked = look_up(operator, commands).await?;
    found.note("ledger_checked", checked.looked_up);
    found.faults.extend(checked.fault());
    found.faults.extend(fleet.faults());
    Ok(found)
}
