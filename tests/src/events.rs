//! Reading server-sent events one by one, as they come.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::wait::CEILING;

/// One open stream.
pub struct Events {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The cursor to come back with; empty for what is in no log.
    pub id: String,
    /// `state`, `output`, `status` or `end`.
    pub name: String,
    /// Its data.
    pub data: Value,
}

impl Event {
    /// The bytes of an `output` event, as text.
    ///
    /// # Panics
    /// When they are not base64 of UTF-8.
    pub fn text(&self) -> String {
        let data = self.data["data_base64"].as_str().expect("an output event");
        String::from_utf8(STANDARD.decode(data).expect("base64")).expect("UTF-8")
    }
}

impl Events {
    /// Takes an answer that is a stream.
    ///
    /// # Panics
    /// When it is not.
    pub fn of(response: reqwest::Response) -> Events {
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { response, buffer: Vec::new() }
    }

    /// The next event; `None` when the host ended the stream.
    ///
    /// # Panics
    /// When none comes, or what comes is no event.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match parse(std::str::from_utf8(&block).expect("UTF-8")) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(CEILING, self.response.chunk()).await.expect("an event in time");
            self.buffer.extend_from_slice(&chunk.expect("the stream holds")?);
        }
    }

    /// All that come until the stream ends.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// One block of lines; `None` for a comment.
fn parse(block: &str) -> Option<Event> {
    let field =
        |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim_start().to_owned());
    let name = field("event:")?;
    let data = serde_json::from_str(&field("data:").expect("data")).expect("JSON data");
    Some(Event { id: field("id:").unwrap_or_default(), name, data })
}
