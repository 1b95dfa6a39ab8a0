//! What happens past saturation: half as much again is offered as the host does at most. What is done is to level off
//! and not to fall; whoever asked for more waits for the answer.

use std::time::Duration;

use anyhow::Result;

use crate::fleet::Fleet;
use crate::identity::Identities;
use crate::report::Measured;
use crate::runs::commands::{self, Load, Pace};
use crate::runs::ledger_check::Check;
use crate::store::Kind;
use crate::suite::ground::Ground;
use crate::table::{Goal, Row};

/// How much is offered of what can be done.
const OFFERED: f64 = 1.5;
/// Connections, all of which have something to ask all the time.
const CONNECTIONS: usize = 512;
/// How long the last ones may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Saturation, more than that, and saturation again.
///
/// # Errors
/// When the host does not start, or a run does not count.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let quick = ground.asked.quick;
    let (host, operator, door) = ground.host().await?;
    let identities = Identities::obtain(&operator, &door, if quick { 200 } else { 1_000 }, None).await?;
    let fleet = Fleet::connect(&door, &identities, ground.behaviour()).await?;
    let load = |pace, in_flight| Load {
        in_flight,
        duration: Duration::from_secs(if quick { 5 } else { 20 }),
        warmup: Duration::from_secs(if quick { 4 } else { 8 }),
        pace,
        check: Check::Sample(2_000),
        patience: PATIENCE,
        priority: None,
        host_pid: Some(host.pid),
    };
    let closed = load(Pace::Closed, if quick { 128 } else { 256 });
    let before = kept(ground, commands::run(&operator, &fleet, &closed).await?.0, "overload-before")?;
    let over = load(Pace::Over { rate: before.rate * OFFERED }, CONNECTIONS);
    let over = kept(ground, commands::run(&operator, &fleet, &over).await?.0, "overload")?;
    let after = kept(ground, commands::run(&operator, &fleet, &closed).await?.0, "overload-after")?;
    fleet.close().await?;
    host.end().await?;
    let what = format!("{OFFERED} × saturation offered: done ÷ at saturation");
    let axis = if ground.kind == Kind::Postgres { "A3" } else { "A1" };
    Ok(vec![Row::new(axis, &what, "/s", Goal::AtLeast(0.9), over.rate, f64::midpoint(before.rate, after.rate))])
}

fn kept(ground: &Ground<'_>, mut found: Measured, name: &str) -> Result<Measured> {
    name.clone_into(&mut found.scenario);
    ground.keep(found)
}
