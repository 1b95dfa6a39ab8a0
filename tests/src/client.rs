//! A client of the REST API that hides nothing: status and body of every answer.

use std::time::Duration;

use domain::attempt::State;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::events::Events;
use crate::wait::until;

/// A connection that nobody uses is closed by the host after five seconds; a request must not meet that.
const IDLE: Duration = Duration::from_secs(2);

/// One principal at one host.
#[derive(Clone)]
pub struct Api {
    http: Client,
    base: String,
    token: Option<String>,
}

/// What the host answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null when it is none.
    pub json: Value,
    /// The body's octets.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The stable code of a problem; empty when it is none.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// The body, if the status is `status`.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json
    }
}

impl Api {
    /// Nobody, at the host that listens at `base`.
    ///
    /// # Panics
    /// When there can be no HTTP client.
    pub fn anonymous(base: &str) -> Api {
        let http = Client::builder().no_proxy().pool_idle_timeout(IDLE).build().expect("an HTTP client");
        Api { http, base: base.to_owned(), token: None }
    }

    /// Nobody, at a host whose TLS certificate is one of these PEM texts' or signed by one.
    ///
    /// # Panics
    /// When there can be no such HTTP client.
    pub fn believing(base: &str, pem: &[u8]) -> Api {
        let authority = reqwest::Certificate::from_pem(pem).expect("a certificate");
        let http = Client::builder()
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .tls_certs_only([authority])
            .build()
            .expect("an HTTP client");
        Api { http, base: base.to_owned(), token: None }
    }

    /// The same host with this token.
    pub fn with_token(&self, token: &str) -> Api {
        Api { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Logs in.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn login(&self, credential: &Value) -> Api {
        let tokens = self.post("/api/v1/auth/login", credential).await.expect(200);
        self.with_token(tokens["access_token"].as_str().expect("an access token"))
    }

    /// Its token.
    ///
    /// # Panics
    /// When it is nobody.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("somebody who logged in")
    }

    /// A request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends it.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("the host answers")
    }

    /// Sends it to a host that may be gone before it has answered.
    ///
    /// # Errors
    /// When the whole answer did not come; what was asked may be done all the same.
    pub async fn try_send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?.to_vec();
        Ok(Answer { status, headers, json: serde_json::from_slice(&bytes).unwrap_or_default(), bytes })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_raw(path, "application/json", body.to_string()).await
    }

    /// POST of any octets.
    pub async fn post_raw(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.request(Method::POST, path).header(CONTENT_TYPE, content_type).body(body)).await
    }

    /// Submits `exec.run` with these arguments for one agent; the command's id.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn exec(&self, agent: &str, args: &Value) -> String {
        self.submit(&exec_body(agent, args)).await
    }

    /// Submits a command; its id.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn submit(&self, body: &Value) -> String {
        let answer = self.post("/api/v1/commands", body).await;
        let location = answer.headers.get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let accepted = answer.expect(202);
        let id = accepted["id"].as_str().expect("an id").to_owned();
        assert_eq!(location.as_deref(), Some(format!("/api/v1/commands/{id}").as_str()));
        id
    }

    /// The command as it stands.
    ///
    /// # Panics
    /// When the host does not know it.
    pub async fn command(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/commands/{id}")).await.expect(200)
    }

    /// The command on one agent as it stands.
    ///
    /// # Panics
    /// When the host does not know it.
    pub async fn invocation(&self, id: &str, agent: &str) -> Value {
        self.get(&format!("/api/v1/commands/{id}/invocations/{agent}")).await.expect(200)
    }

    /// The value of a metric.
    ///
    /// # Panics
    /// When the host does not tell it.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.get("/metrics").await.bytes).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start_matches("{}").strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until it is over on this agent, and the whole command with it.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&self, id: &str, agent: &str) -> Value {
        let ended = until("the invocation ends", async || {
            let invocation = self.invocation(id, agent).await;
            state_of(&invocation).is_terminal().then_some(invocation)
        });
        let invocation = ended.await;
        until("the command is over", async || self.command(id).await["completed_at"].as_str().map(drop)).await;
        invocation
    }

    /// Waits until it is in this state.
    ///
    /// # Panics
    /// When it ends otherwise, or never gets there.
    pub async fn reaches(&self, id: &str, agent: &str, state: State) -> Value {
        until(&format!("the invocation is {state}"), async || {
            let invocation = self.invocation(id, agent).await;
            let now = state_of(&invocation);
            assert!(now == state || !now.is_terminal(), "ended otherwise: {invocation:#}");
            (now == state).then_some(invocation)
        })
        .await
    }

    /// Asks it to end; the status of the answer and its body.
    pub async fn cancel(&self, id: &str) -> Answer {
        self.post(&format!("/api/v1/commands/{id}/cancel"), &json!({})).await
    }

    /// The command's events after `last`, from the beginning when there is none.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn events(&self, id: &str, last: Option<&str>) -> Events {
        let mut request = self.request(Method::GET, &format!("/api/v1/commands/{id}/events"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        Events::of(request.send().await.expect("the host answers"))
    }
}

/// Body of a submission of `exec.run` for one agent.
pub fn exec_body(agent: &str, args: &Value) -> Value {
    json!({ "verb": "exec.run", "args": args, "target": { "agents": [agent] } })
}

/// The state of an invocation.
///
/// # Panics
/// When it is none that there is.
pub fn state_of(invocation: &Value) -> State {
    let name = invocation["state"].as_str().unwrap_or_default();
    State::parse(name).unwrap_or_else(|| panic!("no such state: {invocation:#}"))
}
