//! The operator's side of a run: log in once, stay logged in, ask and tell over `/api/v1`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::http::{Client, Origin};
use crate::schedule::{nanos, now_ns};

/// How often a refused or failed request that may be repeated is repeated.
const PATIENCE: u32 = 20;

/// Somebody who is logged in.
pub struct Operator {
    /// The API.
    pub origin: Arc<Origin>,
    credential: Vec<u8>,
    token: RwLock<Arc<str>>,
    /// When the token is to be renewed, well before it expires. Monotonic nanoseconds.
    renew_at: AtomicU64,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl Operator {
    /// Logs in with a credential file, which is the login's body as it stands.
    ///
    /// # Errors
    /// When the file cannot be read or the host does not take it.
    pub async fn login(api: &str, credential: &Path) -> Result<Arc<Operator>> {
        let body = std::fs::read(credential).with_context(|| format!("credential {}", credential.display()))?;
        let operator = Operator {
            origin: Origin::parse(api)?,
            credential: body,
            token: RwLock::new("".into()),
            renew_at: AtomicU64::new(0),
        };
        operator.renew().await?;
        Ok(Arc::new(operator))
    }

    /// Takes a fresh access token.
    async fn renew(&self) -> Result<()> {
        let mut client = Client::new(self.origin.clone());
        let answer = client.send("POST", "/api/v1/auth/login", None, Some(&self.credential)).await?;
        if answer.status != 200 {
            bail!("login refused with {}: {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        let tokens: Tokens = serde_json::from_slice(answer.body).context("answer to login")?;
        *self.token.write().expect("no holder panics") = tokens.access_token.into();
        let life = Duration::from_secs(tokens.expires_in).mul_f64(0.7);
        self.renew_at.store(now_ns() + nanos(life), Ordering::Relaxed);
        Ok(())
    }

    /// Renews the token before it expires, until told to stop.
    pub async fn stay_logged_in(self: Arc<Operator>, stop: CancellationToken) -> Result<()> {
        loop {
            let left = Duration::from_nanos(self.renew_at.load(Ordering::Relaxed).saturating_sub(now_ns()));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(left) => self.renew().await?,
            }
        }
    }

    /// The access token.
    pub fn bearer(&self) -> Arc<str> {
        self.token.read().expect("no holder panics").clone()
    }

    /// A connection of one's own to the API.
    pub fn client(&self) -> Client {
        Client::new(self.origin.clone())
    }

    /// Asks for `path`, waiting out 429 and 503.
    ///
    /// # Errors
    /// Any other answer than 200, or one that reads otherwise.
    pub async fn get<T: DeserializeOwned>(&self, client: &mut Client, path: &str) -> Result<T> {
        for _ in 0..PATIENCE {
            let answer = client.send("GET", path, Some(&self.bearer()), None).await?;
            match answer.status {
                200 => return serde_json::from_slice(answer.body).with_context(|| format!("answer to GET {path}")),
                429 | 503 => wait(answer.retry_after).await,
                other => bail!("GET {path} answered {other}: {}", String::from_utf8_lossy(answer.body)),
            }
        }
        bail!("GET {path} was refused {PATIENCE} times for want of capacity")
    }

    /// What the host says of itself under `metric`, all its labels together; `None` when it does not.
    pub async fn metric(&self, metric: &str) -> Option<f64> {
        let mut client = self.client();
        let answer = client.send("GET", "/metrics", Some(&self.bearer()), None).await.ok()?;
        let text = std::str::from_utf8(answer.body).ok().filter(|_| answer.status == 200)?;
        let of_it =
            text.lines().filter_map(|line| line.strip_prefix(metric)).filter(|rest| rest.starts_with([' ', '{']));
        let values: Vec<f64> = of_it.filter_map(|rest| rest.rsplit(' ').next()?.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Posts `body` to `path`, waiting out 429 and 503, which promise that nothing was done.
    ///
    /// # Errors
    /// Any other answer than 2xx, or one that reads otherwise.
    pub async fn post<T: DeserializeOwned>(&self, client: &mut Client, path: &str, body: &[u8]) -> Result<T> {
        post(client, path, Some(&self.bearer()), body).await
    }

    /// The first `limit` ids of a list, newest first.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub async fn ids(&self, client: &mut Client, list: &str, limit: usize) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Item {
            id: String,
        }
        let mut ids = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let size = (limit - ids.len()).clamp(1, 500);
            let after = cursor.as_ref().map_or(String::new(), |cursor| format!("&cursor={cursor}"));
            let page: Page<Item> = self.get(client, &format!("/api/v1/{list}?limit={size}{after}")).await?;
            ids.extend(page.items.into_iter().map(|item| item.id));
            cursor = page.next_cursor;
            if cursor.is_none() || ids.len() >= limit {
                ids.truncate(limit);
                return Ok(ids);
            }
        }
    }
}

/// Posts `body` to `path`, waiting out 429 and 503.
///
/// # Errors
/// Any other answer than 2xx, or one that reads otherwise.
pub async fn post<T: DeserializeOwned>(
    client: &mut Client,
    path: &str,
    bearer: Option<&str>,
    body: &[u8],
) -> Result<T> {
    for _ in 0..PATIENCE {
        let answer = client.send("POST", path, bearer, Some(body)).await?;
        match answer.status {
            200..=299 => return serde_json::from_slice(answer.body).with_context(|| format!("answer to POST {path}")),
            429 | 503 => wait(answer.retry_after).await,
            other => bail!("POST {path} answered {other}: {}", String::from_utf8_lossy(answer.body)),
        }
    }
    bail!("POST {path} was refused {PATIENCE} times for want of capacity")
}

async fn wait(retry_after: Option<u64>) {
    let pause = Duration::from_secs(retry_after.unwrap_or(1).min(5));
    tokio::time::sleep(pause).await;
}
