//! A real image registry on loopback, for push and pull.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context as _;

use crate::need;
use crate::supervised::{Supervised, wait};

const SCRIPT: &str = include_str!("registry.sh");

/// One `docker-registry`. Dropped, or when this program ends in any way, it is ended and its folder removed.
pub struct Registry {
    supervised: Supervised,
    port: u16,
}

impl Registry {
    /// Starts one on a port that the kernel chose and waits until it listens.
    ///
    /// # Errors
    /// When the program is missing, or does not begin in time.
    pub fn start() -> anyhow::Result<Registry> {
        let program = need::find("docker-registry", "docker-registry").map_err(anyhow::Error::msg)?;
        let supervised = Supervised::start(SCRIPT, &[&program.display().to_string()])?;
        let dir = supervised.dir();
        let config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\n\
             storage: {{filesystem: {{rootdirectory: {}/images}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:0\"}}\n",
            dir.display()
        );
        std::fs::write(dir.join("config.yml"), config).context("the registry's configuration")?;
        supervised.order_start()?;
        let port = wait(|| port_of(&std::fs::read_to_string(dir.join("registry.log")).ok()?));
        let port = port.with_context(|| format!("the registry does not listen: {}", supervised.log("registry.log")))?;
        Ok(Registry { supervised, port })
    }

    /// The one that all tests of this program share; `None` when it cannot be had, after [`need::skipped`].
    pub fn shared() -> Option<&'static Registry> {
        static SHARED: OnceLock<Result<Registry, String>> = OnceLock::new();
        match SHARED.get_or_init(|| Registry::start().map_err(|error| format!("{error:#}"))) {
            Ok(registry) => Some(registry),
            Err(why) => {
                need::skipped(why);
                None
            }
        }
    }

    /// `127.0.0.1:PORT`, the first part of its images' names. Engines take that without TLS.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.supervised.dir()
    }
}

/// From the line that says `listening on 127.0.0.1:PORT`.
fn port_of(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::port_of;

    #[test]
    fn the_port_is_read_only_when_all_of_it_was_written() {
        assert_eq!(port_of("{\"msg\":\"listening on 127.0.0.1:4123\",\"time\""), Some(4123));
        assert_eq!(port_of("{\"msg\":\"listening on 127.0.0.1:41"), None);
        assert_eq!(port_of("{\"msg\":\"using in-memory cache\"}\n"), None);
    }
}
