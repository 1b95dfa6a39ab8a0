//! A real Redis: `redis-server` on a folder and a port of the loopback, which can be killed, flushed and started
//! again at the same address.

mod line;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use self::line::{Line, Reply};
use crate::supervised::{Supervised, wait};
use crate::{need, port};

const SCRIPT: &str = include_str!("redis.sh");
/// The Debian package, and its server.
pub const PACKAGE: (&str, &str) = ("redis-server", "redis-server");

/// Looks for an answer between two orders to start.
const LOOKS: u32 = 100;

/// One server. Dropped, or when this program ends in any way, it is ended.
pub struct Redis {
    supervised: Supervised,
    address: SocketAddr,
    /// Where it speaks TLS, if it does.
    tls: Option<SocketAddr>,
}

impl Redis {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// The program is missing, or does not answer in time.
    pub fn start() -> anyhow::Result<Redis> {
        Redis::start_as(None, &[])
    }

    /// One that also speaks TLS, with this certificate and key, and takes these further words of its settings.
    ///
    /// # Errors
    /// The program is missing, or does not answer in time.
    pub fn start_as(tls: Option<(&Path, &Path)>, more: &[&str]) -> anyhow::Result<Redis> {
        let program = need::find(PACKAGE.1, PACKAGE.0).map_err(anyhow::Error::msg)?;
        let free = || port::free().map(|port| SocketAddr::from(([127, 0, 0, 1], port))).context("no free port");
        let address = free()?;
        let mut words = vec![program.display().to_string(), address.port().to_string()];
        let tls_address = tls.map(|_| free()).transpose()?;
        if let (Some((certificate, key)), Some(at)) = (tls, tls_address) {
            let files = [certificate, key].map(|file| file.display().to_string());
            let port = at.port().to_string();
            let flags = [
                "--tls-port",
                &port,
                "--tls-cert-file",
                &files[0],
                "--tls-key-file",
                &files[1],
                "--tls-auth-clients",
                "no",
            ];
            words.extend(flags.map(str::to_owned));
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let supervised = Supervised::start(SCRIPT, &words.iter().map(String::as_str).collect::<Vec<_>>())?;
        let redis = Redis { supervised, address, tls: tls_address };
        redis.restart()?;
        Ok(redis)
    }

    /// One for this test alone; `None` when it cannot be had, after [`need::skipped`].
    pub fn own() -> Option<Redis> {
        Redis::start().map_err(|error| need::skipped(&format!("{error:#}"))).ok()
    }

    /// Starts it, if it does not run, and waits until it answers.
    ///
    /// # Errors
    /// It does not; its log is in the text.
    pub fn restart(&self) -> anyhow::Result<()> {
        let mut looks = 0_u32;
        let answers = wait(|| {
            // Again now and then, if it has ended: its port may have been taken for a moment.
            if looks.is_multiple_of(LOOKS) {
                self.supervised.order_start().ok()?;
            }
            looks += 1;
            self.ask("PING").ok().filter(|answer| answer.starts_with("+PONG"))
        });
        if answers.is_none() {
            bail!("Redis does not answer: {}", self.supervised.log("redis.log"));
        }
        Ok(())
    }

    /// `kill -9`, and waits until nothing answers.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn kill(&self) -> anyhow::Result<()> {
        let pid = std::fs::read_to_string(self.supervised.dir().join("pid")).context("it was never started")?;
        kill(Pid::from_raw(pid.trim().parse()?), Signal::SIGKILL).context("it does not run")?;
        wait(|| TcpStream::connect(self.address).is_err().then_some(())).context("it does not end")
    }

    /// `FLUSHALL`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.ask("FLUSHALL").map(drop)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// The host's section for it.
    pub fn section(&self) -> String {
        format!("[redis]\nurl = \"{}\"\n", self.url())
    }

    /// Where it speaks TLS.
    pub fn tls(&self) -> Option<SocketAddr> {
        self.tls
    }

    /// A line to it that carries any octets.
    ///
    /// # Errors
    /// It does not run.
    pub fn line(&self) -> anyhow::Result<Line> {
        Line::to(self.address).context("no line to Redis")
    }

    /// Asks it in one line, and reads the beginning of its answer.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self, word: &str) -> anyhow::Result<String> {
        let mut line = TcpStream::connect(self.address)?;
        line.set_read_timeout(Some(Duration::from_secs(5)))?;
        line.write_all(format!("{word}\r\n").as_bytes())?;
        let mut answer = [0; 64];
        let length = line.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }
}
