//! The page: each statement as PostgreSQL is asked, and what both databases make of it.

use std::path::{Path, PathBuf};

use crate::plans::Plan;
use crate::{postgres, sqlite};

/// The server whose words the page has; others word their plans differently.
const MAJOR: i32 = 15;
/// From here on the page is written by the test.
const MARK: &str = "<!-- What follows is written by `VIWORKS_BLESS=1 cargo test -p storage --lib page`. -->\n";
/// Longest line of a statement.
const WIDTH: usize = 130;

/// What the statements are for, in the order of the page.
const GROUPS: [(&str, &[(&str, &str)]); 4] = [
    (
        "Accepting and moving",
        &[
            (
                "invocations",
                "invocations of commands that are accepted; commands, sites, output, events and audit entries are added likewise",
            ),
            ("standing", "where attempts stand that are to be moved"),
            ("sessions", "whether a word on what was sent still counts"),
            ("move", "their new states"),
            ("roll up", "what that makes of their commands"),
            ("archive", "an attempt that is followed by another goes into history"),
            ("again", "the attempt that follows"),
        ],
    ),
    (
        "Output, numbers, agents",
        &[
            ("stored output", "which bytes are stored already"),
            ("number", "numbers for events, and this transaction's mark"),
        ],
    ),
    (
        "Background work",
        &[
            ("due", "what waits for an agent"),
            ("open", "what an agent has that is not over"),
            ("overdue", "what has not started in time"),
            ("abandoned", "what agents had that have stayed away"),
            ("sessions here", "sessions that are open at this host, to find those that nobody has any more"),
            ("retries", "what is to be tried again by now"),
            ("rolling", "commands that a rollout holds back"),
            ("held", "what one of them holds back"),
            ("wished", "what is asked to end and can be ended here"),
            ("first waiting", "what comes first of what waits for agents that are here, whichever host accepted it"),
            ("agents that changed", "agents that came, went or were changed, at any host"),
            ("silent hosts", "hosts that died and left sessions behind"),
            ("backlog", "how much waits for each agent"),
            ("open shares", "what is not over, by site, state and priority"),
            ("open commands", "commands that are not over, by status"),
            ("plugin waits", "commands of a plugin that are not over, with their arguments"),
            ("plugins in use", "the versions they were planned with"),
        ],
    ),
    (
        "Reading",
        &[
            ("output", "output of one stream from an offset on"),
            ("events of all", "events after a cursor"),
            ("events of one command", "events and output of one command after a cursor"),
            ("list", "a page of commands, newest first"),
            ("list by agent", "the same for an agent"),
            ("list by site", "for two sites"),
            ("list by status", "for a status"),
            ("list by verb", "for a verb"),
            ("list by priority", "for a priority that is not the usual one"),
            ("list by time", "between two instants"),
            ("audit entries by actor", "a page of the audit log, newest first"),
            ("audit entries by action", "for an action"),
            ("audit entries by time", "between two instants"),
        ],
    ),
];

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/storage.md")
}

fn named<'p>(plans: &'p [Plan], name: &str) -> Option<&'p Plan> {
    plans.iter().find(|plan| plan.name == name)
}

/// The part of the page that is written here.
fn page(postgres: &[Plan], sqlite: &[Plan]) -> String {
    let mut page = String::new();
    for (group, statements) in GROUPS {
        page.push_str(&format!("\n### {group}\n\n```text\n"));
        for (n, (name, what)) in statements.iter().enumerate() {
            let gap = if n == 0 { "" } else { "\n" };
            page.push_str(&format!("{gap}{name}: {what}\n"));
            let plan = named(postgres, name).expect("asked");
            wrapped(&short(&plan.text)).iter().for_each(|line| page.push_str(&format!("    {line}\n")));
            page.push_str(&block("PostgreSQL", &tree(&plan.steps)));
            page.push_str(&on_sqlite(sqlite, name));
        }
        page.push_str("```\n");
    }
    page
}

fn on_sqlite(plans: &[Plan], name: &str) -> String {
    named(plans, name).map(|plan| block("SQLite", &searches(plan))).unwrap_or_default()
}

/// Lines beside a title.
fn block(title: &str, lines: &[String]) -> String {
    let titles = std::iter::once(title).chain(std::iter::repeat(""));
    titles.zip(lines).map(|(title, line)| format!("  {title:<11} {line}\n")).collect()
}

/// A statement without its long lists of columns and parameters; of a list by something, the part that is
/// not that of every list.
fn short(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((_, inner)) = text.split_once("(select m.id from (")
        && let Some((inner, _)) = inner.split_once(") as m order by")
        && !inner.contains(" where true and c.id < $1 order")
    {
        text = inner.to_owned();
    }
    for (begin, end) in [("(", ")"), ("select ", " from "), ("set ", " from ")] {
        let mut from = 0;
        while let Some(found) = text[from..].find(begin) {
            from += found + begin.len();
            let Some(length) = text[from..].find(end) else { break };
            let list = &text[from..from + length];
            // Only what holds no other, and no states, which are the point.
            let nested = list.contains(if begin == "(" { "(" } else { "select " }) || list.contains(" where ");
            if !nested && length > 50 && list.contains(", ") && !list.starts_with("'held'") {
                text.replace_range(from..from + length, "…");
            }
        }
    }
    text
}

/// Lines of at most [`WIDTH`] letters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// PostgreSQL's steps without their details; a step with one below it shares its line.
fn tree(steps: &[String]) -> Vec<String> {
    let labels = ["InitPlan", "SubPlan", "CTE "];
    let mut nodes: Vec<(usize, &str)> = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let text = step.trim_start();
        let depth = step.len() - text.len();
        if let Some(node) = text.strip_prefix("->  ") {
            nodes.push((depth, node));
        } else if n == 0 || labels.iter().any(|label| text.starts_with(label) && !text.contains(" Scan")) {
            nodes.push((depth, text));
        }
    }
    let mut lines: Vec<String> = Vec::new();
    // Depths of the nodes above, and whether each has more than one below it.
    let mut above: Vec<(usize, bool, usize)> = Vec::new();
    for (n, (depth, node)) in nodes.iter().enumerate() {
        while above.last().is_some_and(|(upper, ..)| upper >= depth) {
            above.pop();
        }
        let below: Vec<usize> =
            nodes[n + 1..].iter().map(|(lower, _)| *lower).take_while(|lower| lower > depth).collect();
        let nearest = below.iter().min().copied().unwrap_or_default();
        let forks = below.iter().filter(|lower| **lower == nearest).count() > 1;
        let indent = match above.last() {
            Some((_, false, indent)) => *indent,
            Some((_, true, indent)) => indent + 2,
            None => 0,
        };
        match (above.last(), lines.last_mut()) {
            (Some((_, false, _)), Some(line)) => line.push_str(&format!(" / {node}")),
            _ => lines.push(format!("{:indent$}{node}", "")),
        }
        above.push((*depth, forks, indent));
    }
    let shorter =
        |line: String| line.replace("outputs_default_command_id_agent_id_attempt_stream_byte_off_key", "outputs_…_key");
    lines.into_iter().map(shorter).collect()
}

/// SQLite's steps that touch a table. Those of an insert are checks of foreign keys that it passes over as
/// long as no row lacks its parent.
fn searches(plan: &Plan) -> Vec<String> {
    if plan.text.starts_with("insert ") {
        return vec!["only the rows given".to_owned()];
    }
    let touches = |step: &&String| {
        let scans = step.starts_with("SCAN ") && step.contains(" USING ");
        (scans || step.starts_with("SEARCH ") || step.contains("TEMP B-TREE")) && !step.contains("(subquery")
    };
    plan.steps.iter().filter(touches).cloned().collect()
}

#[tokio::test]
async fn the_page_shows_what_the_databases_do() {
    let sqlite = sqlite::plans::ask().await;
    // The host takes no statistics of SQLite's tables.
    let [_, on_sqlite_now, _] = &sqlite.plans;
    let written = std::fs::read_to_string(place()).expect("docs/storage.md");
    let (head, shown) = written.split_once(MARK).expect("the page has its mark");
    for table in &sqlite.tables {
        assert!(head.contains(&format!("| `{table}` |")), "docs/storage.md says nothing of `{table}`");
    }
    for (name, _) in GROUPS.iter().flat_map(|(_, statements)| *statements) {
        assert!(
            shown.contains(&on_sqlite(on_sqlite_now, name)) || blessed(),
            "SQLite goes about `{name}` otherwise now"
        );
    }
    let Some(postgres) = postgres::plans::ask().await.filter(|answer| answer.version / 10_000 == MAJOR) else { return };
    let [_, on_postgres_now] = &postgres.plans;
    let now = page(on_postgres_now, on_sqlite_now);
    if blessed() {
        std::fs::write(place(), format!("{head}{MARK}{now}")).expect("docs/storage.md is written");
    } else {
        let differs = shown.lines().zip(now.lines()).find(|(shown, now)| shown != now);
        assert!(shown == now, "docs/storage.md is stale, VIWORKS_BLESS=1 rewrites it; first (shown, now): {differs:?}");
    }
}

/// Whether the page is to be rewritten.
fn blessed() -> bool {
    std::env::var("VIWORKS_BLESS").as_deref() == Ok("1")
}
