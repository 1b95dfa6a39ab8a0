//! Two hosts on one PostgreSQL behind a balancer, each with a line of its own to the database.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;
use servers::postgres::Postgres;

use crate::balancer::{Balancer, Line, Place};
use crate::client::{Api, exec_body};
use crate::host::TestHost;
use crate::load::Load;
use crate::machine::TestAgent;
use crate::namespaces::Namespace;
use crate::oracle::Oracle;
use crate::store::Store;
use crate::wait::until;

/// Its agents.
pub const AGENTS: [&str; 2] = ["web-1", "web-2"];
/// A silent host is noticed soon.
const SOON: &str = "[agent_management]\nheartbeat_ms = 1000\n";

/// The promise: so long after a host, or its way to the database, is gone, every agent is served again by what is left.
const PROMISED: Duration = Duration::from_secs(10);
/// What a test allows besides, because it measures more than the promise is about: hosts, agents, database and load share
/// a machine with other tests, are not built for speed, and each agent has to run a command to its end, too. A fault that
/// heals by a deadline of minutes, or not at all, is beyond it; one that takes twice as long as it should shows in the
/// line that is printed.
const BUSY: Duration = Duration::from_secs(30);

/// How long each outage lasted.
#[derive(Debug, Default)]
pub struct Outages(Vec<Duration>);

impl Outages {
    /// Adds one.
    pub fn push(&mut self, lasted: Duration) {
        self.0.push(lasted);
    }

    /// Fails the test if one lasted longer than was promised and a busy machine accounts for.
    ///
    /// # Panics
    /// With all of them.
    pub fn assert_short(&self) {
        assert!(self.0.iter().all(|lasted| *lasted <= PROMISED + BUSY), "{:?}", self.0);
    }
}

impl fmt::Display for Outages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.0.iter().max().map_or(0, Duration::as_millis);
        let late = self.0.iter().filter(|lasted| **lasted > PROMISED).count();
        write!(f, "served again within {longest} ms ({late} of {} after {} s)", self.0.len(), PROMISED.as_secs())
    }
}

/// The whole.
pub struct Cluster {
    /// Both hosts.
    pub hosts: [TestHost; 2],
    /// Their ways to the database.
    pub lines: [Line; 2],
    /// In front of them.
    pub balancer: Balancer,
    _agents: Vec<TestAgent>,
    /// At the balancer.
    pub admin: Api,
    /// The database.
    pub server: Postgres,
}

/// The same database at the end of a line that begins at this address.
async fn by_line(store: &Store, server: &Postgres, begin: Ipv4Addr) -> (Line, Store) {
    let line = Line::start_at(begin, SocketAddr::from(([127, 0, 0, 1], server.port()))).await;
    let there = format!("127.0.0.1:{}/", server.port());
    assert!(store.url().contains(&there), "{}", store.url());
    let mut url = store.url().replace(&there, &format!("{}/", line.address()));
    if !begin.is_loopback() {
        // Towards another machine it has to be said.
        url.push_str("?sslmode=disable");
    }
    (line, Store::Postgres(url))
}

impl Cluster {
    /// Starts all of it; `None`, said aloud, when this machine has no PostgreSQL.
    ///
    /// # Panics
    /// When something of it does not start.
    pub async fn start() -> Option<Cluster> {
        Cluster::start_with("", "").await
    }

    /// With these further sections in both hosts' settings, and these lines of `[server]`.
    ///
    /// # Panics
    /// When something of it does not start.
    pub async fn start_with(more: &str, lines_of_server: &str) -> Option<Cluster> {
        Cluster::build(more, lines_of_server, None).await
    }

    /// With each host in a namespace of its own.
    ///
    /// # Panics
    /// When something of it does not start.
    pub async fn start_in(namespaces: &[Namespace; 2]) -> Option<Cluster> {
        Cluster::build("", "", Some(namespaces)).await
    }

    async fn build(more: &str, lines_of_server: &str, namespaces: Option<&[Namespace; 2]>) -> Option<Cluster> {
        let sections = format!("{SOON}{more}");
        let (store, server) = Store::own_postgres()?;
        let begin = |number: usize| namespaces.map_or(Ipv4Addr::LOCALHOST, |all| all[number].gateway());
        let (line, way) = by_line(&store, &server, begin(0)).await;
        let (other_line, other_way) = by_line(&store, &server, begin(1)).await;
        let mut host = TestHost::new_on(way);
        host.set_sections(&sections);
        host.set_server(lines_of_server);
        if let Some([one, _]) = namespaces {
            host.place_in(one);
        }
        host.launch().await;
        let mut other = host.beside_by(other_way);
        other.set_sections(&sections);
        other.set_server(lines_of_server);
        if let Some([_, two]) = namespaces {
            other.place_in(two);
        }
        other.launch().await;
        let places = [&host, &other].map(|host| Place { api: host.api_address(), agents: host.agents_address() });
        let balancer = Balancer::start(&places).await;
        balancer.sees(0, true).await;
        balancer.sees(1, true).await;
        let token = host.admin().await;
        let admin = Api::anonymous(&balancer.url()).with_token(token.token());
        let mut agents = Vec::new();
        for name in AGENTS {
            let mut agent = TestAgent::join(&host, &token, name).await;
            agent.connect_to(balancer.agents());
            agent.run();
            agents.push(agent);
        }
        let cluster =
            Cluster { hosts: [host, other], lines: [line, other_line], balancer, _agents: agents, admin, server };
        cluster.served_by(0).await;
        cluster.served_by(1).await;
        Some(cluster)
    }

    /// Work that keeps coming, at the balancer.
    pub fn load(&self) -> Load {
        Load::start(&self.admin, &AGENTS, Oracle::new(self.hosts[0].scratch()))
    }

    /// How long it takes until what is given to this host has been run by every agent.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn served_by(&self, number: usize) -> Duration {
        let begun = Instant::now();
        let api = Api::anonymous(&self.hosts[number].url()).with_token(self.admin.token());
        for name in AGENTS {
            until(&format!("host {number} has `{name}` served"), async || {
                let body = exec_body(name, &json!({ "program": "true" }));
                let request = api.request(reqwest::Method::POST, "/api/v1/commands").json(&body);
                let answer = api.try_send(request).await.ok().filter(|answer| answer.status == 202)?;
                let id = answer.json["id"].as_str()?.to_owned();
                let path = format!("/api/v1/commands/{id}");
                until("a command ends", async || {
                    let answer = api.try_send(api.request(reqwest::Method::GET, &path)).await.ok()?;
                    (!answer.json["completed_at"].is_null() && answer.status == 200).then_some(())
                })
                .await;
                Some(())
            })
            .await;
        }
        begun.elapsed()
    }
}
