//! Many simulated agents: connects them, a bounded number of handshakes at a time, keeps them, and
//! says what went wrong with any of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use plan::id::AgentId;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::behaviour::{Behaviour, Shared, Tally};
use crate::http::Origin;
use crate::identity::{Identities, Identity};
use crate::ledger::{Acks, Unheard};
use crate::schedule::now_ns;
use crate::session::{Conversation, greet, open};

/// Handshakes under way at once.
const GREETERS: usize = 128;
/// Longest wait for one agent's session.
const GREETED_WITHIN: Duration = Duration::from_secs(60);

/// A connected fleet.
pub struct Fleet {
    /// What its agents share.
    pub shared: Arc<Shared>,
    /// The agents' ids.
    pub ids: Vec<AgentId>,
    /// From the first connect to the last WELCOME.
    pub connected_in: Duration,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Fleet {
    /// Opens a session for every identity.
    ///
    /// # Errors
    /// When any of them is not welcomed.
    pub async fn connect(origin: &Arc<Origin>, identities: &Identities, behaviour: Behaviour) -> Result<Fleet> {
        let shared = Arc::new(Shared {
            cluster: identities.cluster,
            cluster_key: identities.cluster_key,
            behaviour,
            acks: RwLock::new(Arc::new(Unheard)),
            tally: Tally::default(),
            ended: Mutex::default(),
        });
        let began = now_ns();
        let stop = CancellationToken::new();
        let room = Arc::new(Semaphore::new(GREETERS));
        let (ready, mut welcomed) = mpsc::channel::<Result<()>>(GREETERS);
        let mut tasks = JoinSet::new();
        for (index, identity) in identities.agents.iter().enumerate() {
            let (shared, identity, origin) = (shared.clone(), identity.clone(), origin.clone());
            let (room, ready, stop) = (room.clone(), ready.clone(), stop.clone());
            tasks.spawn(async move {
                let conversation = {
                    let _place = room.acquire().await.expect("never closed");
                    let greeted = tokio::time::timeout(GREETED_WITHIN, begin(&origin, &shared, &identity, index));
                    greeted.await.context("no WELCOME in time").and_then(|greeted| greeted)
                };
                match conversation {
                    Err(error) => _ = ready.send(Err(error.context(identity.name.clone()))).await,
                    Ok(conversation) => {
                        _ = ready.send(Ok(())).await;
                        drop(ready);
                        if let Err(error) = conversation.run(index, stop).await {
                            let mut ended = shared.ended.lock().expect("no holder panics");
                            ended.push(format!("{}: {error:#}", identity.name));
                        }
                    }
                }
            });
        }
        drop(ready);
        while let Some(result) = welcomed.recv().await {
            result?;
        }
        let connected_in = Duration::from_nanos(now_ns() - began);
        let ids = identities.agents.iter().map(|identity| identity.id).collect();
        Ok(Fleet { shared, ids, connected_in, tasks, stop })
    }

    /// From now on `acks` hears of acknowledgements, and nobody else.
    pub fn tell(&self, acks: Arc<dyn Acks>) {
        *self.shared.acks.write().expect("no holder panics") = acks;
    }

    /// What went wrong with any agent so far, in sentences.
    pub fn faults(&self) -> Vec<String> {
        let tally = &self.shared.tally;
        let mut faults = Vec::new();
        let ended = self.shared.ended.lock().expect("no holder panics");
        if let Some(first) = ended.first() {
            faults.push(format!("{} sessions ended too soon, first {first}", ended.len()));
        }
        for (count, what) in [
            (
                tally.forged.load(Ordering::Relaxed),
                "commands were not signed by the cluster for this agent and command",
            ),
            (tally.repeated.load(Ordering::Relaxed), "commands were sent again while their attempt was under way"),
        ] {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        }
        faults
    }

    /// Says goodbye and waits for every session to end.
    ///
    /// # Errors
    /// When an agent's task panicked.
    pub async fn close(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                bail!("an agent's task panicked: {error}");
            }
        }
        Ok(())
    }
}

async fn begin(origin: &Origin, shared: &Arc<Shared>, identity: &Arc<Identity>, index: usize) -> Result<Conversation> {
    let mut socket = open(origin, wire::limits::PATH, index).await?;
    let welcome = greet(&mut socket, shared, identity).await?;
    Ok(Conversation::new(shared.clone(), identity.clone(), socket, welcome))
}
