//! What people see of each noun: every table and page as it was agreed, one file for each noun, and what is said
//! when it goes wrong.

use serde_json::{Value, json};

use crate::host::nouns::{ALERT, EARLIER};
use crate::host::{COMMAND, Host, TOKEN, invocation, problem};
use crate::program::{Program, Ran};

/// What a call printed, its errors marked, and how it ended if not well.
fn shown(words: &[&str], ran: &Ran, host: &Host) -> String {
    let mut text = format!("$ viworks {}\n{}", words.join(" "), ran.out);
    ran.err.lines().for_each(|line| text += &format!("{}\n", format!("! {line}").trim_end()));
    if ran.code != 0 {
        text += &format!("(ends with {})\n", ran.code);
    }
    // Where and when the tests run is no matter of theirs.
    text.replace(&*EARLIER, "(3 hours ago)").replace(&host.address.to_string(), "HOST") + "\n"
}

async fn all(program: &Program, host: &Host, calls: &[&[&str]]) -> String {
    let mut text = String::new();
    for words in calls {
        text += &shown(words, &program.run(words).await, host);
    }
    text
}

/// A test for each noun: what its calls print is in the file of its name.
macro_rules! nouns {
    ($($test:ident: $noun:literal => [$($call:expr),+ $(,)?];)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let host = Host::start().await;
                host.state().invocations = vec![invocation("web-01", "failed", None, "ran to its end", Some(2))];
                let calls: &[&[&str]] = &[$(&$call),+];
                insta::assert_snapshot!($noun, all(&Program::at(&host), &host, calls).await);
            }
        )+
    };
}

nouns! {
    agents: "agent" => [
        ["agent", "list"],
        ["agent", "list", "-o", "wide"],
        ["agent", "show", "web-01"],
        ["agent", "show", "no-such"],
        ["agent", "join-token", "list"],
        ["agent", "join-token", "list", "-o", "wide"],
        ["agent", "join-token", "revoke", TOKEN],
        ["agent", "revoke", "web-01"],
    ];
    alerts: "alert" => [
        ["alert", "list"],
        ["alert", "list", "-o", "wide"],
        ["alert", "show", ALERT],
        ["alert", "silences"],
        ["alert", "silence", "--for", "2h", "--rule", "disk"],
        ["alert", "rules"],
        ["alert", "rules", "-o", "wide"],
        ["alert", "backtest", "disk", "--config", "{\"at\": 80}"],
        ["alert", "backtest", "disk", "--config", "{"],
    ];
    api_keys: "api-key" => [
        ["api-key", "list"],
        ["api-key", "list", "-o", "wide"],
        ["api-key", "create", "--name", "ci"],
        ["api-key", "revoke", "0193f2c4-99"],
    ];
    audits: "audit" => [
        ["audit", "tail"],
        ["audit", "tail", "-o", "wide"],
        ["audit", "verify"],
        ["audit", "verify", "no-such-file"],
    ];
    channels: "channel" => [
        ["channel", "list"],
        ["channel", "list", "-o", "wide"],
        ["channel", "create", "ops", "https://hooks.example.invalid"],
        ["channel", "messages", "ops"],
        ["channel", "messages", "ops", "-o", "wide"],
        ["channel", "test", "ops"],
        ["channel", "update", "ops"],
    ];
    commands: "command" => [
        ["command", "list"],
        ["command", "list", "-o", "wide"],
        ["command", "show", COMMAND],
        ["command", "cancel", COMMAND],
        ["command", "show", "ffffffff"],
        ["command", "show", "0193ffff-0000-7000-8000-000000000001"],
    ];
    groups: "group" => [
        ["group", "list"],
        ["group", "list", "-o", "wide"],
        ["group", "show", "web"],
        ["group", "show", "nobody"],
    ];
    plugins: "plugin" => [
        ["plugin", "list"],
        ["plugin", "list", "-o", "wide"],
        ["plugin", "show", "docker"],
        ["plugin", "history", "docker"],
        ["plugin", "history", "docker", "-o", "wide"],
    ];
    statistics: "statistics" => [["statistics"]];
    tops: "top" => [["top", "--once"], ["top", "--once", "--sort", "name", "-o", "name"]];
    users: "user" => [
        ["user", "list"],
        ["user", "list", "-o", "wide"],
        ["user", "show", "bob"],
        ["user", "change", "bob"],
    ];
    verbs: "verb" => [
        ["verb", "list"],
        ["verb", "list", "-o", "wide"],
        ["verb", "show", "docker.ps"],
        ["verb", "show", "docker.p"],
    ];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contexts() {
    let host = Host::start().await;
    let program = Program::logged_in(&host).await;
    let calls: &[&[&str]] = &[
        &["context", "list"],
        &["context", "show"],
        &["context", "use", "nowhere"],
        &["logout"],
        &["context", "list"],
        &["context", "delete", "test"],
        &["context", "list"],
    ];
    let text = all(&program, &host, calls).await.replace(&program.home.path().display().to_string(), "HOME");
    // How wide a column of addresses is hangs on the port.
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
    insta::assert_snapshot!("context", text.lines().map(words).collect::<String>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctors() {
    let host = Host::start().await;
    let calls: &[&[&str]] = &[&["doctor"], &["doctor", "-o", "name"]];
    let mut text = String::new();
    for program in [Program::at(&host), Program::at(&host).with("VIWORKS_TOKEN", "bad")] {
        let said = all(&program, &host, calls).await;
        text += &said.replace(&program.home.path().display().to_string(), "HOME");
    }
    // How long it takes, how exact clocks are and which version this is are no matter of the page's.
    let mut page = String::new();
    for line in text.lines() {
        let line = line.replace(concat!(" ", env!("CARGO_PKG_VERSION")), " VERSION");
        let cut = [" answers in ", " agree to "].into_iter().find_map(|words| Some(line.find(words)? + words.len()));
        page += &cut.map_or(line.clone(), |end| format!("{}N", &line[..end]));
        page.push('\n');
    }
    insta::assert_snapshot!("doctor", page);
}

/// Every kind of refusal, as it is said to a person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors() {
    let host = Host::start().await;
    let program = Program::at(&host);
    let one = |pointer: &str, message: &str| json!([{"pointer": pointer, "message": message, "keyword": "k"}]);
    let none = || json!([]);
    let refusals: [(u16, &str, &str, Value); 10] = [
        (401, "invalid_token", "the token is over", none()),
        (403, "forbidden", "role `viewer` may not run_commands; it takes `operator`", none()),
        (403, "effect_not_granted", "no grant of yours covers effect `host` of `exec.run` at site `eu`", none()),
        (404, "not_found", "there is no such verb, or you may not see it", none()),
        (409, "verb_unavailable", "its plugin was removed", none()),
        (422, "invalid_args", "the arguments do not fit `docker.ps`", one("/args/limit", "500 is more than 100")),
        (422, "no_target", "nobody", one("/target/agents", "there is no agent `we\u{1b}[2Jb`")),
        (422, "plan_denied", "the operator's grant does not allow it", one("/steps/0/program", "not `sh`")),
        (429, "rate_limited", "too many requests", none()),
        (503, "store_unavailable", "the store does not answer", none()),
    ];
    let words = ["run", "docker.ps", "--all", "--limit", "5"];
    let mut text = String::new();
    for (status, code, detail, errors) in refusals {
        host.state().refuse_submit = Some(problem(status, code, detail, errors));
        text += &shown(&words, &program.run(&words).await, &host);
    }
    let stranger = Program::new();
    let unknown: &[&[&str]] = &[&["agent", "list"], &["agent", "lst"], &["nonsense"], &["agent", "list", "--status"]];
    text += &all(&stranger, &host, unknown).await;
    let not_the_api =
        Program::new().with("VIWORKS_URL", &format!("{}/elsewhere", host.url())).with("VIWORKS_TOKEN", "t");
    text += &all(&not_the_api, &host, &[&["agent", "list"]]).await;
    let no_url = Program::new().with("VIWORKS_URL", "ftp://host").with("VIWORKS_TOKEN", "t");
    text += &all(&no_url, &host, &[&["agent", "list"]]).await;
    insta::assert_snapshot!("errors", text);
}
