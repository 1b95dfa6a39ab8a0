//! A small TCP balancer in front of several hosts: it asks each for `/readyz` and sends new connections to those
//! that say yes. Connections that are open stay where they are until either side ends them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::client::Api;
use crate::wait::{breathe, until};

/// Longest a host may take to say that it is ready. One that stands still is noticed that late, and one that has much to
/// do beside this is left out when it takes longer.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// One host behind it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Where its API is.
    pub api: SocketAddr,
    /// Where agents connect.
    pub agents: SocketAddr,
}

/// The balancer. Dropped, everything on it is cut.
pub struct Balancer {
    api: SocketAddr,
    agents: SocketAddr,
    ready: Arc<[AtomicBool]>,
    _work: JoinSet<()>,
}

impl Balancer {
    /// Begins to balance.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(places: &[Place]) -> Balancer {
        let ready: Arc<[AtomicBool]> = places.iter().map(|_| AtomicBool::new(false)).collect();
        let mut work = JoinSet::new();
        for (number, place) in places.iter().enumerate() {
            work.spawn(probe(Api::anonymous(&format!("http://{}", place.api)), ready.clone(), number));
        }
        let apis = places.iter().map(|place| place.api).collect();
        let agents = places.iter().map(|place| place.agents).collect();
        let api = serve(&mut work, apis, ready.clone()).await;
        let agents = serve(&mut work, agents, ready.clone()).await;
        Balancer { api, agents, ready, _work: work }
    }

    /// Where clients are to connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// Where agents are to connect.
    pub fn agents(&self) -> SocketAddr {
        self.agents
    }

    /// Waits until it takes this host for ready, or not.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn sees(&self, number: usize, ready: bool) {
        let what = format!("the balancer takes host {number} for {}", if ready { "ready" } else { "not ready" });
        until(&what, async || (self.ready[number].load(Ordering::Relaxed) == ready).then_some(())).await;
    }
}

async fn probe(api: Api, ready: Arc<[AtomicBool]>, number: usize) {
    loop {
        let asked = tokio::time::timeout(PROBE_WITHIN, api.request(Method::GET, "/readyz").send()).await;
        let well = matches!(asked, Ok(Ok(response)) if response.status().is_success());
        ready[number].store(well, Ordering::Relaxed);
        breathe().await;
    }
}

async fn serve(work: &mut JoinSet<()>, to: Vec<SocketAddr>, ready: Arc<[AtomicBool]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    work.spawn(async move {
        let (mut open, mut turn) = (JoinSet::new(), 0_usize);
        while let Ok((client, _)) = listener.accept().await {
            turn += 1;
            let order = (0..to.len()).map(|step| (turn + step) % to.len());
            let candidates: Vec<SocketAddr> =
                order.filter(|number| ready[*number].load(Ordering::Relaxed)).map(|number| to[number]).collect();
            open.spawn(carry(client, candidates));
        }
    });
    address
}

/// To the first that takes the connection.
async fn carry(mut client: TcpStream, candidates: Vec<SocketAddr>) {
    for candidate in candidates {
        if let Ok(Ok(mut host)) = tokio::time::timeout(PROBE_WITHIN, TcpStream::connect(candidate)).await {
            // Either side may end it in any way.
            let _ = copy_bidirectional(&mut client, &mut host).await;
            return;
        }
    }
}

/// A line to a server that can be cut at will. Dropped, it is cut for good.
pub struct Line {
    address: SocketAddr,
    state: Arc<State>,
    _work: JoinSet<()>,
}

struct State {
    blocked: AtomicBool,
    carried: Mutex<JoinSet<()>>,
}

impl Line {
    /// A line to the server that listens at `to`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(to: SocketAddr) -> Line {
        Line::start_at(Ipv4Addr::LOCALHOST, to).await
    }

    /// The same, beginning at this address.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start_at(address: Ipv4Addr, to: SocketAddr) -> Line {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State { blocked: AtomicBool::new(false), carried: Mutex::new(JoinSet::new()) });
        let (mut work, shared) = (JoinSet::new(), state.clone());
        work.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !shared.blocked.load(Ordering::Relaxed) {
                    shared.carried.lock().unwrap_or_else(PoisonError::into_inner).spawn(carry(client, vec![to]));
                }
            }
        });
        Line { address, state, _work: work }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection there is; new ones are let through.
    pub fn cut(&self) {
        self.state.carried.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Lets nothing through until it is opened again.
    pub fn block(&self) {
        self.state.blocked.store(true, Ordering::Relaxed);
        self.cut();
    }

    /// Lets everything through.
    pub fn open(&self) {
        self.state.blocked.store(false, Ordering::Relaxed);
    }
}
