//! Network namespaces of a test's own. Each has two wires to this one: one by which it is reached, one by which it
//! reaches servers, and that one can be pulled. A pulled wire refuses nothing and answers nothing.

use std::net::Ipv4Addr;
use std::process::Command;

use servers::need;

/// What lets a machine make namespaces.
const MEND: &str = "network namespaces take iproute2 (apt-get install iproute2) and the capabilities NET_ADMIN and SYS_ADMIN: run \
     the tests as root, in a container with --cap-add=NET_ADMIN --cap-add=SYS_ADMIN";

/// Numbers that are tried: one may be that of another test's.
const NUMBERS: usize = 3;

/// One namespace. Dropped, it is removed, and its wires with it.
pub struct Namespace {
    name: String,
    wire: String,
    front: [Ipv4Addr; 2],
    servers: [Ipv4Addr; 2],
}

/// Runs `ip`.
fn ip(words: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(words).output().map_err(|error| format!("no `ip` here: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim()))
}

impl Namespace {
    /// Makes one; `None`, said aloud, where that is not permitted.
    ///
    /// # Panics
    /// With `CI=true` where it is not.
    pub fn new() -> Option<Namespace> {
        let mut refused = String::new();
        for _ in 0..NUMBERS {
            match Namespace::make(rand::random_range(1..16_000)) {
                Ok(made) => return Some(made),
                Err(why) => refused = why,
            }
        }
        need::skipped(&format!("{refused}; {MEND}"));
        None
    }

    fn make(number: u16) -> Result<Namespace, String> {
        // Two networks of four addresses each, of those that nobody routes (RFC 2544).
        let [high, low] = (number * 4).to_be_bytes();
        let pair = |second: u8| [1, 2].map(|last| Ipv4Addr::new(198, second, high, low + last));
        let name = format!("vwt{number}");
        ip(&["netns", "add", &name])?;
        // From here on it is ours, and is removed whatever comes.
        let made = Namespace { name, wire: format!("vws{number}"), front: pair(18), servers: pair(19) };
        made.inside(&["link", "set", "lo", "up"])?;
        let front = format!("vwf{number}");
        for (wire, inner, [near, far]) in [(&front, "front", made.front), (&made.wire, "servers", made.servers)] {
            ip(&["link", "add", wire, "type", "veth", "peer", "name", inner, "netns", &made.name])?;
            ip(&["addr", "add", &format!("{near}/30"), "dev", wire])?;
            ip(&["link", "set", wire, "up"])?;
            made.inside(&["addr", "add", &format!("{far}/30"), "dev", inner])?;
            made.inside(&["link", "set", inner, "up"])?;
        }
        Ok(made)
    }

    fn inside(&self, words: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name], words].concat())
    }

    /// What to start a program with, for it to run inside.
    pub fn starter(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// Where it is reached.
    pub fn address(&self) -> Ipv4Addr {
        self.front[1]
    }

    /// Where those inside reach servers.
    pub fn gateway(&self) -> Ipv4Addr {
        self.servers[0]
    }

    /// Pulls the wire to servers, or puts it back.
    ///
    /// # Panics
    /// When it cannot.
    pub fn pulled(&self, pulled: bool) {
        // At this end: inside nobody is told but that there is no carrier, and whoever listens here goes on.
        ip(&["link", "set", &self.wire, if pulled { "down" } else { "up" }]).expect("the wire is there");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Removed by somebody else is as good.
        let _ = ip(&["netns", "del", &self.name]);
    }
}
