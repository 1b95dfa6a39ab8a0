//! What is said is on the disk before it is said, seen from the kernel's side: `kill -9` proves nothing
//! about power that fails, the order of system calls does.

use futures_util::future::join_all;
use serde_json::json;
use tests::client::exec_body;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::oracle::{all_over, tell};
use tests::proxy::payloads;
use tests::strace::{Call, Watch, synced_before};

/// Commands that come together.
const TOGETHER: usize = 48;

#[tokio::test]
async fn a_command_is_on_the_hosts_disk_before_its_202_is_sent() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    // Away, so that the store writes down commands and nothing else.
    agent.kill9();
    agent.seen(&admin, "offline").await;
    let body = |word: &str| exec_body("web-1", &json!({ "program": "echo", "args": [word] }));

    let Some(watch) = Watch::of(host.pid(), host.scratch()).await else { return };
    admin.submit(&body("the-only-one")).await;
    let calls = watch.end();
    let told = calls.iter().find(|call| call.says("HTTP/1.1 202")).expect("a 202 is sent");
    let kept = synced_before(&calls, "the-only-one", told.began);
    assert!(kept.is_some(), "synced before the 202");

    let watch = Watch::of(host.pid(), host.scratch()).await.expect("strace was there before");
    let words: Vec<String> = (0..TOGETHER).map(|number| format!("one-of-many-{number:03}")).collect();
    join_all(words.iter().map(|word| async { admin.submit(&body(word)).await })).await;
    let calls = watch.end();
    let told: Vec<&Call> = calls.iter().filter(|call| call.says("HTTP/1.1 202")).collect();
    assert_eq!(told.len(), TOGETHER);
    let last = told.iter().map(|call| call.began).max().expect("many");
    let mut files = Vec::new();
    for word in &words {
        files.push(synced_before(&calls, word, last).unwrap_or_else(|| panic!("`{word}` is synced")).fd);
    }
    let syncs = calls.iter().filter(|call| call.syncs() && files.contains(&call.fd)).count();
    tell(&format!("{TOGETHER} commands at once: {TOGETHER} times 202, {syncs} syncs"));
    assert!(syncs < TOGETHER, "{syncs} syncs");
}

#[tokio::test]
async fn a_command_is_on_the_agents_disk_before_its_ack_is_sent() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let agent = TestAgent::start(&host, &admin, "web-1").await;
    let body = exec_body("web-1", &json!({ "program": "true" }));

    let Some(watch) = Watch::of(agent.pid(), host.scratch()).await else { return };
    let ids = join_all((0..TOGETHER).map(|_| admin.submit(&body))).await;
    all_over(&admin).await;
    let calls = watch.end();
    let sent: Vec<(usize, String)> =
        calls.iter().flat_map(|call| payloads(&call.bytes).into_iter().map(|text| (call.began, text))).collect();
    let is_about =
        |text: &str, kind: &str, id: &str| text.contains(&format!("\"type\":\"{kind}\"")) && text.contains(id);
    let mut accepting = std::collections::BTreeSet::new();
    for id in &ids {
        let said = |kind: &str| sent.iter().find(|(_, text)| is_about(text, kind, id)).map(|(place, _)| *place);
        let ack = said("ACK").expect("an ACK is sent");
        let result = said("RESULT").expect("a RESULT is sent");
        let accepted = written(&calls, "accepted", id, ack).expect("`accepted` is synced before the ACK");
        written(&calls, "starting", id, result).expect("`starting` is synced before the RESULT");
        written(&calls, "result", id, result).expect("the result is synced before the RESULT");
        accepting.insert(accepted.began);
    }
    let (writes, acks) = (accepting.len(), ids.len());
    tell(&format!("{acks} commands at once: {acks} ACKs, `accepted` in {writes} synced writes"));
    assert!(writes < acks, "one sync covers several");
}

/// The write of this record of this command that was on the disk before `place`.
fn written<'a>(calls: &'a [Call], record: &str, id: &str, place: usize) -> Option<&'a Call> {
    calls.iter().find(|write| {
        let is_it = record_of(write, record, id);
        let sync = |call: &Call| call.syncs() && call.fd == write.fd && call.began > write.over && call.over < place;
        is_it && calls.iter().any(sync)
    })
}

/// Several records may be in one write: the id has to stand in this one, before the next begins.
fn record_of(write: &Call, record: &str, id: &str) -> bool {
    let text = String::from_utf8_lossy(&write.bytes);
    let needle = format!("\"record\":\"{record}\"");
    text.split("{\"record\"").any(|one| format!("{{\"record\"{one}").contains(&needle) && one.contains(id))
}
