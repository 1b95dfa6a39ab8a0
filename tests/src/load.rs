//! Work that keeps coming while a test breaks things.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use crate::client::{Api, exec_body};
use crate::oracle::{Excuses, Oracle, Verdict};
use crate::wait::{breathe, until};

/// Submitters of one agent.
const SUBMITTERS: usize = 2;
/// No more is submitted while this much waits for its start.
const WAITING_MAX: usize = 40;

/// Submitters at work.
pub struct Load {
    /// Who judges in the end.
    pub oracle: Arc<Oracle>,
    stop: Arc<AtomicBool>,
    submitters: JoinSet<()>,
}

impl Load {
    /// Starts submitters for each of these agents.
    pub fn start(api: &Api, agents: &[&str], oracle: Oracle) -> Load {
        let (oracle, stop) = (Arc::new(oracle), Arc::new(AtomicBool::new(false)));
        let mut submitters = JoinSet::new();
        for agent in agents {
            for _ in 0..SUBMITTERS {
                submitters.spawn(submit(api.clone(), (*agent).to_owned(), oracle.clone(), stop.clone()));
            }
        }
        Load { oracle, stop, submitters }
    }

    /// Waits until so many more were accepted.
    pub async fn more_accepted(&self, number: usize) {
        let wanted = self.oracle.accepted_so_far() + number;
        until("commands are accepted", async || (self.oracle.accepted_so_far() >= wanted).then_some(())).await;
    }

    /// Waits until so many more have started.
    pub async fn more_started(&self, number: usize) {
        let wanted = self.oracle.started_so_far() + number;
        until("commands start", async || (self.oracle.started_so_far() >= wanted).then_some(())).await;
    }

    /// Ends the load and judges all of it.
    ///
    /// # Panics
    /// When a submitter did, or something does not end.
    pub async fn judge(self, api: &Api, excuses: Excuses) -> Verdict {
        self.stop.store(true, Ordering::Relaxed);
        self.submitters.join_all().await;
        self.oracle.judge(api, excuses).await
    }
}

/// Submits one command after the other; a host that is away is asked again.
async fn submit(api: Api, agent: String, oracle: Arc<Oracle>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        if oracle.accepted_so_far().saturating_sub(oracle.started_so_far()) > WAITING_MAX {
            breathe().await;
            continue;
        }
        // Some end at once, some are running when something breaks.
        let task = oracle.task([0, 0, 100, 400][rand::random_range(0..4)]);
        let request = api.request(reqwest::Method::POST, "/api/v1/commands").json(&exec_body(&agent, &task.args));
        match api.try_send(request).await {
            Ok(answer) if answer.status == 202 => {
                oracle.accepted(answer.json["id"].as_str().expect("an id"), &agent, task);
            }
            Ok(_) => oracle.refused(),
            Err(_) => oracle.unanswered(),
        }
        breathe().await;
    }
}

/// How often a test does something: what continuous integration has time for, or what the environment
/// asks for.
pub fn times(variable: &str, usually: usize) -> usize {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usually)
}
