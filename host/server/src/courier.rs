//! Carries messages out: to an address that was looked up once, judged, and then connected to; nowhere else.
//!
//! A name that is looked up twice may mean the open internet the first time and this machine the second. So each
//! address it has is judged, and the connection is pinned to one of them. Nothing is followed, and no proxy asked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use domain::alert::channel::is_public;
use ports::channels::{Courier, Parcel};
use reqwest::Url;
use reqwest::redirect::Policy;

/// Longest wait for an answer.
const WITHIN: Duration = Duration::from_secs(15);

/// The courier.
#[derive(Clone, Copy, Debug)]
pub struct HttpCourier {
    /// Whether it goes to this machine and its network, too, and without TLS.
    pub private: bool,
}

impl HttpCourier {
    fn url(self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|_| "it is no address such as https://hooks.example.org/…".to_owned())?;
        match url.scheme() {
            "https" => {}
            "http" if self.private => {}
            _ => return Err("it must begin with https://".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not hold a name and a password".to_owned());
        }
        let host = url.host_str().ok_or("it names no host")?;
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !self.private && !is_public(address) => Err(refused()),
            Ok(_) | Err(_) => Ok(url),
        }
    }

    /// Where to connect to: an address of the host, when all it has are allowed.
    async fn place(self, url: &Url) -> Result<SocketAddr, String> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let found = tokio::net::lookup_host((host, port)).await.map_err(|_| "its host has no address".to_owned())?;
        let found: Vec<SocketAddr> = found.collect();
        if !self.private && !found.iter().all(|place| is_public(place.ip())) {
            return Err(refused());
        }
        found.first().copied().ok_or_else(|| "its host has no address".to_owned())
    }
}

fn refused() -> String {
    "it leads into a private network, which `notifications.private_networks` does not allow".to_owned()
}

#[async_trait]
impl Courier for HttpCourier {
    fn accepts(&self, url: &str) -> Result<(), String> {
        self.url(url).map(drop)
    }

    async fn post(&self, Parcel { url, headers, body }: Parcel) -> Result<u16, String> {
        let url = self.url(&url)?;
        let place =
            tokio::time::timeout(WITHIN, self.place(&url)).await.map_err(|_| "its host is not found in time")??;
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(WITHIN)
            .resolve(url.host_str().unwrap_or_default(), place)
            .build()
            .map_err(|_| "no connection can be made".to_owned())?;
        let mut request =
            client.post(url).body(body).header("user-agent", concat!("viworks/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| why(&error))?;
        Ok(answer.status().as_u16())
    }
}

/// What went wrong, without the address: it may be a secret.
fn why(error: &reqwest::Error) -> String {
    let said = if error.is_timeout() {
        "it does not answer in time"
    } else if error.is_connect() {
        "no connection can be made to it"
    } else {
        "it does not answer as HTTP is spoken"
    };
    said.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_open_internet_is_gone_to_unless_more_is_allowed() {
        let accepts = |private: bool, url: &str| HttpCourier { private }.accepts(url).is_ok();
        for url in ["https://hooks.example.org/x", "https://93.184.216.34/x", "https://[2606:4700::1111]:8443/"] {
            assert!(accepts(false, url), "{url}");
        }
        for url in ["http://hooks.example.org/x", "https://127.0.0.1/x", "https://[::1]/", "https://10.0.0.1:9/"] {
            assert!(!accepts(false, url) && accepts(true, url), "{url}");
        }
        for url in ["", "hooks", "ftp://hooks.example.org", "https://a:b@hooks.example.org/", "https://2130706433/x"] {
            assert!(!accepts(false, url), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_refused_when_it_is_looked_up() {
        let parcel = Parcel { url: "https://localhost:1/".into(), headers: Vec::new(), body: String::new() };
        assert_eq!(HttpCourier { private: false }.post(parcel.clone()).await, Err(refused()));
        let allowed = HttpCourier { private: true }.post(parcel).await;
        assert_eq!(allowed, Err("no connection can be made to it".to_owned()));
    }
}
