//! The chains of the audit log: whole as long as nobody touches them, and telling when somebody has.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::audit::Entry;
use domain::audit::chain::{Cause, Chain, Link};
use domain::audit::check::{Check, Fault, Report};
use domain::time::Timestamp;
use ed25519_dalek::SigningKey;
use ports::error::StoreError;
use ports::journal::{AuditFilter, Cut, Installation as _, Journal as _, Trail};
use ports::restore::Adopt;
use ports::seal::Notary;

use super::fixtures::*;
use super::place::{self, Place, tell};
use super::{Ground, Store};

/// A key that seals.
#[derive(Debug)]
pub struct Key(SigningKey);

impl Key {
    /// The key of every store of these tests.
    pub fn ours() -> Arc<dyn Notary> {
        Arc::new(Key(SigningKey::from_bytes(&[5; 32])))
    }
}

impl Notary for Key {
    fn sign(&self, bytes: &[u8]) -> String {
        plan::envelope::sign(&self.0, &[bytes])
    }

    fn public_key(&self) -> String {
        plan::envelope::key_text(&self.0.verifying_key())
    }
}

/// Checks a store that nobody writes to.
pub async fn check(store: &impl Trail, earlier: &[Link]) -> Report {
    check_with(store, &Key::ours().public_key(), earlier).await
}

async fn check_with(store: &impl Trail, key: &str, earlier: &[Link]) -> Report {
    // Who empties the one word of a row makes it unreadable, which is a finding too.
    read(store, key, earlier).await.unwrap_or_else(|_| Report { faults_in_all: 1, ..Report::default() })
}

async fn read(store: &impl Trail, key: &str, earlier: &[Link]) -> Result<Report, ports::error::StoreError> {
    let chains = store.chains().await?;
    let mut check = Check::begin(&[key], earlier, &chains);
    for chain in &chains {
        loop {
            let page = store.links(chain.genesis.chain, check.position(chain.genesis.chain), 7).await?;
            page.iter().for_each(|linked| check.entry(linked));
            if page.is_empty() {
                break;
            }
        }
    }
    check.strays(store.strays(0, 10_000).await?.len() as u64);
    Ok(check.end(&chains))
}

async fn ends(store: &impl Trail) -> Vec<Link> {
    store.chains().await.expect("read").iter().map(Chain::end).collect()
}

/// Entries of every kind: of commands, of users, of refusals, with and without each field.
async fn live<S: Store>(store: &S, n: usize) {
    let web = enrol(store, &format!("web-{n}"), "eu").await;
    store.accept(command(&[&web])).await.expect("accepted");
    let bare =
        Entry { actor: None, resource: None, ip_address: None, correlation_id: None, ..entry("auth.login_refused") };
    let odd = Entry {
        details: "{ \"zz\": 1, \"a\": {\"y\": \"\\u0000\", \"x\": [1, 2]}, \"é\": null }".into(),
        ip_address: Some("2001:DB8::1".into()),
        user_agent: Some("curl\0/8".into()),
        at: at(i64::try_from(n).expect("small")),
        ..entry("users.create")
    };
    for entry in [bare, odd] {
        store.audit(entry).await.expect("stored");
    }
}

pub async fn every_entry_hangs_on_the_chain_of_its_host_under_its_seal<P: Place>() {
    let Some(place) = P::fresh() else { return };
    for start in 1..=3 {
        let (Ground { store, .. }, running) = place::open(&place).await;
        live(&store, start).await;
        let report = check(&store, &[]).await;
        assert_eq!((report.faults.as_slice(), report.entries, report.unchained), (&[][..], start as u64 * 5, 0));
        let audits = store.audits(None, 500).await.expect("read");
        assert_eq!(audits.len() as u64, report.entries);
        assert!(audits.is_sorted_by(|(a, _), (b, _)| a == &(b + 1)), "numbered without gaps");

        let chains = store.chains().await.expect("read");
        assert_eq!(chains.len(), start);
        let mut after: Vec<usize> = chains.iter().map(|chain| chain.genesis.after.len()).collect();
        after.sort_unstable();
        assert_eq!(after, [vec![0], vec![1; start - 1]].concat(), "each names the one before");
        let stranger = Key(SigningKey::from_bytes(&[6; 32])).public_key();
        let report = check_with(&store, &stranger, &[]).await;
        assert!(matches!(report.faults[..], [Fault::Seal { .. }, ..]) && report.faults.len() == start, "{report:?}");
        running.finish().await;
    }
}

pub async fn many_writers_make_one_chain<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = enrol(&store, "web-1", "eu").await;
    let before = store.counters();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (store, new) = (store.clone(), command(&[&web]));
        callers.spawn(async move { store.accept(new).await });
    }
    assert!(callers.join_all().await.into_iter().all(|answer| answer.is_ok()));
    let commits = store.counters().commits - before.commits;
    assert!(commits < 50, "{commits} commits: entries hang on the commits there are");
    let report = check(&store, &[]).await;
    assert_eq!((report.faults.as_slice(), report.entries), (&[][..], 302));
}

pub async fn entries_are_found_by_who_what_and_when<S: Store>(Ground { store, .. }: Ground<S>) {
    for n in 0..10 {
        let by = if n % 2 == 0 { "ada" } else { "bob" };
        let action = if n < 5 { "users.create" } else { "users.delete" };
        store.audit(Entry { actor: Some(by.into()), at: at(n), ..entry(action) }).await.expect("stored");
    }
    let any = AuditFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (AuditFilter { actor: text("ada"), ..any() }, vec![8, 6, 4, 2, 0]),
        (AuditFilter { action: text("users.delete"), ..any() }, vec![9, 8, 7, 6, 5]),
        (AuditFilter { actor: text("bob"), action: text("users.create"), ..any() }, vec![3, 1]),
        (AuditFilter { since: Some(at(3)), until: Some(at(6)), ..any() }, vec![5, 4, 3]),
        (AuditFilter { since: Some(at(10)), ..any() }, vec![]),
        (AuditFilter { until: Some(at(0)), ..any() }, vec![]),
        (AuditFilter { actor: text("eve"), ..any() }, vec![]),
    ];
    for (filter, expected) in cases {
        let found = store.audits_where(&filter, None, 100).await.expect("read");
        let seconds: Vec<i64> = found.iter().map(|(_, entry)| (entry.at.0 - NOON.0) / 1_000_000).collect();
        assert_eq!(seconds, expected, "{filter:?}");
        let Some((first, _)) = found.first() else { continue };
        let rest = store.audits_where(&filter, Some(*first), 100).await.expect("read");
        assert_eq!(rest, found[1..], "{filter:?}");
    }
}

pub async fn the_log_only_grows<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = place::open(&place).await;
    live(&store, 1).await;
    for statement in ["update audit_logs set actor = 'eve'", "delete from audit_logs"] {
        place.sql(statement).await.expect_err("refused");
    }
    assert_eq!(check(&store, &[]).await.faults, []);
    running.finish().await;
}

/// Drops what is older than `before`, at most two entries at a time; how many went with each step, to the last.
async fn prune(store: &impl Trail, before: Timestamp) -> Vec<u64> {
    let mut steps = Vec::new();
    let mut audit = Some(Entry { at: at(101), ..entry("system.audit_prune") });
    loop {
        let cut = Cut { before, most: 2, at: at(101), audit: audit.take() };
        steps.push(store.prune(cut).await.expect("pruned"));
        assert_eq!(check(store, &[]).await.faults, [], "whole after each step");
        if steps.last() == Some(&0) {
            return steps;
        }
    }
}

pub async fn pruning_leaves_a_checkpoint_that_holds<P: Place>() {
    let Some(place) = P::fresh() else { return };
    for start in 1..=2 {
        let (Ground { store, .. }, running) = place::open(&place).await;
        live(&store, start).await;
        running.finish().await;
    }
    let (Ground { store, .. }, running) = place::open(&place).await;
    store.audit(Entry { at: at(100), ..entry("users.create") }).await.expect("stored");
    let exported = ends(&store).await;
    assert_eq!(prune(&store, at(50)).await, [2, 2, 1, 2, 2, 1, 0]);
    let report = check(&store, &exported).await;
    assert_eq!((report.faults.as_slice(), report.entries, report.pruned), (&[][..], 2, 10));
    assert_eq!(prune(&store, at(50)).await, [0]);
    let actions: Vec<&str> = store.audits(None, 9).await.expect("read").iter().map(|(_, entry)| entry.action).collect();
    assert_eq!(actions, ["system.audit_prune", "users.create"], "what drops nothing says nothing");

    // What is left is guarded as before.
    place.sql("delete from audit_logs").await.expect_err("refused");
    place.sql("update audit_chains set cut_at = cut_at where cut_position > 0").await.expect("done");
    place.sql("update audit_chains set cut_position = cut_position - 1 where cut_position > 0").await.expect("done");
    let faults = check(&store, &[]).await.faults;
    assert!(faults.iter().any(|fault| matches!(fault, Fault::Seal { .. })), "{faults:?}");
    running.finish().await;
}

pub async fn a_change_of_what_pruning_left_is_found<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = place::open(&place).await;
    for n in 0..20 {
        store.audit(Entry { at: at(n), ..entry("users.create") }).await.expect("stored");
    }
    // Several at once, as several hosts do: none turns back what another has cut.
    let mut hosts = tokio::task::JoinSet::new();
    for before in [at(5), at(9), at(12)] {
        let store = store.clone();
        hosts.spawn(async move {
            let cut = || Cut { before, most: 3, at: at(30), audit: None };
            let mut gone = 0;
            loop {
                match store.prune(cut()).await.expect("pruned") {
                    0 => return gone,
                    step => gone += step,
                }
            }
        });
    }
    assert_eq!(hosts.join_all().await.iter().sum::<u64>(), 12);
    let report = check(&store, &[]).await;
    assert_eq!((report.faults.as_slice(), report.entries, report.pruned), (&[][..], 8, 12));
    running.finish().await;
    place.many(P::UNGUARD).await;
    place.many("create table kept_logs as select * from audit_logs").await;
    for change in [
        "update audit_logs set actor = 'eve' where position = 13",
        "delete from audit_logs where position = 13",
        "delete from audit_logs where position = 20",
        "update audit_logs set position = 12 where position = 20",
    ] {
        place.many(change).await;
        assert!(check(&store, &[]).await.faults_in_all > 0, "{change}");
        place.many("delete from audit_logs; insert into audit_logs select * from kept_logs").await;
    }
    assert_eq!(check(&store, &[]).await.faults, [], "put back");
}

/// Whoever removes young entries and dates one behind them back has the host itself vouch for it, if it looks at nothing
/// but dates.
pub async fn no_checkpoint_is_sealed_over_what_was_put_there<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = place::open(&place).await;
    for n in 0..10 {
        store.audit(Entry { at: at(n), ..entry("users.create") }).await.expect("stored");
    }
    place.many(P::UNGUARD).await;
    place.many("create table kept_logs as select * from audit_logs").await;
    let back = "set timestamp = (select timestamp from kept_logs where position = 1)";
    for changes in [
        format!("delete from audit_logs where position between 4 and 7; update audit_logs {back} where position = 8"),
        format!("update audit_logs {back} where position = 8"),
        format!("delete from audit_logs where position between 4 and 9; update audit_logs {back} where position = 10"),
        "update audit_logs set actor = 'eve' where position = 5".to_owned(),
        "delete from audit_logs where position = 4".to_owned(),
    ] {
        place.many(&changes).await;
        let refused = store.prune(Cut { before: at(5), most: 100, at: at(30), audit: None }).await;
        assert!(matches!(&refused, Err(StoreError::Corrupt { table: "audit_logs", .. })), "{changes}: {refused:?}");
        assert!(check(&store, &[]).await.faults_in_all > 0, "{changes}");
        assert_eq!(check(&store, &[]).await.pruned, 0, "{changes}");
        place.many("delete from audit_logs; insert into audit_logs select * from kept_logs").await;
    }
    assert_eq!(store.prune(Cut { before: at(5), most: 100, at: at(30), audit: None }).await, Ok(5));
    assert_eq!(check(&store, &[]).await.faults, [], "put back");
    running.finish().await;
}

pub async fn a_restore_begins_a_chain_that_says_so<P: Place>() {
    let Some(place) = P::fresh() else { return };
    let (Ground { store, .. }, running) = place::open(&place).await;
    store.cluster(plan::id::ClusterId(uuid())).await.expect("a cluster");
    live(&store, 1).await;
    let backed_up = ends(&store).await;
    running.finish().await;
    drop(store);
    let mut restored = place.restored().await;
    restored.adopt(Adopt { epoch: 2, at: at(9), audit: entry("system.restore") }).await.expect("adopted");
    restored.close().await.expect("closed");

    let (Ground { store, .. }, running) = place::open(&place).await;
    live(&store, 2).await;
    let causes: Vec<Cause> = store.chains().await.expect("read").iter().map(|chain| chain.genesis.cause).collect();
    assert_eq!(causes.iter().filter(|cause| **cause == Cause::Restore).count(), 1);
    assert_eq!(check(&store, &backed_up).await.faults, []);
    // What an export had seen after the backup was made: told as given up, not as tampering.
    let beyond = Link { position: backed_up[0].position + 3, ..backed_up[0] };
    let never = Link { chain: plan::id::ChainId(uuid()), ..beyond };
    let report = check(&store, &[beyond, never]).await;
    assert_eq!((report.faults.as_slice(), report.given_up), (&[][..], vec![beyond, never]));
    running.finish().await;
}

/// How many changes are made where nobody says otherwise.
const CHANGES: usize = 120;

/// Chance that can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % n as u64).expect("below n")
    }
}

const COLUMNS: &str = "id, timestamp, level, category, action, actor, resource_type, resource_id, details, ip_address, \
     user_agent, correlation_id";
/// What a change of a row may be, in words of both databases.
const ENTRY_EDITS: [&str; 17] = [
    "id = id + 100000",
    "level = case level when 'info' then 'warn' else 'info' end",
    "category = category || 'x'",
    "action = 'users.delete2'",
    "actor = coalesce(actor, '') || 'x'",
    "actor = case when actor is null then '' else null end",
    "resource_type = coalesce(resource_type, '') || 'x', resource_id = coalesce(resource_id, 'y')",
    "resource_id = coalesce(resource_id, '') || '1', resource_type = coalesce(resource_type, 'y')",
    "details = '{\"n\":2}'",
    "details = '{}'",
    "ip_address = '192.0.2.77'",
    "user_agent = coalesce(user_agent, '') || 'x'",
    "correlation_id = coalesce(correlation_id, '') || 'x'",
    "chain = null",
    "position = position + 100000",
    "hash = (select c.hash from audit_chains c order by c.id limit 1), level = 'warn', actor = 'eve'",
    "chain = (select c.id from audit_chains c where c.id <> chain order by c.id limit 1), position = position + 1000",
];
const CHAIN_EDITS: [&str; 7] = [
    "cause = case cause when 'start' then 'restore' else 'start' end",
    "unchained = unchained + 1",
    "after = case after when '[]' then '[{\"chain\":\"018bcfe5-6800-7000-8000-000000000001\",\"position\":1,\"hash\":\"00000000000000000000000000000000\
     00000000000000000000000000000000\"}]' else '[]' end",
    "position = position + 1",
    "position = position - 1",
    "hash = (select a.hash from audit_logs a order by a.id limit 1)",
    "seal = (select c.seal from audit_chains c where c.id <> audit_chains.id order by c.id limit 1)",
];

pub async fn every_change_behind_the_stores_back_is_found<P: Place>() {
    let Some(place) = P::fresh() else { return };
    for start in 1..=3 {
        let (Ground { store, .. }, running) = place::open(&place).await;
        live(&store, start).await;
        live(&store, start + 10).await;
        running.finish().await;
    }
    let (Ground { store, .. }, running) = place::open(&place).await;
    live(&store, 20).await;
    let then = store.chains().await.expect("read");
    place.many("create table then_chains as select * from audit_chains").await;
    live(&store, 30).await;
    let exported = ends(&store).await;
    let entries = store.audits(None, 500).await.expect("read").len();
    running.finish().await;
    assert_eq!(check(&store, &exported).await.faults, []);
    // Whoever may write to the store may take its guards away.
    place.many(P::UNGUARD).await;
    place.many("create table kept_logs as select * from audit_logs").await;
    place.many("create table kept_chains as select * from audit_chains").await;

    let seed = std::env::var("VIWORKS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_128);
    let changes = std::env::var("VIWORKS_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(CHANGES);
    let mut dice = Dice(seed);
    let (mut found, mut kinds): (usize, BTreeMap<&str, usize>) = (0, BTreeMap::new());
    for n in 0..changes {
        let (kind, statement) = change::<P>(&mut dice, entries, then.len());
        place.many(&statement).await;
        let report = check(&store, &exported).await;
        assert!(report.faults_in_all > 0, "change {n} of seed {seed} was not found: {statement}");
        found += 1;
        *kinds.entry(kind).or_default() += 1;
        place
            .many(
                "delete from audit_logs; insert into audit_logs select * from kept_logs; delete from audit_chains; \
                 insert into audit_chains select * from kept_chains",
            )
            .await;
    }
    assert_eq!(check(&store, &exported).await.faults, [], "put back");
    tell(&format!("{found} of {changes} changes found, seed {seed}: {kinds:?}"));
}

/// One change, by somebody who knows all but the key.
fn change<P: Place>(dice: &mut Dice, entries: usize, chains: usize) -> (&'static str, String) {
    let row = format!("(select id from kept_logs order by id limit 1 offset {})", dice.below(entries));
    let other = format!("(select id from kept_logs order by id limit 1 offset {})", dice.below(entries));
    let chain = format!("(select id from kept_chains order by id limit 1 offset {})", dice.below(chains));
    let content = COLUMNS.strip_prefix("id, ").expect("first");
    match dice.below(10) {
        0..=3 => {
            let pick = dice.below(ENTRY_EDITS.len() + P::EDITS.len());
            let edit = ENTRY_EDITS.iter().chain(P::EDITS).nth(pick).expect("one of them");
            ("edited", format!("update audit_logs set {edit} where id = {row}"))
        }
        4 => {
            let edit = CHAIN_EDITS[dice.below(CHAIN_EDITS.len())];
            ("chain edited", format!("update audit_chains set {edit} where id = {chain}"))
        }
        5 => {
            let sides = ["id = ", "id >= ", "id <= "];
            ("removed", format!("delete from audit_logs where {}{row}", sides[dice.below(3)]))
        }
        6 => {
            let place = ["null, null, hash", "chain, position + 500, hash", "null, position, hash"][dice.below(3)];
            let copied = format!(
                "insert into audit_logs ({COLUMNS}, chain, position, hash) select (select max(id) + 1 from kept_logs), \
                 {content}, {place} from kept_logs where id = {row}"
            );
            ("added", copied)
        }
        7 => {
            // The two change places, hashes and all, or contents alone; a row that is swapped with itself is removed.
            let (from, to) = (row, other);
            let moved = if dice.below(2) == 0 { "chain, position, hash" } else { "chain, position" };
            let set: Vec<String> =
                moved.split(", ").map(|name| format!("{name} = (select {name} from kept_logs where id = ")).collect();
            let set = |id: &str| set.iter().map(|begin| format!("{begin}{id})")).collect::<Vec<_>>().join(", ");
            let swapped = format!(
                "delete from audit_logs where {from} = {to} and id = {from}; \
                 update audit_logs set position = -1 where id = {from} and {from} <> {to}; \
                 update audit_logs set {} where id = {to} and {from} <> {to}; \
                 update audit_logs set {} where id = {from} and {from} <> {to}",
                set(&from),
                set(&to)
            );
            ("swapped", swapped)
        }
        8 => {
            let cut = format!(
                "delete from audit_logs where chain = {chain} and position > (select position from kept_chains \
                 where id = {chain}) - {}",
                1 + dice.below(4)
            );
            ("cut short", cut)
        }
        // The whole as it was before the export, old seals and all.
        _ => {
            let back = "delete from audit_chains; insert into audit_chains select * from then_chains; \
                 delete from audit_logs where not exists (select 1 from then_chains c where c.id = audit_logs.chain \
                 and c.position >= audit_logs.position)";
            let whole = "delete from audit_logs; delete from audit_chains";
            let one =
                format!("delete from audit_logs where chain = {chain}; delete from audit_chains where id = {chain}");
            ("turned back", [back, whole, &one][dice.below(3)].to_owned())
        }
    }
}
