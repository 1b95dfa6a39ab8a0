//! Ports that stay free until they are taken, also while whoever had one is away.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Ports below that are not looked at: services of the machine have theirs there.
const LEAST: u16 = 10_240;
/// Where no kernel takes ports for outgoing connections from by default.
const USUAL: u16 = 32_768;
/// Ports that are looked at.
const LOOKS: usize = 1_000;

/// A port of the loopback that nobody listens at, and that the kernel gives nobody who asks for any: an outgoing
/// connection could hold it for a minute, and a server that is started again would not get it back.
///
/// # Errors
/// When none is found.
pub fn free() -> io::Result<u16> {
    let end = ephemeral().unwrap_or(USUAL).max(LEAST + 1);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..LOOKS {
        let chance = RandomState::new().hash_one(0) % u64::from(end - LEAST);
        let port = LEAST + u16::try_from(chance).unwrap_or(0);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The first port that this kernel gives who asks for any, if it leaves enough before it.
fn ephemeral() -> Option<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let first: u16 = range.split_whitespace().next()?.parse().ok()?;
    (first > LEAST + 4_096).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_none_that_an_outgoing_connection_may_take_meanwhile() {
        let first = ephemeral().unwrap_or(USUAL);
        for _ in 0..50 {
            let port = free().expect("a port");
            assert!((LEAST..first).contains(&port), "{port}");
            // A process that is being started holds what we have open for a moment.
            let bound = crate::supervised::wait(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
            assert!(bound.is_some(), "{port} is taken");
        }
    }
}
