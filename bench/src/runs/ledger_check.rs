//! The ledger of accepted commands against the store: a fast host that lost one is no host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::operator::Operator;
use crate::schedule::{nanos, now_ns};

/// Connections that read the ledger back.
const READERS: usize = 16;
/// How long a command that is not over may take to be.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many accepted commands are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Every one.
    All,
    /// This many, evenly spread, and all that were not acknowledged.
    Sample(usize),
}

/// What the lookup found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Commands looked up.
    pub looked_up: usize,
    /// How many have each status.
    pub statuses: BTreeMap<String, usize>,
    /// Some that are not `succeeded`.
    pub examples: Vec<String>,
}

impl Checked {
    /// What is wrong, if anything.
    pub fn fault(&self) -> Option<String> {
        let good = self.statuses.get("succeeded").copied().unwrap_or(0);
        (good < self.looked_up).then(|| {
            let bad = self.looked_up - good;
            format!(
                "{bad} of {} accepted commands looked up are not `succeeded`, e.g. {}",
                self.looked_up,
                self.examples.join(", ")
            )
        })
    }
}

/// Picks which of `accepted` to look up.
pub fn pick(accepted: &[u128], check: Check) -> Vec<u128> {
    match check {
        Check::All => accepted.to_vec(),
        Check::Sample(count) if count >= accepted.len() => accepted.to_vec(),
        Check::Sample(count) => (0..count).map(|i| accepted[i * accepted.len() / count]).collect(),
    }
}

#[derive(Deserialize)]
struct Command {
    status: String,
}

/// Looks every one of `commands` up.
///
/// # Errors
/// When the API cannot be asked. A command that is not there is a finding, not an error.
pub async fn look_up(operator: &Arc<Operator>, commands: Vec<u128>) -> Result<Checked> {
    let commands = Arc::new(commands);
    let next = Arc::new(AtomicUsize::new(0));
    let patience = now_ns() + nanos(PATIENCE);
    let mut readers = JoinSet::new();
    for _ in 0..READERS.min(commands.len()) {
        let (operator, commands, next) = (operator.clone(), commands.clone(), next.clone());
        readers.spawn(async move {
            let mut client = operator.client();
            let mut found = Checked::default();
            while let Some(command) = commands.get(next.fetch_add(1, Ordering::Relaxed)) {
                let id = Uuid::from_u128(*command);
                let status = loop {
                    let path = format!("/api/v1/commands/{id}");
                    let answer = client.send("GET", &path, Some(&operator.bearer()), None).await?;
                    let wait = match answer.status {
                        200 => {
                            let command: Command = serde_json::from_slice(answer.body).context("a command")?;
                            let open = matches!(command.status.as_str(), "pending" | "running" | "scheduled");
                            if !open || now_ns() > patience {
                                break command.status;
                            }
                            Duration::from_millis(50)
                        }
                        429 | 503 if now_ns() < patience => Duration::from_secs(answer.retry_after.unwrap_or(1).min(5)),
                        other => break format!("status {other}"),
                    };
                    tokio::time::sleep(wait).await;
                };
                found.looked_up += 1;
                if status != "succeeded" && found.examples.len() < 3 {
                    found.examples.push(format!("{id} is {status}"));
                }
                *found.statuses.entry(status).or_default() += 1;
            }
            Ok::<_, anyhow::Error>(found)
        });
    }
    let mut all = Checked::default();
    while let Some(found) = readers.join_next().await {
        let found = found.context("a reader panicked")??;
        all.looked_up += found.looked_up;
        for (status, count) in found.statuses {
            *all.statuses.entry(status).or_default() += count;
        }
        all.examples.extend(found.examples);
    }
    all.examples.truncate(5);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_the_whole_run() {
        let accepted: Vec<u128> = (0..1000).collect();
        assert_eq!(pick(&accepted, Check::Sample(4)), [0, 250, 500, 750]);
        assert_eq!(pick(&accepted, Check::All).len(), 1000);
        assert_eq!(pick(&accepted[..3], Check::Sample(4)), [0, 1, 2]);
        assert!(pick(&[], Check::Sample(4)).is_empty());
    }

    #[test]
    fn one_command_that_did_not_succeed_is_a_fault() {
        let mut checked = Checked { looked_up: 2, ..Checked::default() };
        checked.statuses.insert("succeeded".into(), 2);
        assert_eq!(checked.fault(), None);
        checked.looked_up = 3;
        checked.statuses.insert("unknown".into(), 1);
        checked.examples.push("x is unknown".into());
        assert!(checked.fault().is_some_and(|fault| fault.contains("1 of 3") && fault.contains("x is unknown")));
    }
}
