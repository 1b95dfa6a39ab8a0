//! Server-sent events as bytes: any chunking in, whole frames out.
//!
//! Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".

/// Most bytes of one frame. The host's largest is an output chunk, far below this.
const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// One dispatched event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its type; `message` when the server named none.
    pub event: String,
    /// Its data lines, joined by line feeds.
    pub data: String,
    /// The last id seen up to and including this frame; empty when there was none.
    pub id: String,
}

/// The server sent a frame that no reader should hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_FRAME_BYTES} bytes")]
pub struct TooLong;

/// Turns bytes into frames. Holds at most one unfinished frame.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes of the unfinished line.
    line: Vec<u8>,
    /// The last byte was a carriage return, so a line feed now belongs to it.
    after_cr: bool,
    started: bool,
    event: String,
    data: String,
    has_data: bool,
    id: String,
    retry_ms: Option<u64>,
}

impl Parser {
    /// A parser at the start of a stream.
    pub fn new() -> Parser {
        Parser::default()
    }

    /// A parser of the stream that continues after the event `id`, as the server last asked.
    pub fn resume(id: &str, retry_ms: Option<u64>) -> Parser {
        Parser { id: id.to_owned(), retry_ms, ..Parser::default() }
    }

    /// The reconnection time the server asked for, if it did.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Takes the next bytes and appends the frames they complete to `frames`.
    ///
    /// # Errors
    /// [`TooLong`]; the stream is of no use afterwards.
    pub fn push(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        for &byte in bytes {
            let joined = self.after_cr && byte == b'\n';
            self.after_cr = byte == b'\r';
            if joined {
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                let line = std::mem::take(&mut self.line);
                self.take_line(&line, frames);
                self.line = line;
                self.line.clear();
            } else {
                self.line.push(byte);
                if self.line.len() + self.data.len() > MAX_FRAME_BYTES {
                    return Err(TooLong);
                }
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], frames: &mut Vec<Frame>) {
        let line = if self.started { line } else { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            return self.dispatch(frames);
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" => self.retry_ms = value.parse().ok().or(self.retry_ms),
            // A comment (its field is empty) or a field of a later version.
            _ => {}
        }
    }

    fn dispatch(&mut self, frames: &mut Vec<Frame>) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let event = if event.is_empty() { "message".to_owned() } else { event };
            frames.push(Frame { event, data, id: self.id.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: hello\nid: 1\nevent: state\ndata: {\"a\":\ndata: 1}\n\nretry: 250\r\n\r\nid: 2\r\nevent: output\r\ndata:x\r\n\r\n\
                          data: no type\rdata\r\rid: 3\n\nevent: lost\ndata: unfinished";

    fn expected() -> Vec<Frame> {
        let frame = |event: &str, data: &str, id: &str| Frame { event: event.into(), data: data.into(), id: id.into() };
        vec![frame("state", "{\"a\":\n1}", "1"), frame("output", "x", "2"), frame("message", "no type\n", "2")]
    }

    #[test]
    fn a_stream_gives_the_same_frames_however_it_is_cut() {
        for size in 1..=STREAM.len() {
            let (mut parser, mut frames) = (Parser::new(), Vec::new());
            for chunk in STREAM.as_bytes().chunks(size) {
                parser.push(chunk, &mut frames).unwrap();
            }
            assert_eq!(frames, expected(), "in chunks of {size}");
            assert_eq!(parser.retry_ms(), Some(250));
        }
    }

    #[test]
    fn a_character_cut_in_two_is_whole_again() {
        let (mut parser, mut frames) = (Parser::new(), Vec::new());
        let bytes = "data: grün\n\n".as_bytes();
        let (left, right) = bytes.split_at(9);
        parser.push(left, &mut frames).unwrap();
        parser.push(right, &mut frames).unwrap();
        assert_eq!(frames[0].data, "grün");
    }

    #[test]
    fn an_endless_frame_is_refused() {
        let (mut parser, mut frames) = (Parser::new(), Vec::new());
        parser.push(b"data: ", &mut frames).unwrap();
        assert_eq!(parser.push(&vec![b'x'; MAX_FRAME_BYTES + 1], &mut frames), Err(TooLong));
        assert!(frames.is_empty());
    }
}
