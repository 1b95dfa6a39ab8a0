//! Published ports: as a caller asks for them, and as docker lists them.

use viworks_sdk::outputs::cut;
use viworks_sdk::prelude::*;

use crate::spelling::shown;

/// A container's port and, if it is published, where on the machine.
#[derive(Output, Debug, PartialEq)]
pub struct Port {
    /// The port inside the container; of a range, the first.
    pub container_port: u16,
    /// The port on the machine; absent when it is not published.
    pub host_port: Option<u16>,
    /// The machine's address that it is published on; `0.0.0.0` and `::` are all.
    pub host_ip: Option<String>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// How many consecutive ports this is about; absent for one.
    pub count: Option<u16>,
}

/// Reads `0.0.0.0:8080->80/tcp, :::8080->80/tcp, 443/tcp, 127.0.0.1:7000-7002->7000-7002/tcp`.
pub fn listed(text: &str) -> Vec<Port> {
    let mut ports = Vec::new();
    for part in text.split(',') {
        ports.extend(one(part));
    }
    ports
}

fn one(text: &str) -> Option<Port> {
    let (rest, protocol) = text.trim().rsplit_once('/')?;
    let (host, container) = match cut(rest, "->") {
        Some((host, container)) => (Some(host), container),
        None => (None, rest),
    };
    let (container_port, count) = range(container)?;
    let (host_ip, host_port) = match host.map(|host| host.rsplit_once(':').unwrap_or(("", host))) {
        Some((ip, port)) => (Some(ip.trim_matches(['[', ']'])).filter(|ip| !ip.is_empty()), Some(range(port)?.0)),
        None => (None, None),
    };
    Some(Port {
        container_port,
        host_port,
        host_ip: host_ip.map(str::to_owned),
        protocol: protocol.to_owned(),
        count: Some(count).filter(|count| *count > 1),
    })
}

/// Whether docker would understand `spec` as `[[ip:][host port]:]container port[/protocol]`, ports being
/// one or a range.
///
/// # Errors
/// What is wrong with it and what would be right.
pub fn check(spec: &str) -> Result<(), String> {
    let rule = |what: &str| {
        Err(format!("`{}` {what}; write it like 8080:80, 127.0.0.1:8080:80/udp or 7000-7002:7000-7002", shown(spec)))
    };
    let (rest, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return rule("names a protocol that is not tcp, udp or sctp");
    }
    let (host, container) = match rest.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, rest),
    };
    let Some((_, wanted)) = range(container) else { return rule("has no container port from 1 to 65535") };
    let Some(host) = host else { return Ok(()) };
    let (ip, port) = match host.rsplit_once(':') {
        Some((ip, port)) => (Some(ip), port),
        None => (None, host),
    };
    if ip.is_some_and(|ip| !is_ip(ip)) {
        return rule("has an address that is no IPv4 address and no IPv6 address in brackets");
    }
    if port.is_empty() && ip.is_some() {
        return Ok(());
    }
    match range(port) {
        None => rule("has no host port from 1 to 65535"),
        Some((_, offered)) if offered != wanted && wanted != 1 => rule("has ranges of different lengths"),
        Some(_) => Ok(()),
    }
}

/// The first port of `80` or `80-85`, and how many there are.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then(|| (first, last - first + 1))
}

fn port(text: &str) -> Option<u16> {
    // `parse` would also take a plus sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port > 0)
}

fn is_ip(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => {
            inner.contains(':') && inner.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }
        None => is_ipv4(text),
    }
}

/// Four numbers from 0 to 255.
pub fn is_ipv4(text: &str) -> bool {
    let part = |part: &str| {
        (1..=3).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u16>().is_ok_and(|number| number <= 255)
    };
    text.split('.').count() == 4 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_lists_is_read_port_by_port() {
        let port = |container_port, host: Option<(&str, u16)>, protocol: &str, count| Port {
            container_port,
            host_port: host.map(|(_, port)| port),
            host_ip: host.map(|(ip, _)| ip.to_owned()),
            protocol: protocol.to_owned(),
            count,
        };
        let text = "0.0.0.0:8080->80/tcp, :::8080->80/tcp, [::1]:53->53/udp, 443/tcp, \
                    127.0.0.1:7000-7002->9000-9002/tcp, 6000-6001/udp";
        let expected = [
            port(80, Some(("0.0.0.0", 8080)), "tcp", None),
            port(80, Some(("::", 8080)), "tcp", None),
            port(53, Some(("::1", 53)), "udp", None),
            port(443, None, "tcp", None),
            port(9000, Some(("127.0.0.1", 7000)), "tcp", Some(3)),
            port(6000, None, "udp", Some(2)),
        ];
        assert_eq!(listed(text), expected);
        assert_eq!(listed(""), []);
    }

    #[test]
    fn what_a_caller_asks_for_is_checked_before_docker_sees_it() {
        for good in [
            "80",
            "8080:80",
            "8080:80/udp",
            "127.0.0.1:8080:80",
            "127.0.0.1::80",
            "[::1]:8080:80/sctp",
            "7000-7002:9000-9002",
            "7000-7002:80",
            "1:65535",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "0:80",
            "8080:",
            "8080:0",
            "65536:80",
            "8080:80/icmp",
            "8080:80/",
            "-8080:80",
            "+8080:80",
            "8080:80:90:1",
            "300.0.0.1:1:2",
            "host:1:2",
            "::1:1:2",
            "7000-7002:9000-9001",
            "9-7:9-7",
            "80 ",
            "８０",
            "80\n",
            "[x]:1:2",
        ] {
            let message = check(bad).expect_err(bad);
            assert!(message.contains("write it like") && !message.contains('\n'), "{message}");
        }
    }
}
