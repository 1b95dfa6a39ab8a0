//! A bare route: a checked JWT and a small JSON body, as little as any authenticated API can do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::child::{Hail, Server};
use crate::http::Origin;
use crate::report::Measured;
use crate::runs::reads::{Reads, run as read};

/// End of the bare token's life: 2100-01-01, seconds since 1970.
const FAR_AWAY: u64 = 4_102_444_800;

struct Door {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    role: String,
    exp: u64,
}

/// About what the API says of one agent.
#[derive(Serialize)]
struct Agent {
    id: String,
    name: &'static str,
    site: &'static str,
    status: &'static str,
    labels: BTreeMap<&'static str, &'static str>,
    capabilities: [&'static str; 2],
    version: &'static str,
    os: &'static str,
    kernel: &'static str,
    arch: &'static str,
    created_at: &'static str,
    last_seen: &'static str,
}

async fn agent(
    State(door): State<Arc<Door>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Agent>, StatusCode> {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = text.and_then(|text| text.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
    let claims = decode::<Claims>(token, &door.key, &door.validation).map_err(|_| StatusCode::UNAUTHORIZED)?;
    if claims.claims.role != "admin" {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(Json(Agent {
        id,
        name: "bench-0001",
        site: "default",
        status: "online",
        labels: BTreeMap::from([("rack", "r1"), ("tier", "web")]),
        capabilities: ["docker", "exec"],
        version: "0.1.0",
        os: "linux",
        kernel: "6.1.0-18-amd64",
        arch: "x86_64",
        created_at: "2026-01-01T00:00:00.000Z",
        last_seen: "2026-01-01T00:00:00.000Z",
    }))
}

/// Serves the route until standard input ends.
///
/// # Errors
/// When it cannot listen.
pub async fn serve() -> Result<()> {
    let secret: [u8; 32] = rand::random();
    let claims = Claims { sub: "bench".to_owned(), role: "admin".to_owned(), exp: FAR_AWAY };
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(&secret))?;
    let door = Door { key: DecodingKey::from_secret(&secret), validation: Validation::new(Algorithm::HS256) };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let hail = Hail { listening: listener.local_addr()?, token: Some(token) };
    println!("{}", serde_json::to_string(&hail)?);
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    let router = Router::new().route("/api/v1/agents/{id}", get(agent)).with_state(Arc::new(door));
    let mut served = JoinSet::new();
    served.spawn(async move { axum::serve(listener, router).await });
    let mut ignored = Vec::new();
    let mut orders = tokio::io::stdin();
    tokio::select! {
        ended = orders.read_to_end(&mut ignored) => { ended?; }
        Some(ended) = served.join_next() => bail!("the door closed: {ended:?}"),
    }
    Ok(())
}

/// Reads the bare route over `connections` for `duration`.
///
/// # Errors
/// When the server does not start.
pub async fn run(connections: usize, warmup: Duration, duration: Duration) -> Result<Measured> {
    let server = Server::start("route-server").await?;
    let origin = Origin::parse(&server.hail.listening.to_string())?;
    let token: Arc<str> = server.hail.token.clone().context("the route's server gave no token")?.into();
    let paths = (0..100).map(|i| format!("/api/v1/agents/0193f2a4-7c1e-7abc-8def-0123456789{i:02}")).collect();
    let reads = Reads { scenario: "route", paths, connections, warmup, duration, server_pid: Some(server.pid) };
    let found = read(&origin, &token, &reads).await?;
    server.end().await?;
    Ok(found)
}
