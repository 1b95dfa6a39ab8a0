//! Where a host is, and the addresses of its routes.

use std::fmt;

use reqwest::Url;

/// Base address of a host's API, without `/api/v1` and without a trailing slash.
///
/// ```
/// # use viworks_client::ServerUrl;
/// let server = ServerUrl::parse("https://viworks.example.com/api/v1/")?;
/// assert_eq!(server.to_string(), "https://viworks.example.com");
/// assert!(ServerUrl::parse("viworks.example.com").is_err());
/// # Ok::<(), viworks_client::InvalidUrl>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    url: Url,
}

/// Why a text is no host address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It does not say `http://` or `https://`.
    #[error("`{0}` does not begin with http:// or https://: write it as https://{1}")]
    NoScheme(String, String),
    /// It is no URL at all.
    #[error("`{0}` is no address ({1}): write it as https://host:port")]
    Malformed(String, String),
    /// It carries more than an address.
    #[error("`{0}` has a user, a query or a fragment: leave only https://host:port and a path if there is one")]
    Decorated(String),
}

impl ServerUrl {
    /// Reads an address as a person writes it; a trailing `/` or `/api/v1` is dropped.
    ///
    /// # Errors
    /// [`InvalidUrl`], which says how to write it.
    pub fn parse(text: &str) -> Result<ServerUrl, InvalidUrl> {
        let text = text.trim();
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(InvalidUrl::NoScheme(text.to_owned(), text.rsplit("://").next().unwrap_or(text).to_owned()));
        }
        let mut url = Url::parse(text).map_err(|error| InvalidUrl::Malformed(text.to_owned(), error.to_string()))?;
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidUrl::Decorated(text.to_owned()));
        }
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/api/v1").unwrap_or(path).trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(ServerUrl { url })
    }

    /// The address of a route under `/api/v1`; every segment is percent-encoded.
    pub(crate) fn route(&self, segments: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.outside(&[&["api", "v1"], segments].concat());
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (name, value)));
        }
        url
    }

    /// The address of a route outside of `/api/v1`, e.g. `readyz`.
    pub(crate) fn outside(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Host, and port where it is not the scheme's own: what a person would call this server.
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The host's name or address alone.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Whether what is sent can be read on the way: plain HTTP to another machine.
    pub fn is_exposed(&self) -> bool {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        let loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.url.scheme() == "http" && !loopback
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_decoration_and_keep_their_path() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://ops.example.com/", "https://ops.example.com"),
            ("https://ops.example.com/api/v1/", "https://ops.example.com"),
            ("https://ops.example.com/viworks", "https://ops.example.com/viworks"),
            ("https://ops.example.com:443", "https://ops.example.com"),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap().to_string(), shown, "{text}");
        }
        assert!(matches!(ServerUrl::parse("localhost:8080"), Err(InvalidUrl::NoScheme(..))));
        assert!(ServerUrl::parse("ftp://host").unwrap_err().to_string().ends_with("write it as https://host"));
        assert!(matches!(ServerUrl::parse("https://"), Err(InvalidUrl::Malformed(..))));
        assert!(matches!(ServerUrl::parse("https://me:pw@host"), Err(InvalidUrl::Decorated(_))));
        assert!(matches!(ServerUrl::parse("https://host/?a=b"), Err(InvalidUrl::Decorated(_))));
    }

    #[test]
    fn routes_encode_what_people_type() {
        let server = ServerUrl::parse("https://h/prefix").unwrap();
        let url = server.route(&["agents", "a/../b?x"], &[("status", "a&b".to_owned())]);
        assert_eq!(url.as_str(), "https://h/prefix/api/v1/agents/a%2F..%2Fb%3Fx?status=a%26b");
    }

    #[test]
    fn only_plain_http_to_another_machine_is_exposed() {
        for (text, exposed) in [
            ("http://127.0.0.1:1", false),
            ("http://localhost", false),
            ("http://[::1]:8080", false),
            ("https://ops.example.com", false),
            ("http://ops.example.com", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap().is_exposed(), exposed, "{text}");
        }
    }
}
