//! What happens past saturation: half as much again is offered as the host does at most, and there is room for so few to
//! wait that none is left. What is done is to level off and not to fall, and the rest is refused with 429 and when to
//! come again.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::fleet::Fleet;
use crate::identity::Identities;
use crate::report::{Measured, round};
use crate::runs::commands::{self, Load, Pace};
use crate::runs::ledger_check::Check;
use crate::suite::ground::Ground;
use crate::suite::host::Setting;
use crate::table::{Goal, Row};

/// How much is offered of what can be done.
const OFFERED: f64 = 1.5;
/// Most that may wait: so few that there is no room left once the load is warm.
const WAITING: usize = 5_000;
/// Enough connections that those who wait for their answer do not keep others from asking.
const CONNECTIONS: usize = 512;
/// How long the last ones may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Saturation, more than that, and saturation again.
///
/// # Errors
/// When the host does not start, a run does not count, or nothing is refused.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let quick = ground.asked.quick;
    let setting = Setting { max_waiting: Some(WAITING), ..Setting::default() };
    let (host, operator, door) = ground.host_as(&ground.store.fresh()?, setting).await?;
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
    ensure!(over.refused_429 > 0, "nothing was refused of {OFFERED} times what can be done");
    let peak = before.rate.max(after.rate);
    let refused = over.refused_429 as f64 / (over.refused_429 as f64 + over.noted("accepted").unwrap_or(f64::NAN));
    let what = |text: &str| format!("{OFFERED} × saturation offered, queue full: {text}");
    Ok(vec![
        Row::new("A1", &what("done ÷ at saturation"), "/s", Goal::AtLeast(0.9), over.rate, peak),
        Row::new("A1", &what("refused with 429"), "of what was asked", Goal::Told, round(refused), f64::NAN),
    ])
}

fn kept(ground: &Ground<'_>, mut found: Measured, name: &str) -> Result<Measured> {
    name.clone_into(&mut found.scenario);
    ground.keep(found)
}
