//! The socket of all events, as a browser has it, over a store that answers when the test lets it.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::attempt::{Reason, State};
use domain::audit::Entry;
use domain::command::{Attempt, CommandView, Invocation};
use domain::event::What;
use domain::rollout::Share;
use domain::time::Timestamp;
use futures_util::{SinkExt as _, StreamExt as _};
use plan::envelope::SignedEnvelope;
use plan::id::{AgentId, AttemptKey, CommandId};
use plan::outcome::Stream;
use ports::commands::{
    Advance, Advanced, Chunk, CommandFilter, Commands, Due, Group, NewCommand, Open, Overdue, Page, Place,
};
use ports::error::StoreError;
use ports::journal::Journal as _;
use serde_json::Value;
use storage::sqlite::SqliteStore;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::world::World;

/// Far above what is normal.
const CEILING: Duration = Duration::from_secs(30);

/// A store in which one invocation or command is looked up for as long as the test says.
struct Gated {
    store: SqliteStore,
    /// One permit for each look-up that has begun.
    begun: Semaphore,
    /// One permit for each that may end.
    may_end: Semaphore,
}

impl Gated {
    async fn pass(&self) {
        self.begun.add_permits(1);
        self.may_end.acquire().await.expect("never closed").forget();
    }
}

const NEVER: &str = "nothing that a stream of events asks for";

#[async_trait]
impl Commands for Gated {
    async fn command(&self, id: CommandId) -> Result<Option<CommandView>, StoreError> {
        self.pass().await;
        self.store.command(id).await
    }

    async fn invocation(&self, command: CommandId, agent: AgentId) -> Result<Option<Invocation>, StoreError> {
        self.pass().await;
        self.store.invocation(command, agent).await
    }

    async fn invocations(
        &self,
        command: CommandId,
        state: Option<State>,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Invocation>, StoreError> {
        self.store.invocations(command, state, after, limit).await
    }

    async fn accept(&self, _: NewCommand) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }

    async fn advance(&self, _: Advance) -> Result<Option<Advanced>, StoreError> {
        panic!("{NEVER}")
    }

    fn note(&self, _: Advance) {
        panic!("{NEVER}")
    }

    fn append(&self, _: Chunk) {
        panic!("{NEVER}")
    }

    async fn request_cancel(
        &self,
        _: CommandId,
        _: Option<Vec<String>>,
        _: Timestamp,
        _: Entry,
    ) -> Result<Vec<Open>, StoreError> {
        panic!("{NEVER}")
    }

    async fn commands(&self, _: &CommandFilter, _: &Page) -> Result<Vec<CommandView>, StoreError> {
        panic!("{NEVER}")
    }

    async fn attempts(&self, _: CommandId, _: AgentId) -> Result<Vec<Attempt>, StoreError> {
        panic!("{NEVER}")
    }

    async fn rollup(&self, _: CommandId) -> Result<Vec<Share>, StoreError> {
        panic!("{NEVER}")
    }

    async fn groups(&self, _: CommandId, _: &[String], _: u32) -> Result<Vec<Group>, StoreError> {
        panic!("{NEVER}")
    }

    async fn due(&self, _: AgentId, _: u32) -> Result<Vec<Due>, StoreError> {
        panic!("{NEVER}")
    }

    async fn held(&self, _: CommandId, _: Reason, _: Option<AgentId>, _: u32) -> Result<Vec<Due>, StoreError> {
        panic!("{NEVER}")
    }

    async fn reseal(&self, _: CommandId, _: Vec<(AgentId, SignedEnvelope)>, _: Entry) -> Result<(), StoreError> {
        panic!("{NEVER}")
    }

    async fn open(&self, _: AgentId) -> Result<Vec<Open>, StoreError> {
        panic!("{NEVER}")
    }

    async fn overdue(&self, _: Timestamp, _: Option<Place>, _: u32) -> Result<Vec<Overdue>, StoreError> {
        panic!("{NEVER}")
    }

    async fn abandoned(&self, _: Timestamp, _: u32) -> Result<Vec<Open>, StoreError> {
        panic!("{NEVER}")
    }

    async fn output(&self, _: AttemptKey, _: AgentId, _: Stream, _: u64, _: u64) -> Result<Vec<Chunk>, StoreError> {
        panic!("{NEVER}")
    }

    async fn stored(&self, _: AttemptKey, _: AgentId, _: Stream) -> Result<Vec<Range<u64>>, StoreError> {
        panic!("{NEVER}")
    }
}

#[tokio::test]
async fn a_frame_that_comes_while_an_event_is_looked_up_costs_no_event() {
    let world = World::new().await;
    let (op, eu) = (world.login("op").await, world.login("eu").await);
    let begin = world.store.last_seq().await.expect("reads");
    let command = world.submit(&op).await;
    world.finish(command, world.web, b"hi\n").await;
    let logged = world.store.events(None, begin, 500).await.expect("reads");
    let in_sight = logged.iter().filter(|event| match &event.what {
        What::State { agent, .. } => *agent == world.web,
        What::Status { .. } => true,
        other => panic!("{other:?}"),
    });
    let in_sight: Vec<u64> = in_sight.map(|event| event.seq).collect();
    assert!(in_sight.len() > 3, "{in_sight:?}");

    let gated = Gated { store: world.store.clone(), begun: Semaphore::new(0), may_end: Semaphore::new(0) };
    let gated = Arc::new(gated);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let door = world.door(gated.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let mut serving = JoinSet::new();
    serving.spawn(axum::serve(listener, door).into_future());
    let url = format!("ws://{address}/ws/events?cursor={begin}");
    let mut request = url.into_client_request().expect("a request");
    request.headers_mut().insert("authorization", format!("Bearer {eu}").parse().expect("a header"));
    let (mut socket, _) = connect_async(request).await.expect("it opens");

    let mut told = Vec::new();
    let talk = async {
        let begun = gated.begun.acquire().await.expect("never closed");
        begun.forget();
        // Whoever answers the second has read the first.
        socket.send(Message::Text("{}".into())).await.expect("open");
        socket.send(Message::Ping("heard?".into())).await.expect("open");
        loop {
            match socket.next().await.expect("it goes on").expect("a frame") {
                Message::Pong(_) => gated.may_end.add_permits(1000),
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    told.extend(frame["id"].as_u64());
                    if told.last() >= in_sight.last() {
                        return;
                    }
                }
                _ => {}
            }
        }
    };
    timeout(CEILING, talk).await.expect("told in time");
    assert_eq!(told, in_sight);
}
