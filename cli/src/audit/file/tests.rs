//! An export as a host makes it, and the same after somebody had it in hand.

use std::io::Write as _;

use domain::audit::chain::{hash, open_ends, seal_bytes};
use ed25519_dalek::SigningKey;
use plan::envelope::{key_text, sign};
use plan::id::ChainId;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn link_text(link: &Link) -> Value {
    json!({ "chain": link.chain, "position": link.position, "hash": link.hash.to_string() })
}

fn entry(n: u64) -> Entry {
    Entry {
        at: instant("2026-01-02T03:04:05.678901Z").expect("an instant"),
        level: Level::Info,
        category: "command",
        action: "command.submit",
        actor: n.is_multiple_of(2).then(|| "ada".to_owned()),
        resource: Some(("command", format!("c-{n}"))),
        details: format!("{{\"n\":{n}}}"),
        ip_address: Some("192.0.2.1".to_owned()),
        user_agent: None,
        correlation_id: Some(format!("r-{n}")),
    }
}

/// The lines of an export of chains of these lengths, and the chains.
fn export(lengths: &[u64]) -> (Vec<String>, Vec<Chain>) {
    let (mut id, mut chains, mut entries): (u64, Vec<Chain>, Vec<String>) = (0, Vec::new(), Vec::new());
    for (n, length) in lengths.iter().enumerate() {
        let at = entry(0).at;
        let chain: ChainId = format!("018bcfe5-6800-7000-8000-00000000000{n}").parse().expect("an id");
        let genesis = Genesis { chain, begun_at: at, cause: Cause::Start, unchained: 0, after: open_ends(&chains) };
        let mut last = genesis.hash();
        for position in 1..=*length {
            id += 1;
            let Entry {
                level, category, action, actor, resource, details, ip_address, user_agent, correlation_id, ..
            } = entry(id);
            last = hash(last, id, position, &entry(id));
            let (kind, of) = resource.unzip();
            let details: Value = serde_json::from_str(&details).expect("JSON");
            let line = json!({
                "kind": "entry", "id": id, "at": "2026-01-02T03:04:05.678901Z", "level": level.as_str(), "category": category,
                "action": action, "actor": actor, "resource_type": kind, "resource_id": of, "details": details,
                "ip_address": ip_address, "user_agent": user_agent, "correlation_id": correlation_id,
                "link": link_text(&Link { chain, position, hash: last }),
            });
            entries.push(line.to_string());
        }
        let head = Head { position: *length, hash: last, at };
        let seal = sign(&key(), &[&seal_bytes(chain, genesis.hash(), &head)]);
        chains.push(Chain { genesis, head, seal, checkpoint: None });
    }
    let head = json!({ "kind": "export", "format": 1, "at": "now", "cluster_id": "c", "public_key": key_text(&key().verifying_key()) });
    let of = |chain: &Chain| {
        let Chain { genesis, head, seal, .. } = chain;
        let at = "2026-01-02T03:04:05.678901Z";
        json!({
            "kind": "chain", "chain": genesis.chain, "begun_at": at, "cause": "start", "unchained": 0,
            "after": genesis.after.iter().map(link_text).collect::<Vec<_>>(), "position": head.position,
            "hash": head.hash.to_string(), "sealed_at": at, "seal": seal, "checkpoint": null,
        })
        .to_string()
    };
    let mut lines = vec![head.to_string()];
    lines.extend(chains.iter().map(of));
    lines.extend(entries);
    lines.push(json!({ "kind": "end", "entries": id }).to_string());
    (lines, chains)
}

fn file(lines: &[String]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(lines.join("\n").as_bytes()).expect("written");
    file
}

fn verified(lines: &[String], earlier: &[&NamedTempFile]) -> Result<Report, Failure> {
    let earlier: Vec<PathBuf> = earlier.iter().map(|file| file.path().to_owned()).collect();
    verify(file(lines).path(), vec![key_text(&key().verifying_key())], &earlier)
}

fn is_found(lines: &[String], earlier: &[&NamedTempFile]) -> bool {
    verified(lines, earlier).map_or(true, |report| report.faults_in_all > 0)
}

#[test]
fn an_export_that_nobody_touched_is_whole_and_no_other_key_vouches_for_it() {
    let (lines, chains) = export(&[4, 3, 2]);
    let report = verified(&lines, &[]).expect("read");
    assert_eq!((report.faults.as_slice(), report.entries, report.heads.len()), (&[][..], 9, chains.len()));
    let other = key_text(&SigningKey::from_bytes(&[6; 32]).verifying_key());
    let report = verify(file(&lines).path(), vec![other], &[]).expect("read");
    assert_eq!(report.faults_in_all, 3);
    assert_eq!(verify(file(&lines).path(), vec!["short".into()], &[]).expect("read").faults_in_all, 4);
}

#[test]
fn no_value_no_line_and_no_order_of_lines_can_be_another() {
    let (lines, _) = export(&[4, 3, 2]);
    let mut changes = 0;
    for (n, line) in lines.iter().enumerate() {
        let whole: Value = serde_json::from_str(line).expect("JSON");
        for (name, value) in whole.as_object().expect("an object") {
            // Of the first line nothing is sealed but what is checked by the key that is given.
            if n == 0 && name != "kind" && name != "format" {
                continue;
            }
            let other = match value {
                Value::Number(n) => json!(n.as_u64().expect("a number") + 1),
                Value::String(text) if name.ends_with("at") => json!(text.replace('1', "2")),
                Value::String(text) => json!(format!("{text}x")),
                Value::Null => json!("x"),
                Value::Array(items) if items.is_empty() => {
                    json!([link_text(&Link { chain: ChainId(uuid()), position: 1, hash: Hash([1; 32]) })])
                }
                _ => json!([]),
            };
            let mut changed = whole.clone();
            changed[name] = other;
            let mut edited = lines.clone();
            edited[n] = changed.to_string();
            assert!(is_found(&edited, &[]), "line {n}: {name}");
            changes += 1;
        }
        let mut removed = lines.clone();
        removed.remove(n);
        let mut doubled = lines.clone();
        doubled.insert(n, line.clone());
        assert!(is_found(&removed, &[]) && is_found(&doubled, &[]), "line {n}");
        for other in 0..n {
            // Chains may stand in any order among themselves.
            if (1..=3).contains(&n) && (1..=3).contains(&other) {
                continue;
            }
            let mut swapped = lines.clone();
            swapped.swap(n, other);
            // So may entries of different chains.
            let of = |n: usize| serde_json::from_str::<Value>(&lines[n]).expect("JSON")["link"]["chain"].clone();
            if of(n) != Value::Null && of(other) != Value::Null && of(n) != of(other) {
                continue;
            }
            assert!(is_found(&swapped, &[]), "lines {n} and {other}");
            changes += 1;
        }
    }
    assert!(changes > 150, "{changes}");
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
}

#[test]
fn what_an_earlier_export_had_is_missed() {
    let (then, _) = export(&[4, 3]);
    let (now, _) = export(&[4, 3, 2]);
    let (short, _) = export(&[4, 2]);
    let (shorter, _) = export(&[4]);
    let earlier = file(&then);
    assert_eq!(verified(&now, &[&earlier]).expect("read").faults, []);
    for lost in [&short, &shorter] {
        assert_eq!(verified(lost, &[]).expect("read").faults, [], "nothing is wrong with it by itself");
        assert_eq!(verified(lost, &[&earlier]).expect("read").faults_in_all, 1);
    }
}

#[test]
fn the_last_line_of_what_passes_by_is_told_however_it_is_cut() {
    let (lines, _) = export(&[2, 1]);
    let text = lines.join("\n") + "\n";
    for size in 1..40 {
        let mut watch = EndWatch::default();
        text.as_bytes().chunks(size).for_each(|part| watch.see(part));
        assert_eq!(watch.entries(), Some(3), "{size}");
    }
    let mut watch = EndWatch::default();
    watch.see(&text.as_bytes()[..text.len() - 20]);
    assert_eq!(watch.entries(), None);
}
