//! What one target of a command costs on fleets of growing sizes. When the largest costs no more than the
//! smaller ones, the cost of a broadcast grows as its targets do and no faster.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::args::{Agent, Sizes};
use crate::conditions::Conditions;
use crate::fleet::Fleet;
use crate::http::Origin;
use crate::identity::Identities;
use crate::operator::Operator;
use crate::report::{Measured, round};
use crate::runs::broadcast::{self, Shape};
use crate::store::Store;
use crate::suite::host::Host;
use crate::suite::keep;

/// What a target of one fleet costs, microseconds: of the whole command's time, and of the host's CPU.
#[derive(Clone, Copy, Debug)]
struct Cost {
    agents: usize,
    time_us: f64,
    cpu_us: f64,
}

/// Measures every shape on every size; whether every run counts and, if asked, the largest holds its bound.
///
/// # Errors
/// When a host does not start or cannot be asked.
pub async fn run(asked: &Sizes, json: Option<&Path>) -> Result<bool> {
    ensure!(asked.host.is_file(), "host {} is no file", asked.host.display());
    ensure!(asked.plugins.is_dir(), "plugins {} is no folder", asked.plugins.display());
    ensure!(asked.agents.len() > 1 && asked.agents.is_sorted_by(|a, b| a < b), "sizes ascend, two at least");
    let store = Store::start(asked.store, &asked.work)?;
    let mut conditions = Conditions::look(&asked.work, &store.durability()?).await;
    let mut costs: [Vec<Cost>; 2] = Default::default();
    let mut good = true;
    for agents in &asked.agents {
        eprintln!("{agents} agents");
        for (shape, costs) in Shape::ALL.into_iter().zip(&mut costs) {
            let found = measure(asked, &store, *agents, shape).await?;
            let time_us = found.latency.p50_us / *agents as f64;
            costs.push(Cost { agents: *agents, time_us, cpu_us: found.server_us().unwrap_or(f64::NAN) });
            good &= keep(found.conclude(conditions.cores), &conditions, json)?;
        }
    }
    conditions.look_again().await;
    println!("\n{conditions}\n");
    for (shape, costs) in Shape::ALL.into_iter().zip(&costs) {
        for Cost { agents, time_us, cpu_us } in costs {
            println!(
                "{:<8} {agents:>6} agents  {time_us:>8.0} µs a target, {cpu_us:>8.0} µs of the host's CPU",
                shape.as_str()
            );
        }
        let (time, cpu) = (growth(costs, |cost| cost.time_us), growth(costs, |cost| cost.cpu_us));
        println!("{:<8} the largest ÷ the dearest smaller: {time:.2} in time, {cpu:.2} in CPU", shape.as_str());
        good &= asked.at_most.is_none_or(|most| time <= most && cpu <= most);
        if let Some(file) = json {
            let mut growth = Measured::new("sizes", json!({ "agents": asked.agents, "shape": shape.as_str() }));
            growth.note("time_ratio", round(time));
            growth.note("cpu_ratio", round(cpu));
            growth.append(&conditions, file)?;
        }
    }
    Ok(good)
}

/// What a target of the largest fleet costs, in targets of the dearest smaller one.
fn growth(costs: &[Cost], of: fn(&Cost) -> f64) -> f64 {
    let Some((largest, smaller)) = costs.split_last() else { return f64::NAN };
    of(largest) / smaller.iter().map(of).fold(f64::NAN, f64::max)
}

/// One shape on a fresh host with a fresh fleet.
async fn measure(asked: &Sizes, store: &Store, agents: usize, shape: Shape) -> Result<Measured> {
    let host = Host::start(&asked.host, &asked.plugins, &asked.work, &store.fresh()?).await?;
    let operator = Operator::login(&host.api, &host.credential).await?;
    let door = Origin::parse(&host.agents)?;
    let identities = Identities::obtain(&operator, &door, agents, None).await?;
    let agent = Agent { verify_every: asked.verify_every, flush_each: false, no_telemetry: true, output_bytes: 3 };
    let fleet = Fleet::connect(&door, &identities, agent.behaviour()).await?;
    let mut found = broadcast::run(&operator, &fleet, shape, asked.repeat, Some(host.pid)).await?;
    found.note("connected_in_s", round(fleet.connected_in.as_secs_f64()));
    fleet.close().await?;
    host.end().await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_compares_with_the_dearest_smaller_fleet() {
        let cost = |agents, time_us| Cost { agents, time_us, cpu_us: 1.0 };
        let costs = [cost(100, 80.0), cost(1_000, 100.0), cost(10_000, 120.0)];
        assert!((growth(&costs, |cost| cost.time_us) - 1.2).abs() < 1e-9);
    }
}
