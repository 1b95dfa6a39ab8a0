//! Which room may import which, and which outside crates have one owner.
//!
//! The tables here and the one in `docs/architecture.md` say the same: change both in one commit,
//! and say so in its title.

use super::Verdict;
use super::graph::{Graph, Package};

/// Everything else in the workspace.
const ANY: &str = "*";
/// Stands for every folder in `plugins/`.
const PLUGINS: &str = "plugins/*";

/// A room and what it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("plan", &[]),
    ("wire", &["plan"]),
    ("api", &["plan"]),
    ("tls", &[]),
    ("screen", &[]),
    ("domain", &["plan"]),
    ("ports", &["domain", "plan"]),
    ("services", &["ports", "domain", "plan"]),
    ("storage", &["ports", "domain", "plan"]),
    ("runtime", &["ports", "domain", "plan"]),
    ("bus", &["ports", "domain", "plan"]),
    ("rest", &["services", "ports", "domain", "plan", "api"]),
    ("gateway", &["services", "ports", "domain", "plan", "wire"]),
    ("server", &["domain", "ports", "services", "storage", "runtime", "bus", "rest", "gateway", "plan", "wire", "tls"]),
    ("agent", &["wire", "plan", "tls", "screen"]),
    ("viworks-client", &["api", "tls"]),
    ("cli", &["viworks-client", "api", "plan", "tls", "screen", "domain", "ports", "runtime", "server", "agent"]),
    ("viworks-sdk", &["plan", "viworks-sdk-macros"]),
    ("viworks-sdk-macros", &[]),
    (PLUGINS, &["viworks-sdk"]),
    ("tests", &[ANY]),
    ("servers", &[]),
    ("bench", &[ANY]),
    ("counts", &["api", "domain", "plan", "wire"]),
    ("targets", &[ANY]),
    ("xtask", &[ANY]),
];

/// Rooms whose tests keep to their arrows too: both ends share them, so nothing above may seep in.
const STRICT: [&str; 6] = ["plan", "wire", "api", "tls", "domain", "ports"];

/// An outside crate and the rooms that alone may name it outside their tests.
const OWNERS: &[(&str, &[&str])] = &[
    ("clap", &["server", "agent", "cli", "xtask", "bench"]),
    ("jsonschema", &["runtime", "counts"]),
    ("jsonwebtoken", &["rest", "bench"]),
    ("prometheus-client", &["rest"]),
    ("notify", &["runtime"]),
    ("redis", &["bus"]),
    ("rcgen", &["server", "tests"]),
    ("rusqlite", &["storage"]),
    ("rustls", &["tls", "server"]),
    ("sqlx", &["storage", "tests", "bench"]),
    ("tikv-jemallocator", &["server"]),
    ("utoipa", &["api", "rest"]),
    ("wasmtime", &["runtime"]),
    ("wit-bindgen", &["viworks-sdk"]),
];

/// Holds Cargo's graph against the tables.
pub fn check() -> anyhow::Result<Verdict> {
    Ok(Verdict::of(violations(&Graph::load()?)))
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for package in &graph.packages {
        let room = room(package);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            found.push(format!("{} is no room of the table: give it a line, and its arrows", package.folder()));
            continue;
        };
        for dependency in &package.dependencies {
            let in_tests = dependency.kind.as_deref() == Some("dev");
            let arrow = format!("{} -> {}", package.name, dependency.name);
            let suffix = if in_tests { " (dev-dependency)" } else { "" };
            if dependency.path.is_some() {
                let exempt = in_tests && !STRICT.contains(&room);
                if !exempt && !allowed.contains(&ANY) && !allowed.contains(&dependency.name.as_str()) {
                    let list = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
                    found.push(format!("{arrow}{suffix}: no such arrow; {room} may import {list}"));
                }
                continue;
            }
            let owners = OWNERS.iter().find(|(name, _)| *name == dependency.name).map(|(_, owners)| owners);
            if let Some(owners) = owners.filter(|owners| !in_tests && !owners.contains(&room)) {
                found.push(format!("{arrow}: only {} may name {}", owners.join(", "), dependency.name));
            }
        }
    }
    found.sort();
    found
}

/// The line of the table that a crate stands under.
fn room(package: &Package) -> &str {
    if package.folder().starts_with("plugins/") { PLUGINS } else { &package.name }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn graph(folder: &str, name: &str, dependencies: Value) -> Graph {
        let path = crate::program::root().join(folder).join("Cargo.toml");
        let package = json!({ "name": name, "manifest_path": path, "dependencies": dependencies });
        serde_json::from_value(json!({ "packages": [package] })).expect("a graph")
    }

    fn inside(name: &str, kind: Option<&str>) -> Value {
        json!([{ "name": name, "kind": kind, "path": format!("/anywhere/{name}") }])
    }

    fn outside(name: &str, kind: Option<&str>) -> Value {
        json!([{ "name": name, "kind": kind, "path": null }])
    }

    #[test]
    fn listed_arrows_pass_and_others_are_named() {
        assert_eq!(violations(&graph("host/rest", "rest", inside("services", None))), Vec::<String>::new());
        let found = violations(&graph("host/domain", "domain", inside("storage", None)));
        assert_eq!(found, ["domain -> storage: no such arrow; domain may import plan"]);
        assert_eq!(violations(&graph("host/rest", "rest", inside("storage", None))).len(), 1);
        assert_eq!(violations(&graph("plugins/exec", "exec", inside("viworks-sdk", None))), Vec::<String>::new());
        assert_eq!(violations(&graph("plugins/exec", "exec", inside("domain", None))).len(), 1);
        assert_eq!(violations(&graph("host/extra", "extra", inside("plan", None))).len(), 1, "a room nobody listed");
    }

    #[test]
    fn tests_may_look_up_except_those_of_the_contracts() {
        assert_eq!(
            violations(&graph("host/storage", "storage", inside("services", Some("dev")))),
            Vec::<String>::new()
        );
        assert_eq!(violations(&graph("schemas/wire", "wire", inside("gateway", Some("dev")))).len(), 1);
        assert_eq!(violations(&graph("host/storage", "storage", inside("services", Some("build")))).len(), 1);
    }

    #[test]
    fn heavy_crates_have_one_owner() {
        assert_eq!(violations(&graph("host/storage", "storage", outside("sqlx", None))), Vec::<String>::new());
        let found = violations(&graph("host/rest", "rest", outside("sqlx", None)));
        assert_eq!(found, ["rest -> sqlx: only storage, tests, bench may name sqlx"]);
        assert_eq!(violations(&graph("host/rest", "rest", outside("sqlx", Some("dev")))), Vec::<String>::new());
        assert_eq!(violations(&graph("host/rest", "rest", outside("serde", None))), Vec::<String>::new());
    }
}
