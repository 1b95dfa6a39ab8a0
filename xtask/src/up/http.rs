//! As much of HTTP/1.1 as asking the host on this machine takes: one request a connection.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The host's API.
pub struct Api {
    address: SocketAddr,
    token: Option<String>,
}

impl Api {
    /// The API on this port of this machine; nobody is logged in yet.
    pub fn at(port: u16) -> Api {
        Api { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), token: None }
    }

    /// Whether the host says it is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self.exchange("GET", "/readyz", None), Ok((200, _)))
    }

    /// Logs in with the body kept in `credential`.
    ///
    /// # Errors
    /// When the host refuses it.
    pub fn log_in(&mut self, credential: &Path) -> anyhow::Result<()> {
        let body = serde_json::from_str(&super::read_text(credential)?)
            .with_context(|| format!("{} is not JSON", credential.display()))?;
        let answer = self.post("/api/v1/auth/login", &body).with_context(|| {
            format!("the credential in {} no longer opens the door; was the password changed?", credential.display())
        })?;
        let token = answer["access_token"].as_str().context("the answer to the login holds no access_token")?;
        self.token = Some(token.to_owned());
        Ok(())
    }

    /// Asks; the answer's JSON.
    ///
    /// # Errors
    /// When the host is away or refuses.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, None)
    }

    /// Sends JSON; the answer's JSON.
    ///
    /// # Errors
    /// When the host is away or refuses.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask("POST", path, Some(body.to_string()))
    }

    fn ask(&self, method: &str, path: &str, body: Option<String>) -> anyhow::Result<Value> {
        let (status, text) = self.exchange(method, path, body.as_deref())?;
        if !(200..300).contains(&status) {
            let problem: Value = serde_json::from_str(&text).unwrap_or_default();
            let said = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or(text.trim());
            bail!("{method} {path} was answered with {status}: {said}");
        }
        serde_json::from_str(&text).with_context(|| format!("the answer to {method} {path} is not JSON"))
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.address, CONNECT_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        if let Some(token) = &self.token {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body {
            request += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        request += "\r\n";
        request += body.unwrap_or_default();
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer).with_context(|| format!("the answer to {method} {path} is no HTTP"))
    }
}

/// Status and body of a whole answer.
fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.lines().any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("transfer-encoding:") && line.contains("chunked")
    });
    let body = if chunked { join_chunks(body)? } else { body.to_owned() };
    Some((status, body))
}

fn join_chunks(mut body: &str) -> Option<String> {
    let mut joined = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(joined);
        }
        joined.push_str(rest.get(..size)?);
        body = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn both_framings_of_a_body_are_read() {
        let plain = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(plain), Some((201, "{}".to_owned())));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4;x=y\r\n\":1}\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), Some((200, "{\"a\":1}".to_owned())));
        assert_eq!(parse(b"garbage"), None);
    }

    #[test]
    fn a_refusal_is_told_in_the_hosts_words() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut request = [0; 1024];
                let read = stream.read(&mut request).expect("a request");
                assert!(String::from_utf8_lossy(&request[..read]).contains("connection: close\r\n"));
                let body = "{\"detail\":\"the token is old\"}";
                let answer = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).expect("written");
            });
            let error = Api::at(port).get("/api/v1/agents").expect_err("refused").to_string();
            assert_eq!(error, "GET /api/v1/agents was answered with 401: the token is old");
        });
    }
}
