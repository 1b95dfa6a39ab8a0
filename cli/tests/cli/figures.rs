//! What machines say of themselves, how well they are, and how much is done: for people and for scripts.

use serde_json::Value;

use crate::host::Host;
use crate::program::Program;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_is_shown_with_its_units_and_a_script_gets_the_numbers() {
    let host = Host::start().await;
    host.fleet(&["web-01"]);
    let program = Program::at(&host);
    let list = program.run(&["telemetry", "list", "-s", "eu", "-l", "env=prod"]).await;
    list.ends_with(0);
    insta::assert_snapshot!(list.out, @r"
    AGENT   SITE  SERIES             VALUE  REPORT
    web-01  eu    cpu.total          12.3%  -
    web-01  eu    disk.used_pct{/a}  10.0%  -
    web-01  eu    disk.used_pct{/}   90.0%  -
    web-01  eu    load.1             0.50   -
    web-01  eu    mem.used_pct       50.0%  -
    ");
    let asked = host.state().requests.last().unwrap().clone();
    assert!(asked.contains("site=eu&label=env%3Dprod&metrics=cpu.total"), "a table asks for what it shows: {asked}");
    let json = program.run(&["telemetry", "list", "-o", "json", "-m", "load.1,net.rx"]).await;
    let page: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(page["items"][0]["series"]["cpu.total"], 12.3);
    assert!(host.state().requests.last().unwrap().contains("metrics=load.1%2Cnet.rx"));

    let one = program.run(&["telemetry", "show", "web-01"]).await;
    one.ends_with(0);
    insta::assert_snapshot!(one.out, @r"
    agent:        web-01
    site:         eu
    status:       online
    taken:        2026-01-01T00:00:00Z
    came:         2026-01-01T00:00:01Z
    stale:        yes
    clock ahead:  -12 ms
    missing:      no container engine
    missing:      no systemd

    SERIES                       VALUE
    container.state{web\x1b[2J}  running
    mem.used                     1.5 GiB
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_shown_and_where_it_leads() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let words = ["telemetry", "history", "web-01", "--since", "2h", "--step", "1m", "--limit", "1"];
    let past = program.run(&words).await;
    past.ends_with(0);
    insta::assert_snapshot!(past.out, @r"
    AT                    SERIES     MIN   AVG   MAX   LAST  COUNT
    2026-01-01T00:00:00Z  cpu.total  1.0%  2.0%  3.0%  2.5%  4
    ");
    assert!(past.err.contains("more points than 1"), "{}", past.err);
    let asked = host.state().requests.last().unwrap().clone();
    assert!(asked.contains("from=20") && asked.contains("step=60") && asked.contains("limit=1"), "{asked}");
    let whole = program.run(&["telemetry", "history", "web-01"]).await;
    whole.ends_with(0);
    assert_eq!((whole.out.lines().count(), whole.err.as_str()), (3, ""), "titles and every page: {}", whole.out);
    for wrong in
        [&["--since", "yesterday"][..], &["--step", "fast"], &["--limit", "0"], &["--since", "1h", "--until", "2h"]]
    {
        program.run(&[&["telemetry", "history", "web-01"][..], wrong].concat()).await.ends_with(2);
    }

    let across = program.run(&["telemetry", "across", "--by", "site"]).await;
    across.ends_with(0);
    insta::assert_snapshot!(across.out, @r"
    SITE  REPORTING  SERIES     AVG    P95    MAX    OF
    eu    2/3        cpu.total  15.0%  20.0%  20.0%  web-02
    ");
    assert_eq!(program.run(&["telemetry", "across", "-o", "name"]).await.out, "eu\n");
    let past = program.run(&["telemetry", "across", "--by", "label.tier", "--since", "2h", "--step", "10m"]).await;
    past.ends_with(0);
    insta::assert_snapshot!(past.out, @r"
    AT                    LABEL.TIER  REPORTING  SERIES     AVG    P95    MAX    OF
    2026-01-01T00:00:00Z  -           1/2        cpu.total  5.0%   5.0%   5.0%   web-01
    2026-01-01T00:00:00Z  db          1/2        cpu.total  40.0%  40.0%  40.0%  web-01
    ");
    let asked = host.state().requests.last().unwrap().clone();
    assert!(asked.contains("by=label.tier") && asked.contains("step=600") && asked.contains("cursor=1"), "{asked}");

    let trends = program.run(&["telemetry", "trends", "-m", "disk.used_pct", "--since", "7d"]).await;
    trends.ends_with(0);
    insta::assert_snapshot!(trends.out, @r"
    AGENT   SERIES            NOW    PER HOUR  ERROR   FIT   FULL
    web-01  disk.used_pct{/}  80.0%  0.5%      ± 0.1%  0.90  2026-02-01T00:00:00Z (2026-01-20T00:00:00Z to never)
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_comes_with_its_arithmetic_of_all_and_of_one() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let all = program.run(&["health"]).await;
    all.ends_with(0);
    insta::assert_snapshot!(all.out, @r"
    SITE  SCORE  ARITHMETIC  ONLINE  DEGRADED  OFFLINE  MAINTENANCE  PENDING
    eu    80.0   80 / 1      1       0         0        0            0
    all   80.0   80 / 1      1       0         0        0            0

    AGENT   SITE  STATUS    SCORE  ARITHMETIC
    web-01  eu    degraded  80     100 - 20 (degraded)
    ");
    let json: Value = serde_json::from_str(&program.run(&["health", "-o", "json"]).await.out).unwrap();
    assert_eq!((&json["fleet"]["sum"], &json["items"][0]["deductions"][0]["points"]), (&80.into(), &20.into()));
    let one = program.run(&["health", "web-01", "-o", "json"]).await;
    one.ends_with(0);
    let one: Value = serde_json::from_str(&one.out).unwrap();
    assert_eq!(one["score"], 80);
    program.run(&["health", "no-such"]).await.ends_with(1);
    let gone = program.run(&["health", "web-09"]).await;
    gone.ends_with(1);
    assert!(gone.err.contains("`web-09` is revoked"), "{}", gone.err);
    program.run(&["health", "web-01", "--site", "eu"]).await.ends_with(2);

    let statistics = program.run(&["statistics"]).await;
    statistics.ends_with(0);
    assert!(statistics.out.contains("agents:            1 online"), "{}", statistics.out);
    let json: Value = serde_json::from_str(&program.run(&["statistics", "-o", "json"]).await.out).unwrap();
    assert_eq!(json["rates"]["last_1m"]["submitted"], 6);
    Program::new().run(&["statistics"]).await.ends_with(4);
}
