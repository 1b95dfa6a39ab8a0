//! Whoever writes into Redis: every channel that hosts listen to and every key that they use, learned by listening
//! to them, is written and written again with noise, with what was said before, cut, swapped, and with the worst
//! that can be thought of, while two hosts work. Commands run as they were signed, each once; hosts live, and
//! serve; telemetry may be wrong, and is not for long once the intruder is gone.
//!
//! `VIWORKS_REDIS_FORGERIES` is the number of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use domain::time::Timestamp;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use servers::redis::{Line, Redis, Reply};
use tests::client::Api;
use tests::cluster::{AGENTS, Cluster};
use tests::load::times;
use tests::oracle::{Excuses, tell};
use tests::wait::until;

/// Changes between two looks at what the hosts tell.
const STEP: usize = 50;
/// Longer than any host may take in.
const LONG: usize = 300 * 1024;

/// What hosts were heard to do.
#[derive(Default)]
struct Heard {
    /// Names of keys.
    keys: BTreeSet<Vec<u8>>,
    /// Names of channels, and what was said there.
    channels: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Heard {
    /// Takes in one line of `MONITOR`: when and from where, then words in quotation marks.
    fn take(&mut self, line: &str) {
        let Some((_, words)) = line.split_once("] ") else { return };
        let words: Vec<Vec<u8>> = words.split("\" \"").map(|word| word.trim_matches('"').into()).collect();
        match (words.first().map(|word| word.to_ascii_uppercase()).as_deref(), &words[..]) {
            (Some(b"PUBLISH"), [_, channel, said]) => {
                let all = self.channels.entry(channel.clone()).or_default();
                if all.len() < 100 {
                    all.push(said.clone());
                }
            }
            (Some(b"SET" | b"GET"), [_, key, ..]) => _ = self.keys.insert(key.clone()),
            _ => {}
        }
    }
}

/// Somebody with all rights there, who has listened for a while.
struct Intruder {
    line: Line,
    heard: Arc<Mutex<Heard>>,
    rng: StdRng,
    /// Values that keys had, to be put back later or elsewhere.
    kept: Vec<Vec<u8>>,
}

impl Intruder {
    fn new(redis: &Redis, seed: u64) -> Intruder {
        let heard = Arc::<Mutex<Heard>>::default();
        let (mut listening, told) = (redis.line().expect("a line"), heard.clone());
        listening.ask(&[b"MONITOR"]).expect("it tells all");
        // Ends with Redis.
        std::thread::spawn(move || {
            while let Ok(Reply::Word(line)) = listening.reply() {
                told.lock().unwrap_or_else(PoisonError::into_inner).take(&line);
            }
        });
        let (line, rng) = (redis.line().expect("a line"), StdRng::seed_from_u64(seed));
        Intruder { line, heard, rng, kept: Vec::new() }
    }

    fn ask(&mut self, words: &[&[u8]]) -> Reply {
        self.line.ask(words).expect("Redis answers")
    }

    fn key(&mut self) -> Vec<u8> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.keys.iter().collect::<Vec<_>>().choose(&mut self.rng).expect("keys are used").to_vec()
    }

    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        match self.ask(&[b"GET", key]) {
            Reply::Octets(Some(value)) => {
                if self.kept.len() < 1_000 && value.len() < LONG {
                    self.kept.push(value.clone());
                }
                value
            }
            _ => Vec::new(),
        }
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut noise = vec![0; length];
        self.rng.fill_bytes(&mut noise);
        noise
    }

    /// Says something on a channel; what.
    fn publish(&mut self) -> &'static str {
        let (channel, said) = {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let channels: Vec<_> = heard.channels.iter().collect();
            let (channel, all) = channels.choose(&mut self.rng).expect("hosts call each other");
            (channel.to_vec(), all.choose(&mut self.rng).expect("something was said").clone())
        };
        let (what, words) = match self.rng.random_range(0..7) {
            0 => ("a call said again", said),
            1 => ("a call cut short", said[..self.rng.random_range(0..=said.len())].to_vec()),
            2 => ("a call of nobody", [&said[..], b"x"].concat()),
            3 => ("a call of nothing", format!("{} {}", self.rng.random::<i64>(), self.rng.random::<u64>()).into()),
            4 => ("noise called", self.noise(64)),
            5 => ("silence called", Vec::new()),
            _ => ("a long call", vec![b'3'; LONG]),
        };
        self.ask(&[b"PUBLISH", &channel, &words]);
        what
    }

    /// Changes a key; how.
    fn write(&mut self) -> &'static str {
        let (key, other) = (self.key(), self.key());
        let was = self.value(&key);
        let (what, value) = match self.rng.random_range(0..12) {
            0 => ("noise", self.noise(48)),
            1 => ("cut short", was[..self.rng.random_range(0..=was.len())].to_vec()),
            2 => {
                let theirs = self.value(&other);
                self.ask(&[b"SET", &other, &was]);
                ("swapped", theirs)
            }
            3 => ("put back", self.kept.choose(&mut self.rng).cloned().unwrap_or_default()),
            4 => {
                self.ask(&[b"DEL", &key]);
                self.ask(&[b"RPUSH", &key, b"1"]);
                return "of another kind";
            }
            5 => {
                self.ask(&[b"DEL", &key]);
                return "removed";
            }
            6 => {
                let numbers =
                    ["nan", "inf", "-inf", "1e308", "-1", "0", "9999999999999999", "1e16", "0x7fffffffffffffff"];
                ("a number that cannot be", numbers.choose(&mut self.rng).expect("some").as_bytes().to_vec())
            }
            7 => ("too long", vec![b'['; LONG]),
            8 => ("an invented report", self.report().to_string().into()),
            9 => {
                self.ask(&[b"PEXPIRE", &key, b"1"]);
                return "gone soon";
            }
            10 => {
                self.ask(&[b"PERSIST", &key]);
                return "kept for ever";
            }
            _ if self.rng.random_range(0..20) == 0 => {
                self.ask(&[b"FLUSHALL"]);
                return "all removed";
            }
            _ => ("an invented sign of life", b"1".to_vec()),
        };
        self.ask(&[b"SET", &key, &value]);
        what
    }

    /// A report as hosts put them up, with something in it that is not so.
    fn report(&mut self) -> Value {
        let now = chrono::Utc::now().timestamp_micros();
        let mut report = json!({
            "at": now, "received_at": now, "skew_ms": 0, "sample": "{\"at_ms\":1}", "readings": [["cpu.total", 99.5]]
        });
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000));
        let many: Vec<Value> = (0..2_000).map(|core| json!([format!("cpu.core{{{core}}}"), 1.0])).collect();
        let (field, value) = [
            ("received_at", json!(i64::MAX)),
            ("received_at", json!(now + 100_000_000)),
            ("at", json!(i64::MIN)),
            ("skew_ms", json!(i64::MIN)),
            ("sample", json!("{")),
            ("sample", json!("[]")),
            ("sample", json!(deep)),
            ("readings", json!([["cpu.total", 1e300]])),
            ("readings", json!([["cpu.total", 1.0], ["cpu.total", 2.0]])),
            ("readings", json!([["disk.used_pct{\u{7}}", 1.0]])),
            ("readings", json!(many)),
            ("readings", json!([])),
        ]
        .choose(&mut self.rng)
        .expect("some")
        .clone();
        report[field] = value;
        report
    }

    /// Leaves behind what was meant to last: nobody may ask, and nothing later is to be believed.
    fn leave_poison(&mut self) -> usize {
        let keys: Vec<Vec<u8>> = {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.keys.iter().cloned().collect()
        };
        for key in &keys {
            let mut report = self.report();
            report["received_at"] = json!(i64::MAX);
            let is_report = String::from_utf8_lossy(key).contains(":latest:");
            let value = if is_report { report.to_string().into_bytes() } else { b"99999999999999999".to_vec() };
            self.ask(&[b"DEL", key]);
            self.ask(&[b"SET", key, &value]);
        }
        keys.len()
    }
}

/// Whatever a host tells of machines is at least what can be; a host that counts too much may put us off.
async fn tells_what_can_be(api: &Api) {
    for path in
        ["/api/v1/telemetry", "/api/v1/agents/web-1/telemetry", "/api/v1/telemetry/across", "/api/v1/health-report"]
    {
        let answer = api.get(path).await;
        if answer.status == 429 {
            continue;
        }
        assert_eq!(answer.status, 200, "{path}: {}", answer.json);
        let now = chrono::Utc::now().timestamp_micros();
        for item in answer.json["items"].as_array().into_iter().flatten() {
            if let Some(at) = item["received_at"].as_str().and_then(instant) {
                assert!(at.0 <= now, "{path} tells of the future: {item}");
            }
            if let Some(percent) = item["series"]["cpu.total"].as_f64() {
                assert!((0.0..=100.0).contains(&percent), "{path} tells what cannot be: {item}");
            }
        }
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| Timestamp(at.timestamp_micros()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_written_into_redis_nothing_runs_but_what_was_signed_each_once_and_hosts_serve() {
    let Some(redis) = Redis::own() else { return };
    let sections = format!("{}[telemetry]\ninterval_ms = 1000\n", redis.section());
    let (changes, seed) = (times("VIWORKS_REDIS_FORGERIES", 2_000), rand::random::<u64>());
    let mut intruder = Intruder::new(&redis, seed);
    let Some(cluster) = Cluster::start_with(&sections, "").await else { return };
    let apis = [0, 1].map(|number| Api::anonymous(&cluster.hosts[number].url()).with_token(cluster.admin.token()));
    let load = cluster.load();
    until("hosts were heard to call and to put up reports of every agent", async || {
        let heard = intruder.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |part: &str, least| {
            heard.keys.iter().filter(|key| String::from_utf8_lossy(key).contains(part)).count() >= least
        };
        (!heard.channels.is_empty() && has(":latest:", AGENTS.len()) && has(":pace:", 1) && has(":host:", 2))
            .then_some(())
    })
    .await;

    let mut kinds = BTreeMap::<&str, usize>::new();
    for number in 0..changes {
        let what = if intruder.rng.random_bool(0.3) { intruder.publish() } else { intruder.write() };
        *kinds.entry(what).or_default() += 1;
        if number % STEP == 0 {
            tells_what_can_be(&apis[number / STEP % 2]).await;
            load.more_started(1).await;
        }
    }
    let keys = intruder.leave_poison();

    // What was left behind keeps nobody out, and both hosts go on to hear each other and to tell the truth.
    for (number, api) in apis.iter().enumerate() {
        until("who is allowed to ask may ask", async || (api.get("/api/v1/verbs").await.status == 200).then_some(()))
            .await;
        let begun = chrono::Utc::now().timestamp_micros();
        until("what machines say is told again", async || {
            let told = api.get("/api/v1/telemetry").await;
            let items = told.json["items"].as_array()?;
            let is_later = |item: &Value| item["received_at"].as_str().and_then(instant).is_some_and(|at| at.0 > begun);
            (items.len() == AGENTS.len() && items.iter().all(is_later)).then_some(())
        })
        .await;
        cluster.served_by(number).await;
        let ready = cluster.hosts[number].nobody().get("/readyz").await;
        assert_eq!((ready.status, ready.json["components"]["redis"].as_str()), (200, Some("ok")), "{}", ready.json);
    }
    let verdict = load.judge(&cluster.admin, Excuses::default()).await;
    let channels = intruder.heard.lock().unwrap_or_else(PoisonError::into_inner).channels.len();
    tell(&format!(
        "{changes} changes of Redis (seed {seed}) on {channels} channel(s) and {keys} keys: {kinds:?}; {verdict}"
    ));
    verdict.assert_true();
}
