//! Where people are told: which news, how often, at which addresses, and when a message is given up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::Severity;
use super::mute::{Matcher, Subject};
use crate::time::Timestamp;

/// Most messages a minute.
pub const PER_MINUTE_MAX: u32 = 600;
/// Most characters of a template.
pub const TEMPLATE_MAX: usize = 4_096;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Signed as Standard Webhooks wants it.
    Webhook,
    /// As Slack's incoming webhooks read it, and what imitates them; its address is its secret.
    Slack,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Webhook, Kind::Slack];

    /// The name used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Webhook => "webhook",
            Kind::Slack => "slack",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What an operator says of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How it is written.
    pub kind: Kind,
    /// Where to.
    pub url: String,
    /// Which alerts.
    pub matcher: Matcher,
    /// At least so bad.
    pub at_least: Severity,
    /// Of the text; a plain one when absent.
    pub template: Option<String>,
    /// At most so many messages a minute; what comes in between goes into the next one.
    pub per_minute: u32,
}

impl Settings {
    /// Whether it is told of `subject`. What is well again is told to whoever may have heard that it was not.
    pub fn wants(&self, subject: &Subject<'_>) -> bool {
        self.matcher.covers(subject) && subject.severity.is_none_or(|severity| severity >= self.at_least)
    }

    /// When the next message may be made after one at `last`.
    pub fn next(&self, last: Timestamp) -> Timestamp {
        last + Duration::from_secs(60) / self.per_minute.max(1)
    }
}

/// How long to wait after so many tries; none when it is given up.
pub fn back_off(tries: u32) -> Option<Duration> {
    const WAITS_S: [u64; 7] = [5, 30, 120, 600, 1_800, 7_200, 21_600];
    let place = usize::try_from(tries.checked_sub(1)?).ok()?;
    WAITS_S.get(place).copied().map(Duration::from_secs)
}

/// Whether an address is one of the open internet: not this machine, not its network, and none that leads to either.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

/// The address of version 4 inside: mapped, compatible, translated (64:ff9b::/96) or tunnelled (2002::/16).
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        (0, 0, 0, 0, 0, 0) if g != 0 => Some(join(g, h)),
        (0x2002, ..) => Some(join(b, c)),
        _ => None,
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (224..=255, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Of what is given out, all begins with 001; documentation, benchmarks and Teredo are in there.
    (0x2000..=0x3fff).contains(&a) && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && a != 0x3fff
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_addresses_of_the_open_internet_are_public() {
        let public = |text: &str| is_public(text.parse().expect("an address"));
        for text in ["1.1.1.1", "93.184.216.34", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(public(text), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::7f00:1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!public(text), "{text}");
        }
    }

    #[test]
    fn a_message_is_tried_for_nine_hours_and_then_given_up() {
        let waits: Vec<u64> = (1..=8).map_while(back_off).map(|wait| wait.as_secs()).collect();
        assert_eq!((waits.len(), waits.iter().sum::<u64>() / 3_600, back_off(8)), (7, 8, None));
        assert!(waits.windows(2).all(|two| two[0] < two[1]));
    }

    #[test]
    fn a_channel_hears_of_what_it_wants_and_of_its_end() {
        let settings = Settings {
            kind: Kind::Webhook,
            url: String::new(),
            matcher: Matcher { rules: vec!["disk".into()], ..Matcher::default() },
            at_least: Severity::Critical,
            template: None,
            per_minute: 6,
        };
        let labels = BTreeMap::new();
        let wants = |rule: &str, severity: Option<Severity>| {
            settings.wants(&Subject { rule, agent: "web-1", site: "eu", labels: &labels, key: "/", severity })
        };
        assert!(wants("disk", Some(Severity::Critical)) && wants("disk", None));
        assert!(!wants("disk", Some(Severity::Warning)) && !wants("cpu", Some(Severity::Critical)));
        assert_eq!(settings.next(Timestamp(0)), Timestamp(10_000_000));
    }
}
