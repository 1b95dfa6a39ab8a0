//! A line to a Redis that carries any octets, and says what comes back.
//!
//! Source: the protocol RESP2.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A word, such as `OK`.
    Word(String),
    /// A refusal.
    Error(String),
    /// A number.
    Number(i64),
    /// Octets, if there are any.
    Octets(Option<Vec<u8>>),
    /// Several.
    Several(Vec<Reply>),
}

/// One line.
pub struct Line(BufReader<TcpStream>);

impl Line {
    /// To the Redis there.
    pub(super) fn to(address: SocketAddr) -> io::Result<Line> {
        let line = TcpStream::connect(address)?;
        line.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Line(BufReader::new(line)))
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// The line is broken.
    pub fn ask(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        self.say(words)?;
        self.reply()
    }

    /// Says one thing and does not wait for what comes back.
    ///
    /// # Errors
    /// The line is broken.
    pub fn say(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let mut octets = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            octets.extend(format!("${}\r\n", word.len()).into_bytes());
            octets.extend(*word);
            octets.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&octets)
    }

    /// What comes next.
    ///
    /// # Errors
    /// The line is broken, or says what no Redis does.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut head = String::new();
        self.0.read_line(&mut head)?;
        let strange = || io::Error::new(io::ErrorKind::InvalidData, format!("no answer of Redis: {head:?}"));
        let (kind, rest) = head.split_at_checked(1).ok_or_else(strange)?;
        let rest = rest.trim_end();
        let number = || rest.parse::<i64>().map_err(|_| strange());
        Ok(match kind {
            "+" => Reply::Word(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(number()?),
            "$" => Reply::Octets(match usize::try_from(number()?) {
                Err(_) => None,
                Ok(length) => {
                    let mut octets = vec![0; length + 2];
                    self.0.read_exact(&mut octets)?;
                    octets.truncate(length);
                    Some(octets)
                }
            }),
            "*" => {
                let several = usize::try_from(number()?).unwrap_or(0);
                Reply::Several((0..several).map(|_| self.reply()).collect::<io::Result<_>>()?)
            }
            _ => return Err(strange()),
        })
    }
}
