//! What the host can do, and for whom: its plugins and its agents.

use api::agent::Agent;
use api::plugin::Plugin;
use viworks_client::Client;

use super::Report;
use crate::output::count;

/// Names in a line; the others are counted.
const NAMED: usize = 5;

/// Whether plugins serve.
pub(super) async fn plugins(client: &Client, report: &mut Report) {
    match client.plugins().await {
        Ok(page) => judge_plugins(&page.items, report),
        Err(error) => report.broken("plugins", error.to_string(), "may your role see plugins?"),
    }
}

fn judge_plugins(plugins: &[Plugin], report: &mut Report) {
    const SECTION: &str = "plugins";
    if plugins.is_empty() {
        return report.look(SECTION, "there are none, so there is no verb", "put a .wasm file into the plugin folder");
    }
    for plugin in plugins {
        let version = plugin.version.as_deref().unwrap_or_default();
        let name = format!("{} {version}", plugin.name);
        match (&plugin.refusal, plugin.state.as_str()) {
            (Some(refusal), _) => {
                let what = format!("{}: {} ({})", plugin.file, refusal.cause, refusal.code);
                report.broken(SECTION, what, refusal.cure.clone());
            }
            (None, "active") => report.well(SECTION, format!("{name} serves {}", offer(plugin))),
            (None, state) => {
                let hint = format!("viworks plugin show {}", plugin.name);
                report.look(SECTION, format!("{name} is {state}"), hint);
            }
        }
    }
}

/// What a plugin has for others.
fn offer(plugin: &Plugin) -> String {
    match (plugin.kind.as_deref(), plugin.verbs.len()) {
        (Some("rule"), _) => "a rule of alerts".to_owned(),
        (_, verbs) => count::of(verbs, "verb", "verbs"),
    }
}

/// Whether agents are there.
pub(super) async fn agents(client: &Client, report: &mut Report) {
    match client.agents(Vec::new()).await {
        Ok(page) => judge_agents(&page.items, report),
        Err(error) => report.broken("agents", error.to_string(), "may your role see agents?"),
    }
}

fn judge_agents(agents: &[Agent], report: &mut Report) {
    const SECTION: &str = "agents";
    let agents: Vec<&Agent> = agents.iter().filter(|agent| agent.revoked_at.is_none()).collect();
    if agents.is_empty() {
        return report.look(SECTION, "there are none", "viworks agent join-token create");
    }
    let count = |status: &str| agents.iter().filter(|agent| agent.status == status).count();
    let (all, online) = (agents.len(), count("online"));
    let words = format!("{online} of {all} online");
    let away: Vec<&str> =
        agents.iter().filter(|agent| agent.status == "offline").map(|agent| agent.name.as_str()).collect();
    match (away.as_slice(), online) {
        ([], _) => report.well(SECTION, words),
        (away, online) => {
            let more = if away.len() > NAMED { format!(" and {} more", away.len() - NAMED) } else { String::new() };
            let what = format!("{words}; away: {}{more}", away[..away.len().min(NAMED)].join(", "));
            let hint = "on that machine: viworks-agent doctor";
            if online == 0 { report.broken(SECTION, what, hint) } else { report.look(SECTION, what, hint) }
        }
    }
    let degraded = count("degraded");
    if degraded > 0 {
        report.look(SECTION, format!("{degraded} degraded"), "viworks agent list --status degraded");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Outcome;
    use super::*;

    fn agent(name: &str, status: &str) -> Agent {
        serde_json::from_value(json!({
            "id": name, "name": name, "site": "eu", "status": status, "labels": {}, "capabilities": [], "version": "1",
            "os": "linux", "kernel": "6", "arch": "x86_64", "hostname": name, "container_engine": null, "compose": null,
            "maintenance": false, "created_at": "2026-01-01T00:00:00Z", "last_seen": null, "revoked_at": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_fleet_is_broken_only_when_nobody_is_there() {
        for (fleet, outcome, part) in [
            (vec![("a", "online"), ("b", "maintenance")], Outcome::Well, "1 of 2 online"),
            (vec![("a", "online"), ("b", "offline")], Outcome::Look, "away: b"),
            (vec![("a", "offline")], Outcome::Broken, "0 of 1 online; away: a"),
            (vec![], Outcome::Look, "none"),
        ] {
            let agents: Vec<Agent> = fleet.iter().map(|(name, status)| agent(name, status)).collect();
            let mut report = Report::default();
            judge_agents(&agents, &mut report);
            let check = &report.checks[0];
            assert!(check.outcome == outcome && check.what.contains(part), "{fleet:?}: {check:?}");
        }
    }
}
