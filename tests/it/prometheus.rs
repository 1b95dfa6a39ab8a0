//! What is in `deploy/`: every query asks for what `/metrics` tells, and every rule fires on what it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use servers::need;
use tests::host::TestHost;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).expect("a file")
}

/// The dashboards there are, by the names of their files.
fn dashboards() -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(deploy("grafana")).expect("a folder").map(|entry| entry.expect("an entry").path());
    files
        .map(|file| {
            let name = file.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
            let text = std::fs::read_to_string(&file).expect("a file");
            (name, serde_json::from_str(&text).expect("JSON"))
        })
        .collect()
}

/// Every `expr` in a document of JSON.
fn queries(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(query) if name == "expr" => found.push(query.to_owned()),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

/// Metrics that a query asks for, each with what stands in braces behind it.
fn asked(query: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = query.match_indices("viworks_").map(|(at, _)| &query[at..]);
    starts
        .map(|rest| {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let braces = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
            (rest[..end].to_owned(), braces.map_or_else(String::new, |(inside, _)| inside.to_owned()))
        })
        .collect()
}

/// Names of samples in OpenMetrics text, each with the labels that it may have.
fn told(metrics: &str, page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut told = BTreeMap::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').expect("a kind");
        let suffix = match kind {
            "counter" => "_total",
            "histogram" => "_bucket",
            _ => "",
        };
        // Whether the page and the host agree on labels is another test's.
        let row = page.lines().find(|row| row.contains(&format!("`{family}{}`", suffix.trim_end_matches("_bucket"))));
        let labels = row.expect("a row of the page").split('|').nth(3).expect("a cell").split(',');
        let labels = labels.map(|label| label.trim().trim_matches('`').to_owned()).filter(|label| !label.is_empty());
        // Prometheus adds these itself.
        let own = ["job", "instance", "le"].map(str::to_owned);
        told.insert(format!("{family}{suffix}"), labels.chain(own).collect());
    }
    told
}

#[tokio::test]
async fn every_query_asks_for_what_the_host_tells() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let metrics = String::from_utf8(admin.get("/metrics").await.bytes).expect("text");
    let told = told(&metrics, &text("../docs/metrics.md"));
    let boards = dashboards();
    let mut all = Vec::new();
    boards.values().for_each(|board| queries(board, &mut all));
    assert!(all.len() > 30, "{}", all.len());
    let shown: BTreeSet<String> = all.iter().flat_map(|query| asked(query)).map(|(name, _)| name).collect();
    let hidden: Vec<&String> = told.keys().filter(|name| !shown.contains(*name)).collect();
    assert!(hidden.is_empty(), "on no dashboard: {hidden:?}");
    // A rule's file is asked as a whole: what stands around its queries names no metric.
    for query in all.iter().chain([&text("prometheus/viworks.rules.yml")]) {
        for (name, braces) in asked(query) {
            let labels = told.get(&name).unwrap_or_else(|| panic!("{name} is not told; {query}"));
            for matcher in braces.split("\",").filter(|matcher| !matcher.trim().is_empty()) {
                let label = matcher.split(['=', '!']).next().expect("a label").trim();
                assert!(labels.contains(label), "{name} has no label {label}; {query}");
            }
        }
    }
    let rules: String =
        all.iter().enumerate().fold("groups:\n  - name: all\n    rules:\n".to_owned(), |rules, (n, query)| {
            let query = query.replace("$__rate_interval", "5m").replace("$job", ".+");
            format!("{rules}      - record: q{n}\n        expr: {}\n", Value::from(query))
        });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("queries.yml");
    std::fs::write(&file, rules).expect("written");
    promtool(&["check", "rules"], &file);
}

#[test]
fn dashboards_can_be_imported_side_by_side_and_lead_to_each_other() {
    let boards = dashboards();
    let named: Vec<&str> = boards.keys().map(String::as_str).collect();
    assert_eq!(named, ["delivery", "fleet", "ingest-and-queue", "plugins"]);
    for (name, board) in &boards {
        assert_eq!(board["uid"], format!("viworks-{name}"));
        let tag = &board["tags"][0];
        assert_eq!((&board["links"][0]["tags"][0], tag.as_str()), (tag, Some("viworks")), "{name}");
        let panels = board["panels"].as_array().expect("panels");
        let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: each panel has an id of its own");
        let mut cells = BTreeSet::new();
        for panel in panels {
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            assert!(at("x") + at("w") <= 24, "{name}: {}", panel["title"]);
            for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(cells.insert((x, y)), "{name}: {} lies on another", panel["title"]);
            }
        }
    }
}

#[test]
fn every_rule_fires_on_what_it_is_for() {
    promtool(&["check", "rules"], &deploy("prometheus/viworks.rules.yml"));
    promtool(&["test", "rules"], &deploy("prometheus/viworks.test.yml"));
    let (rules, cases) = (text("prometheus/viworks.rules.yml"), text("prometheus/viworks.test.yml"));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(cases.matches(&format!("alertname: {name}\n        exp_alerts")).count() > 0, "{name} is not tried");
    }
}

fn promtool(words: &[&str], file: &Path) {
    let done = match Command::new("promtool").args(words).arg(file).output() {
        Ok(done) => done,
        Err(error) => return need::skipped(&format!("promtool: {error}")),
    };
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(done.status.success(), "{said}");
}
