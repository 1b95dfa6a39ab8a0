//! A store in a PostgreSQL database of its own, with its writer running.

use std::sync::Arc;

use servers::shared;
use storage::postgres::{Options, PostgresStore, open};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::behaviours::{Ground, Told};

/// A running writer. Dropped, it is cut off in the middle of whatever it does.
pub struct Running {
    stop: CancellationToken,
    writer: JoinSet<()>,
}

impl Running {
    /// Ends the writer in order: everything queued is written first.
    pub async fn finish(mut self) {
        self.stop.cancel();
        while self.writer.join_next().await.is_some() {}
    }
}

/// Opens the store at `url` and runs its writer. Few connections, for many tests share the server.
pub async fn start(url: &str) -> (Ground<PostgresStore>, Running) {
    let told = Arc::new(Told::default());
    let options = Options { connections: 4, ..Options::new(url) };
    let (store, writer) = open(options, Arc::clone(&told) as _).await.expect("opens");
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run(stop.clone()));
    (Ground { store, told }, Running { stop, writer: tasks })
}

/// A fresh store and what keeps it alive; `None`, said aloud, where there is no PostgreSQL.
pub async fn fresh() -> Option<(Ground<PostgresStore>, Running)> {
    Some(start(&shared::database()?).await)
}
