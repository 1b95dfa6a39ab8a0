//! `viworks statistics`: what an operator asks first.

use std::collections::BTreeMap;
use std::time::Duration;

use api::statistics::{RateBody, SpreadBody, Statistics};
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, moment, table};

/// Shows it.
///
/// # Errors
/// What the host refuses.
pub async fn run(client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let statistics = client.statistics().await?;
    sink.one(&statistics, "statistics", || page(&statistics))?;
    Ok(Exit::Ok)
}

fn page(statistics: &Statistics) -> String {
    let Statistics { since, agents, open_commands, open_invocations, queue, rates, latency, plugins } = statistics;
    let mut text = table::card(&[
        ("agents", counts(&agents.by_status)),
        ("open commands", counts(open_commands)),
        ("open invocations", counts(open_invocations)),
        ("not sent yet", counts(queue)),
        ("plugins", counts(&plugins.by_state)),
        ("verbs", plugins.verbs.to_string()),
        ("faults", plugins.faults.to_string()),
        ("counted since", since.clone()),
    ]);
    if !agents.by_site.is_empty() {
        text.push('\n');
        let row = |(site, by_status): (&String, &BTreeMap<String, u64>)| {
            vec![site.clone(), by_status.values().sum::<u64>().to_string(), counts(by_status)]
        };
        text += &table::grid(&["site", "agents", "of them"], agents.by_site.iter().map(row));
    }
    text.push('\n');
    let rates = [("1 min", &rates.last_1m), ("5 min", &rates.last_5m), ("1 h", &rates.last_1h)];
    text += &table::grid(&["last", "accepted", "ok", "not ok", "accepted/s", "ended/s"], rates.map(rate));
    text.push('\n');
    let spreads = [("until it starts", &latency.queue_wait), ("until it ends", &latency.run)];
    text + &table::grid(&["last hour", "count", "half within", "99 of 100 within"], spreads.map(spread))
}

fn rate((last, rate): (&str, &RateBody)) -> Vec<String> {
    let RateBody { submitted, succeeded, unsuccessful, submitted_per_s, ended_per_s } = rate;
    let counted = [submitted, succeeded, unsuccessful].map(u64::to_string);
    let each_second = [submitted_per_s, ended_per_s].map(|rate| format!("{rate:.2}"));
    [last.to_owned()].into_iter().chain(counted).chain(each_second).collect()
}

fn spread((what, spread): (&str, &SpreadBody)) -> Vec<String> {
    let SpreadBody { count, p50_ms, p99_ms } = spread;
    let took = |ms: &Option<u64>| match ms {
        None => String::new(),
        Some(ms @ 0..1000) => format!("{ms} ms"),
        Some(ms) => moment::length(Duration::from_millis(*ms)),
    };
    vec![what.to_owned(), count.to_string(), took(p50_ms), took(p99_ms)]
}

/// `3 online, 1 offline`; `none` where there is nothing to count.
fn counts(counts: &BTreeMap<String, u64>) -> String {
    let said: Vec<String> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(word, count)| format!("{count} {word}")).collect();
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_first_stands_on_one_page() {
        let rate = json!({"submitted": 60, "succeeded": 58, "unsuccessful": 1, "submitted_per_s": 1.0,
                          "ended_per_s": 0.983});
        let statistics: Statistics = serde_json::from_value(json!({
            "since": "2026-01-01T00:00:00Z",
            "agents": {"total": 3, "by_status": {"online": 2, "offline": 1, "pending": 0},
                       "by_site": {"eu": {"online": 2}, "us": {"offline": 1}}},
            "open_commands": {"running": 1}, "open_invocations": {}, "queue": {"normal": 2, "high": 0},
            "rates": {"last_1m": rate, "last_5m": rate, "last_1h": rate},
            "latency": {"queue_wait": {"count": 60, "p50_ms": 12, "p99_ms": 2500},
                        "run": {"count": 0, "p50_ms": null, "p99_ms": null}},
            "plugins": {"by_state": {"active": 3}, "verbs": 20, "faults": 0},
        }))
        .unwrap();
        insta::assert_snapshot!(page(&statistics), @r"
        agents:            1 offline, 2 online
        open commands:     1 running
        open invocations:  none
        not sent yet:      2 normal
        plugins:           3 active
        verbs:             20
        faults:            0
        counted since:     2026-01-01T00:00:00Z

        SITE  AGENTS  OF THEM
        eu    2       2 online
        us    1       1 offline

        LAST   ACCEPTED  OK  NOT OK  ACCEPTED/S  ENDED/S
        1 min  60        58  1       1.00        0.98
        5 min  60        58  1       1.00        0.98
        1 h    60        58  1       1.00        0.98

        LAST HOUR        COUNT  HALF WITHIN  99 OF 100 WITHIN
        until it starts  60     12 ms        2.5 s
        until it ends    0      -            -
        ");
    }
}
