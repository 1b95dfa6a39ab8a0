//! One request and its answer: token, body, problem or data.

use api::problem::Problem;
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::{ANSWER_TIMEOUT, Client};

/// What is asked of the host.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
    headers: Vec<(&'static str, String)>,
    stream: bool,
}

impl Ask {
    /// Asks for a route without a body.
    pub(super) fn new(method: Method, url: Url) -> Ask {
        Ask { method, url, body: None, headers: Vec::new(), stream: false }
    }

    /// With a JSON body.
    pub(super) fn json(mut self, body: &impl Serialize) -> Ask {
        // The bodies are ours: strings, numbers, lists and string-keyed maps, which always serialise.
        self.body = Some(serde_json::to_vec(body).expect("an API body is JSON"));
        self
    }

    /// With a header.
    pub(super) fn header(mut self, name: &'static str, value: String) -> Ask {
        self.headers.push((name, value));
        self
    }

    /// The answer is a stream that may last for hours.
    pub(super) fn stream(mut self) -> Ask {
        self.stream = true;
        self
    }
}

impl Client {
    /// Sends with our token; a refused token is renewed once and the request sent again.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Response, ClientError> {
        let token = self.access_token().await?;
        let response = self.once(ask, Some(&token)).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_renewable() {
            return accept(response).await;
        }
        let token = self.renew(&token).await?;
        accept(self.once(ask, Some(&token)).await?).await
    }

    /// Sends without a token.
    pub(super) async fn send_openly(&self, ask: &Ask) -> Result<Response, ClientError> {
        accept(self.once(ask, None).await?).await
    }

    /// Sends and reads JSON.
    pub(super) async fn fetch<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, ClientError> {
        read(self.send(ask).await?, self).await
    }

    async fn once(&self, ask: &Ask, token: Option<&str>) -> Result<Response, ClientError> {
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
            request = request.timeout(ANSWER_TIMEOUT);
        }
        request.send().await.map_err(|error| ClientError::transport(&self.server, &error))
    }
}

/// Reads the JSON of a good answer.
pub(super) async fn read<T: DeserializeOwned>(response: Response, client: &Client) -> Result<T, ClientError> {
    let (url, status) = (response.url().to_string(), response.status().as_u16());
    let bytes = response.bytes().await.map_err(|error| ClientError::transport(&client.server, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| ClientError::NotTheApi { url, status, detail: error.to_string() })
}

/// A good answer as it is, a bad one as the problem it describes.
async fn accept(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let url = response.url().to_string();
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let retry_after = text("retry-after").and_then(|seconds| seconds.parse().ok());
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
