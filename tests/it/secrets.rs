//! A secret argument from the request to the child, and everywhere else it must not be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use data_encoding::HEXLOWER;
use domain::attempt::State;
use reqwest::Method;
use serde_json::json;
use services::digest::sha256_hex;
use tests::cli::Cli;
use tests::client::{Api, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::program;
use tests::store::Store;
use tests::wait::{CEILING, until};

tests::on_both_stores![a_secret_reaches_the_child_and_stays_nowhere];

/// A secret, and every form in which it may stand somewhere.
pub struct Canary {
    /// As it is given.
    pub secret: String,
    forms: Vec<String>,
    /// One form a line, for grep; in a folder that nobody searches.
    file: PathBuf,
    dir: tempfile::TempDir,
}

impl Canary {
    /// One that nobody has seen before.
    pub fn new() -> Canary {
        Canary::of(format!("c/n+r? \"{:032x}\"%&=", rand::random::<u128>()))
    }

    fn of(secret: String) -> Canary {
        let forms = forms(&secret);
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("forms");
        fs::write(&file, forms.join("\n")).expect("written");
        Canary { secret, forms, file, dir }
    }

    #[track_caller]
    pub fn is_not_in(&self, text: &str, what: &str) {
        for form in &self.forms {
            assert!(!text.contains(form), "{what}: {form}");
        }
    }

    /// The digest by which a child shows that it has the value.
    pub fn sha256(&self) -> String {
        sha256_hex(self.secret.as_bytes())
    }

    /// No file in these folders and below holds it.
    #[track_caller]
    pub fn is_not_below(&self, folders: &[PathBuf], when: &str) {
        let mut grep = Command::new("grep");
        grep.args(["--recursive", "--text", "--fixed-strings", "--devices=skip", "--only-matching", "--file"]);
        let found = grep.arg(&self.file).arg("--").args(folders).output().expect("grep starts");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{when}");
        // Files may go while they are looked for, which grep says; that it found nothing is 1, or then 2.
        assert_ne!(found.status.code(), Some(0), "{when}");
    }

    /// The processes that have it in this file of theirs.
    fn processes(&self, file: &str) -> Vec<i32> {
        let ids =
            fs::read_dir("/proc").expect("proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let holds = |id: &i32| {
            let text = fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
            self.forms.iter().any(|form| String::from_utf8_lossy(&text).contains(form))
        };
        ids.filter(holds).collect()
    }
}

fn forms(secret: &str) -> Vec<String> {
    let json = |text: &str| serde_json::to_string(text).expect("text").trim_matches('"').to_owned();
    // As it is, in JSON, and in JSON that stands in JSON.
    let mut forms = vec![secret.to_owned(), json(secret), json(&json(secret))];
    let hex = HEXLOWER.encode(secret.as_bytes());
    forms.extend([hex.to_uppercase(), hex]);
    let numbers: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
    forms.extend([numbers.join(","), numbers.join(", ")]);
    for (space, lower) in [("%20", false), ("+", false), ("%20", true)] {
        let url = |byte: u8| match byte {
            b' ' => space.to_owned(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte if lower => format!("%{byte:02x}"),
            byte => format!("%{byte:02X}"),
        };
        forms.push(secret.bytes().map(url).collect());
    }
    for alignment in 0..3 {
        let bytes = [vec![0; alignment], secret.as_bytes().to_vec()].concat();
        // Without the letters at either end that neighbours have a part in.
        let (first, last) = ((alignment * 8).div_ceil(6), bytes.len() * 8 / 6);
        forms.extend([STANDARD.encode(&bytes), URL_SAFE.encode(&bytes)].map(|text| text[first..last].to_owned()));
    }
    forms
}

/// Where the store has its files: its rows as text, its log and its pages.
fn files_of(store: &Store, scratch: &Path) -> Vec<PathBuf> {
    let Store::Postgres(url) = store else { return Vec::new() };
    let dump = scratch.join("dump.sql");
    let made = servers_tool("pg_dump").arg("--file").arg(&dump).arg(url).status();
    assert!(made.expect("pg_dump starts").success());
    let asked = "SELECT current_setting('data_directory') || ' ' || pg_relation_filepath('commands')";
    let said = servers_tool("psql").args(["--no-align", "--tuples-only", "--command", asked]).arg(url).output();
    let said = String::from_utf8(said.expect("psql starts").stdout).expect("text");
    let (data, table) = said.trim().split_once(' ').expect("two paths");
    // `base/DATABASE`, for tables, and the log of them all.
    let rows = Path::new(data).join(table).parent().expect("a folder").to_owned();
    vec![rows, Path::new(data).join("pg_wal")]
}

fn servers_tool(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin").join(name)).collect();
    found.retain(|path| path.is_file());
    found.sort();
    Command::new(found.pop().unwrap_or_else(|| PathBuf::from(name)))
}

/// All that the API tells of a command, and of everything else.
async fn told(admin: &Api, id: &str) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let command = format!("/api/v1/commands/{id}");
    let more = ["", "/rollup", "/results", "/invocations", "/invocations/web-1", "/invocations/web-1/attempts"];
    let raw = ["stdout", "stderr"].map(|stream| format!("/invocations/web-1/output?stream={stream}"));
    let of_command = more.map(str::to_owned).into_iter().chain(raw).map(|path| format!("{command}{path}"));
    let all = [
        "commands",
        "agents",
        "agents/web-1",
        "agents/web-1/telemetry",
        "verbs",
        "verbs/exec.run",
        "plugins",
        "plugins/exec",
        "plugins/exec/history",
        "audit?limit=500",
        "audit/verify",
        "audit/export",
    ];
    let others = ["/openapi.json", "/docs", "/health", "/version"].map(str::to_owned);
    for path in of_command.chain(all.map(|path| format!("/api/v1/{path}"))).chain(others) {
        let answer = admin.request(Method::GET, &path).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        told.push((path, answer.text().await.expect("text")));
    }
    let events = admin.events(id, None).await.rest().await;
    told.push(("its events".into(), format!("{events:?}")));
    told
}

async fn a_secret_reaches_the_child_and_stays_nowhere(store: Store) {
    let mut host = TestHost::new_on(store.clone());
    host.set_log_level("trace");
    host.launch().await;
    let admin = host.admin().await;
    let mut agent = TestAgent::join(&host, &admin, "web-1").await;
    agent.set_log_level("trace");
    agent.run();
    agent.seen(&admin, "online").await;
    agent.change_policy(|text| text.replace("[programs.sh]\n", "[programs.sh]\nenv = [\"DB_*\"]\n"));
    agent.seen(&admin, "online").await;
    agent.kill9();
    agent.seen(&admin, "offline").await;

    let mut all_events = admin.request(Method::GET, "/api/v1/events").send().await.expect("an answer");
    let canary = Canary::new();
    let mut gated = Gated::new();
    let script = format!(
        "printf %s \"$DB_PASSWORD\" | sha256sum; printf 'it is %s, ' \"$DB_PASSWORD\"; printf '%sx\n' \"$DB_PASSWORD\" >&2; {}",
        gated.args()["args"][1].as_str().expect("a script")
    );
    let args = json!({ "program": "sh", "args": ["-c", script], "secret_env": { "DB_PASSWORD": canary.secret } });
    let body = json!({ "verb": "exec.run", "args": args, "target": { "agents": ["web-1"] } });
    let asked = json!({ "args": args, "target": { "all": true } });
    let preview = admin.post("/api/v1/verbs/exec.run/plan", &asked).await.expect(200);
    canary.is_not_in(&preview.to_string(), "the plan");
    let submit = || admin.request(Method::POST, "/api/v1/commands").header("content-type", "application/json");
    let mut id = String::new();
    for _ in 0..2 {
        let request = submit().header("idempotency-key", "once").body(body.to_string());
        let accepted = admin.send(request).await.expect(202);
        accepted["id"].as_str().expect("an id").clone_into(&mut id);
        canary.is_not_in(&accepted.to_string(), "accepted");
    }

    // While it waits, while it runs, after it, and after all that ever touched it is gone.
    let sinks = |host: &TestHost, agent: &TestAgent| {
        let log = agent.data().parent().expect("a folder").to_owned();
        [vec![host.scratch().to_owned(), log], files_of(&store, host.scratch())].concat()
    };
    canary.is_not_below(&sinks(&host, &agent), "while it waits");
    agent.run();
    let child = gated.started().await;
    assert_eq!(canary.processes("cmdline"), [0; 0], "nobody is told it as an argument");
    assert_eq!(canary.processes("environ"), [child], "nobody but the child has it in the environment");
    until("what it printed is seen", async || {
        let running = admin.invocation(&id, "web-1").await;
        running["stdout"].as_str().is_some_and(|text| text.contains("it is ***, ")).then_some(())
    })
    .await;
    canary.is_not_below(&sinks(&host, &agent), "while it runs");
    gated.open();
    let ended = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&ended), State::Succeeded, "{ended:#}");
    let (stdout, stderr) = (ended["stdout"].as_str().expect("text"), ended["stderr"].as_str().expect("text"));
    assert!(stdout.starts_with(&canary.sha256()), "the child has the value: {ended:#}");
    assert!(stdout.ends_with("it is ***, out\nend\n") && stderr == "***x\n", "{ended:#}");

    let mut streamed = String::new();
    while !streamed.contains("succeeded") {
        let chunk = tokio::time::timeout(CEILING, all_events.chunk()).await.expect("events in time");
        streamed += &String::from_utf8_lossy(&chunk.expect("the stream holds").expect("it goes on"));
    }
    canary.is_not_in(&streamed, "the live stream");

    // Without the value there is no second time, and nobody names another's secret.
    let again = admin.post(&format!("/api/v1/commands/{id}/retry"), &json!({ "only": "failed" })).await;
    canary.is_not_in(&again.json.to_string(), "a retry");
    let placeholder = json!({ "program": "echo", "args": ["{viworks-secret:0}"] });
    let named = json!({ "verb": "exec.run", "args": placeholder, "target": { "all": true } });
    let refused = admin.post("/api/v1/commands", &named).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_args"), "{:#}", refused.json);
    for (what, text) in told(&admin, &id).await {
        canary.is_not_in(&text, &what);
    }
    let shown = admin.command(&id).await;
    assert_eq!(shown["args"]["secret_env"]["DB_PASSWORD"], "{viworks-secret:0}", "{shown:#}");
    the_command_line_says_nothing(&host, &canary, &id).await;

    if store == Store::Sqlite {
        let mut backup = Command::new(program("viworks-host"));
        backup.args(["backup", "create", "--config", "host.toml", "backups"]).current_dir(host.scratch());
        assert!(backup.output().expect("it starts").status.success());
    }
    canary.is_not_below(&sinks(&host, &agent), "after it");
    host.stop().await;
    agent.kill9_with_supervisor().await;
    canary.is_not_below(&sinks(&host, &agent), "after all");
    // The key that opens it goes over the wire; neither end says or keeps that.
    Canary::of("\"secret_key\":\"".to_owned()).is_not_below(&sinks(&host, &agent), "the key");
}

async fn the_command_line_says_nothing(host: &TestHost, canary: &Canary, id: &str) {
    let cli = Cli::login(host).await;
    let args = json!({ "program": "sh", "args": ["-c", "exit 3"], "secret_env": { "DB_PASSWORD": canary.secret } });
    let file = canary.dir.path().join("args.json");
    fs::write(&file, args.to_string()).expect("written");
    let from_file = format!("@{}", file.display());
    let flag = format!("DB_PASSWORD={}", canary.secret);
    let export = host.scratch().join("export.ndjson").display().to_string();
    for (words, code) in [
        (&["command", "show", id][..], 0),
        (&["command", "show", id, "-o", "json"], 0),
        (&["logs", id], 0),
        (&["audit", "tail", "-o", "json"], 0),
        (&["audit", "export", &export], 0),
        (&["run", "exec.run", "-a", "web-1", "--dry-run", "--args", &from_file], 0),
        (&["run", "exec.run", "-a", "web-1", "--yes", "--args", &from_file], 5),
        (&["run", "exec.run", "-a", "web-1", "--yes", "--args", &args.to_string()], 5),
        (&["run", "exec.run", "-a", "web-1", "--yes", "--secret-env", &flag, "--", "sh", "-c", "exit 3"], 5),
    ] {
        let ran = cli.run(words).await;
        assert_eq!(ran.code, Some(code), "{words:?}: {ran:?}");
        canary.is_not_in(&(ran.stdout + &ran.stderr), &words.join(" "));
    }
}
