//! The host itself: reached, believed, in time, well, of our version; and who we are to it.

use std::time::Instant;

use chrono::{DateTime, Utc};
use viworks_client::{Checkup, Client, ClientError};

use super::Report;
use crate::context::Choice;

/// Tokens and deadlines suffer beyond this.
const CLOCK_MAY_DIFFER_S: i64 = 30;

/// Whether it makes sense to ask further.
pub(super) async fn examine(client: &Client, choice: &Choice, report: &mut Report) -> bool {
    const SECTION: &str = "host";
    let server = client.server();
    let asked = Instant::now();
    let checkup = match client.checkup().await {
        Ok(checkup) => checkup,
        Err(error) => {
            report.broken(SECTION, error.to_string(), hint(&error));
            return false;
        }
    };
    report.well(SECTION, format!("{server} answers in {} ms", asked.elapsed().as_millis()));
    trust(client, choice, report);
    clock(&checkup, Utc::now(), report);
    version(client, report).await;
    for (part, word) in &checkup.health.components {
        match word.as_str() {
            "ok" => report.well("host parts", format!("{part} is ok")),
            trouble => {
                let hint = "the host's log says more; see docs/operations.md";
                report.broken("host parts", format!("{part}: {trouble}"), hint);
            }
        }
    }
    true
}

fn hint(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { cause, .. } if cause.contains("certificate") || cause.contains("TLS") => {
            "whoever answers is not believed: log in with --ca FILE or --pin PIN, which the host logs at start"
        }
        ClientError::Unreachable { .. } => "does the host run there, is the address the API's, is a firewall between?",
        _ => "is the address the API's, and not a proxy's or another program's?",
    }
}

fn trust(client: &Client, choice: &Choice, report: &mut Report) {
    const SECTION: &str = "host";
    let server = client.server();
    if server.is_exposed() {
        let hint = "whoever is on the way reads tokens and output: give the host [tls], and log in at https://";
        report.look(SECTION, "it is plain HTTP to another machine", hint);
    } else if server.to_string().starts_with("https://") {
        let by = match (&choice.pin, &choice.ca) {
            (Some(_), _) => "its pinned key (VIWORKS_PIN)",
            (None, Some(_)) => "the authorities of VIWORKS_CA",
            (None, None) => "what the context believes",
        };
        report.well(SECTION, format!("its certificate is believed, by {by}"));
    } else {
        report.well(SECTION, "it is on this machine, where plain HTTP is no danger".to_owned());
    }
}

fn clock(checkup: &Checkup, now: DateTime<Utc>, report: &mut Report) {
    const SECTION: &str = "host";
    let Some(host_time) = checkup.host_time else {
        return report.look(SECTION, "it did not say what time it has", "does a proxy remove the Date header?");
    };
    let apart = (now - host_time).num_seconds().abs();
    if apart > CLOCK_MAY_DIFFER_S {
        let what = format!("its clock and this machine's are {apart} s apart");
        report.look(SECTION, what, "tokens may seem over, and ages are wrong: run NTP on both");
    } else {
        report.well(SECTION, format!("its clock and this machine's agree to {} s", apart + 1));
    }
}

async fn version(client: &Client, report: &mut Report) {
    const SECTION: &str = "host";
    let own = env!("CARGO_PKG_VERSION");
    match client.version().await {
        Ok(host) if !host.api.iter().any(|api| api == "v1") => {
            let what = format!("{} {} speaks {}, and this program v1", host.name, host.version, host.api.join(", "));
            report.broken(SECTION, what, "install the viworks of the host's version");
        }
        Ok(host) if host.version == own => {
            report.well(SECTION, format!("{} {} is of this program's version", host.name, host.version));
        }
        Ok(host) => {
            let what = format!("{} is {}, and this program {own}", host.name, host.version);
            report.look(SECTION, what, "they understand each other; newer features may be missing");
        }
        Err(error) => report.broken(SECTION, format!("it does not say its version: {error}"), hint(&error)),
    }
}

/// Whether we are somebody to it.
pub(super) async fn login(client: &Client, report: &mut Report) -> bool {
    const SECTION: &str = "login";
    match client.me().await {
        Ok(me) => {
            report.well(SECTION, format!("logged in as {}, {}", me.name, me.role));
            true
        }
        Err(error) => {
            let hint = format!("viworks login {}", client.server());
            report.broken(SECTION, error.to_string(), hint);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::system::Health;

    use super::super::Outcome;
    use super::*;

    #[test]
    fn clocks_that_differ_are_told_and_seconds_are_not() {
        let now = DateTime::parse_from_rfc3339("2026-01-01T00:00:30Z").unwrap().to_utc();
        for (host_time, outcome) in [
            (Some("2026-01-01T00:00:29Z"), Outcome::Well),
            (Some("2026-01-01T00:00:00Z"), Outcome::Well),
            (Some("2026-01-01T00:01:01Z"), Outcome::Look),
            (Some("2025-01-01T00:00:00Z"), Outcome::Look),
            (None, Outcome::Look),
        ] {
            let host_time = host_time.map(|text| DateTime::parse_from_rfc3339(text).unwrap().to_utc());
            let health = Health { status: "ok".into(), components: BTreeMap::new() };
            let mut report = Report::default();
            clock(&Checkup { health, host_time }, now, &mut report);
            assert_eq!(report.checks[0].outcome, outcome, "{host_time:?}");
        }
    }
}
