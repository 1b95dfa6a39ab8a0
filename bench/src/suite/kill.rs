//! I3: the host is killed with -9 while it does as much as it can, and started again on what it left behind. Whatever
//! it accepted by then is there, and whatever an agent was told that it has is over and well.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fleet::Fleet;
use crate::http::Origin;
use crate::identity::Identities;
use crate::ledger::Acks;
use crate::operator::Operator;
use crate::report::{Measured, round};
use crate::runs::commands::body;
use crate::runs::ledger_check::look_up;
use crate::suite::ground::Ground;
use crate::table::{Goal, Row};

/// Commands under way at once.
const IN_FLIGHT: usize = 256;

/// Who was told that a result is kept.
#[derive(Default)]
struct Told(Mutex<HashSet<u128>>);

impl Acks for Told {
    fn acked(&self, command: u128, _at: u64) {
        self.0.lock().expect("no holder panics").insert(command);
    }
}

#[derive(Deserialize)]
struct Accepted {
    id: Uuid,
}

/// Loads a host, kills it, starts it again, and holds it to its word.
///
/// # Errors
/// When the host does not start, or does nothing before it is killed.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let quick = ground.asked.quick;
    let (host, operator, door) = ground.host().await?;
    let identities = Identities::obtain(&operator, &door, if quick { 200 } else { 1_000 }, None).await?;
    let fleet = Fleet::connect(&door, &identities, ground.behaviour()).await?;
    let told = Arc::new(Told::default());
    fleet.tell(told.clone());
    let bodies: Arc<Vec<String>> = Arc::new(fleet.ids.iter().map(|agent| body(&agent.to_string(), None)).collect());
    let (over, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        callers.spawn(submit(operator.clone(), bodies.clone(), next.clone(), over.clone()));
    }
    tokio::time::sleep(Duration::from_secs(if quick { 3 } else { 10 })).await;
    let host = host.killed(&ground.asked.host).await?;
    over.store(true, Ordering::Relaxed);
    let mut accepted = Vec::new();
    while let Some(of_one) = callers.join_next().await {
        accepted.extend(of_one.context("a caller panicked")?);
    }
    drop(fleet);
    let told: Vec<u128> = told.0.lock().expect("no holder panics").iter().copied().collect();
    ensure!(!accepted.is_empty() && !told.is_empty(), "nothing was done before the host was killed");

    // Agents come back without a word of what they had: what they had not told before is not known.
    let operator = Operator::login(&host.api, &host.credential).await?;
    let fleet = Fleet::connect(&Origin::parse(&host.agents)?, &identities, ground.behaviour()).await?;
    let there = look_up(&operator, accepted.clone()).await?;
    let well = look_up(&operator, told.clone()).await?;
    let count = |statuses: &BTreeMap<String, usize>, is: fn(&str) -> bool| -> usize {
        statuses.iter().filter(|(status, _)| is(status)).map(|(_, count)| count).sum()
    };
    let missing = count(&there.statuses, |status| status.starts_with("status "));
    let untrue = count(&well.statuses, |status| status != "succeeded");
    let mut found = Measured::new("kill", json!({ "in_flight": IN_FLIGHT, "agents": identities.agents.len() }));
    found.note("accepted", accepted.len());
    found.note("told_that_a_result_is_kept", told.len());
    found.note("missing", missing);
    found.note("not_succeeded", untrue);
    found.note("statuses", json!(there.statuses));
    found.note("ready_again_ms", round(host.ready_in.as_secs_f64() * 1e3));
    let ready = host.serving_in.as_secs_f64() * 1e3;
    ground.keep(found)?;
    fleet.close().await?;
    host.end().await?;
    let none = Goal::AtMost(0.0);
    let what = "kill -9 under load: accepted and not there ÷ accepted";
    let kept = "kill -9 under load: result acknowledged and not there ÷ acknowledged";
    Ok(vec![
        Row::new("I3", what, "", none, missing as f64, accepted.len() as f64),
        Row::new("I3", kept, "", none, untrue as f64, told.len() as f64),
        Row::new("I3", "kill -9 under load: exec → ready", "ms", Goal::Told, ready, f64::NAN),
    ])
}

/// Submits one command after the other until nobody answers; what was accepted.
async fn submit(
    operator: Arc<Operator>,
    bodies: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
) -> Vec<u128> {
    let mut client = operator.client();
    let mut accepted = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let body = bodies[next.fetch_add(1, Ordering::Relaxed) % bodies.len()].as_bytes();
        match client.send("POST", "/api/v1/commands", Some(&operator.bearer()), Some(body)).await {
            Ok(answer) if answer.status == 202 => {
                if let Ok(Accepted { id }) = serde_json::from_slice(answer.body) {
                    accepted.push(id.as_u128());
                }
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => break,
        }
    }
    accepted
}
