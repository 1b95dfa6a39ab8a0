//! The host itself: how it is, which one it is, and what time it has. No token is sent.

use api::system::{Health, Version};
use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};

use crate::Client;
use crate::error::ClientError;
use crate::request::{Ask, accept, read};

/// How a host is, and its clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// Each part and what is wrong with it.
    pub health: Health,
    /// The host's time when it answered, to the second; `None` when it did not say.
    pub host_time: Option<DateTime<Utc>>,
}

impl Client {
    /// `GET /readyz`: an answer also when the host cannot take work.
    ///
    /// # Errors
    /// When nothing answers, or something that is no host.
    pub async fn checkup(&self) -> Result<Checkup, ClientError> {
        let ask = Ask::new(Method::GET, self.server.outside(&["readyz"])).at_once();
        let response = self.once(&ask, None).await?;
        let said = response.headers().get("date").and_then(|value| value.to_str().ok());
        let host_time = said.and_then(|text| DateTime::parse_from_rfc2822(text).ok()).map(|time| time.to_utc());
        let response =
            if response.status() == StatusCode::SERVICE_UNAVAILABLE { response } else { accept(response).await? };
        Ok(Checkup { health: read(response, self).await?, host_time })
    }

    /// `GET /version`.
    ///
    /// # Errors
    /// When nothing answers, or something that is no host.
    pub async fn version(&self) -> Result<Version, ClientError> {
        let ask = Ask::new(Method::GET, self.server.outside(&["version"]));
        read(self.send_openly(&ask).await?, self).await
    }
}
