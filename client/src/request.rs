//! One request and its answer: token, body, problem or data.

use api::problem::Problem;
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Client;
use crate::error::ClientError;

/// What is asked of the host.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
    headers: Vec<(&'static str, String)>,
    stream: bool,
    at_once: bool,
}

impl Ask {
    /// Asks for a route without a body.
    pub(crate) fn new(method: Method, url: Url) -> Ask {
        Ask { method, url, body: None, headers: Vec::new(), stream: false, at_once: false }
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Ask {
        // The bodies are ours: strings, numbers, lists and string-keyed maps, which always serialise.
        self.body = Some(serde_json::to_vec(body).expect("an API body is JSON"));
        self
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &'static str, value: String) -> Ask {
        self.headers.push((name, value));
        self
    }

    /// Whatever is answered is handed on: it is not asked again.
    pub(crate) fn at_once(mut self) -> Ask {
        self.at_once = true;
        self
    }

    /// Whether doing it twice is the same as doing it once.
    fn is_repeatable(&self) -> bool {
        let marked = self.headers.iter().any(|(name, _)| *name == "idempotency-key");
        marked || [Method::GET, Method::PUT, Method::DELETE].contains(&self.method)
    }

    /// The answer is a stream that may last for hours.
    pub(crate) fn stream(mut self) -> Ask {
        self.stream = true;
        self
    }
}

/// What was read, and the tag of the state it was in, to be sent back as `If-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged<T> {
    /// What was read.
    pub value: T,
    /// Its `ETag`; `None` when it has none.
    pub tag: Option<String>,
}

impl Client {
    /// Sends with our token; a refused token is renewed once and the request sent again.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Response, ClientError> {
        let token = self.access_token().await?;
        let response = self.persist(ask, Some(&token)).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_renewable() {
            return accept(response).await;
        }
        let token = self.renew(&token).await?;
        accept(self.persist(ask, Some(&token)).await?).await
    }

    /// Sends without a token.
    pub(crate) async fn send_openly(&self, ask: &Ask) -> Result<Response, ClientError> {
        accept(self.persist(ask, None).await?).await
    }

    /// Sends and reads JSON.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, ClientError> {
        read(self.send(ask).await?, self).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, route: &[&str]) -> Result<T, ClientError> {
        self.fetch(&Ask::new(Method::GET, self.server.route(route, &[]))).await
    }

    /// Reads JSON together with its `ETag`.
    pub(crate) async fn get_tagged<T: DeserializeOwned>(&self, route: &[&str]) -> Result<Tagged<T>, ClientError> {
        let response = self.send(&Ask::new(Method::GET, self.server.route(route, &[]))).await?;
        let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok(Tagged { value: read(response, self).await?, tag })
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        route: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.fetch(&Ask::new(Method::POST, self.server.route(route, &[])).json(body)).await
    }

    pub(crate) async fn act(&self, route: &[&str]) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::POST, self.server.route(route, &[]))).await.map(drop)
    }

    /// Sends, and sends again what the host puts off.
    async fn persist(&self, ask: &Ask, token: Option<&str>) -> Result<Response, ClientError> {
        let mut attempt = 1;
        loop {
            let response = self.once(ask, token).await?;
            let (status, repeatable) = (response.status().as_u16(), ask.is_repeatable());
            let wait = self.persistence.wait(
                attempt,
                status,
                retry_after(&response),
                repeatable,
                rand::random_range(0.0..1.0),
            );
            let Some(wait) = wait.filter(|_| !ask.at_once) else { return Ok(response) };
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Sends once.
    pub(crate) async fn once(&self, ask: &Ask, token: Option<&str>) -> Result<Response, ClientError> {
        let mut request = self.http.request(ask.method.clone(), ask.url.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &ask.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if !ask.stream {
            request = request.timeout(self.answer_timeout);
        }
        request.send().await.map_err(|error| ClientError::transport(&self.server, &error))
    }
}

/// Seconds after which the host wants to be asked again.
fn retry_after(response: &Response) -> Option<u64> {
    response.headers().get("retry-after")?.to_str().ok()?.parse().ok()
}

/// Reads the JSON of a good answer.
pub(crate) async fn read<T: DeserializeOwned>(response: Response, client: &Client) -> Result<T, ClientError> {
    let (url, status) = (response.url().to_string(), response.status().as_u16());
    let bytes = response.bytes().await.map_err(|error| ClientError::transport(&client.server, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| ClientError::NotTheApi { url, status, detail: error.to_string() })
}

/// A good answer as it is, a bad one as the problem it describes.
pub(crate) async fn accept(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let url = response.url().to_string();
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let retry_after = retry_after(&response);
    if let Some(place) = text("location").filter(|_| status.is_redirection()) {
        let detail = format!("it points to {place}; log in at that address if it is the host's");
        return Err(ClientError::NotTheApi { url, status: status.as_u16(), detail });
    }
    let bytes = response.bytes().await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Err(ClientError::Problem { problem: Box::new(problem), retry_after }),
        Err(_) => {
            let start: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            let detail = if start.trim().is_empty() { "no body".to_owned() } else { start };
            Err(ClientError::NotTheApi { url, status: status.as_u16(), detail })
        }
    }
}
