//! Channels and their messages. What proves a message, or leads to the place itself, is not among it.

use api::alert::AlertMatcher;
use api::channel::{Channel as ChannelBody, ChannelMessage};
use domain::alert::channel::Settings;
use domain::alert::mute::Matcher;
use ports::channels::{Channel, Notice, NoticeState};

use crate::instant;

/// A channel; `secret` right after it was made.
pub fn channel(channel: Channel, secret: Option<String>) -> ChannelBody {
    let Channel { id, name, settings, created_by, created_at, told_at, .. } = channel;
    let Settings { kind, url, matcher, at_least, template, per_minute } = settings;
    let Matcher { rules, agents, sites, labels, key, at_most } = matcher;
    let at_most = at_most.map(|severity| severity.as_str().to_owned());
    ChannelBody {
        id: id.to_string(),
        name,
        kind: kind.as_str().to_owned(),
        url: shown(&url),
        matcher: AlertMatcher { rules, agents, sites, labels, key, at_most },
        at_least: at_least.as_str().to_owned(),
        template,
        per_minute,
        created_by,
        created_at: instant::text(created_at),
        told_at: told_at.map(instant::text),
        secret,
    }
}

/// Scheme and host: paths and queries of such addresses are secrets.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", ""));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let hidden = if rest.len() > end + 1 { "/…" } else { "" };
    format!("{scheme}://{}{hidden}", &rest[..end])
}

/// A message.
pub fn message(notice: Notice) -> ChannelMessage {
    let Notice { id, channel: _, created_at, state, due_at, attempts, body, error } = notice;
    ChannelMessage {
        id: id.to_string(),
        state: state.as_str().to_owned(),
        created_at: instant::text(created_at),
        attempts,
        due_at: (state == NoticeState::Waiting).then(|| instant::text(due_at)),
        error,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_the_host_is_shown() {
        for (url, text) in [
            ("https://hooks.example.org/services/T0/B0/secret", "https://hooks.example.org/…"),
            ("https://hooks.example.org?key=secret", "https://hooks.example.org/…"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://hooks.example.org/", "https://hooks.example.org"),
        ] {
            assert_eq!(shown(url), text);
        }
    }
}
