//! What an operator asks first.

use std::collections::BTreeMap;
use std::time::Duration;

use api::statistics::{AgentCounts, LatencyBody, PluginCounts, RateBody, RatesBody, SpreadBody, Statistics};
use domain::attempt::State;
use domain::command::Status;
use domain::priority::Priority;
use services::meter::{Rates, Spread};
use services::statistics::{STRETCHES, Seen};

use crate::instant;

/// What is seen.
pub fn statistics(seen: Seen) -> Statistics {
    let Seen { since, agents, commands, invocations, queue, rates, wait, run, plugins, faults, verbs } = seen;
    let mut counts = AgentCounts { total: 0, by_status: BTreeMap::new(), by_site: BTreeMap::new() };
    for ((site, status), count) in agents {
        let status = status.as_str().to_owned();
        counts.total += count;
        *counts.by_status.entry(status.clone()).or_default() += count;
        counts.by_site.entry(site).or_default().insert(status, count);
    }
    let open = Status::ALL.into_iter().filter(|status| !status.is_terminal());
    let count_of = |status: Status| commands.iter().find(|(one, _)| *one == status).map_or(0, |(_, count)| *count);
    let states = State::ALL.into_iter().filter(|state| !state.is_terminal());
    let [minute, five, hour] = [0, 1, 2].map(|place| rate(rates[place], STRETCHES[place]));
    Statistics {
        since: instant::text(since),
        agents: counts,
        open_commands: open.map(|status| (status.as_str().to_owned(), count_of(status))).collect(),
        open_invocations: states.map(|one| (one.as_str().to_owned(), of(&invocations, one))).collect(),
        queue: Priority::ALL.into_iter().map(|one| (one.as_str().to_owned(), of(&queue, one))).collect(),
        rates: RatesBody { last_1m: minute, last_5m: five, last_1h: hour },
        latency: LatencyBody { queue_wait: spread(wait), run: spread(run) },
        plugins: PluginCounts {
            by_state: plugins.into_iter().map(|(state, count)| (state.to_owned(), count)).collect(),
            verbs,
            faults,
        },
    }
}

fn of<K: Ord>(counts: &BTreeMap<K, u64>, key: K) -> u64 {
    counts.get(&key).copied().unwrap_or_default()
}

fn rate(rates: Rates, stretch: Duration) -> RateBody {
    let Rates { submitted, succeeded, unsuccessful } = rates;
    let per_s = |count: u64| (count as f64 / stretch.as_secs_f64() * 1_000.0).round() / 1_000.0;
    RateBody {
        submitted,
        succeeded,
        unsuccessful,
        submitted_per_s: per_s(submitted),
        ended_per_s: per_s(succeeded + unsuccessful),
    }
}

fn spread(spread: Spread) -> SpreadBody {
    let Spread { count, p50_ms, p99_ms } = spread;
    SpreadBody { count, p50_ms, p99_ms }
}
