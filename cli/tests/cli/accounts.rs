//! Logging in, staying logged in, and being refused.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::host::{Host, PASSWORD};
use crate::program::{Program, finished};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_kept_privately_and_used() {
    let host = Host::start().await;
    let program = Program::logged_in(&host).await;
    let mode = std::fs::metadata(program.contexts()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let shown = program.run(&["context", "list"]).await;
    shown.ends_with(0);
    assert!(shown.out.contains("* ") && shown.out.contains("test") && shown.out.contains(&host.url()), "{}", shown.out);
    program.run(&["agent", "list"]).await.ends_with(0);
    let json = program.run(&["context", "show", "-o", "json"]).await;
    assert!(!json.out.contains("access-1") && json.out.contains("\"user\": \"ada\""), "{}", json.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_file_and_a_piped_password_log_in_too() {
    let host = Host::start().await;
    let program = Program::new();
    let credential = program.file("admin.json", &json!({"name": "ada", "password": PASSWORD}).to_string());
    program.run(&["login", &host.url(), "--credential", &credential]).await.ends_with(0);
    let piped =
        program.run_with(&["login", &host.url(), "--user", "ada", "--name", "piped"], &format!("{PASSWORD}\n")).await;
    piped.ends_with(0);
    let list = program.run(&["context", "list", "-o", "name"]).await;
    assert_eq!(list.out, format!("{}\npiped\n", host.address));
    program.run(&["context", "use", &host.address.to_string()]).await.ends_with(0);
    program.run(&["context", "use", "nowhere"]).await.ends_with(2);
    program.run(&["agent", "list"]).await.ends_with(4); // the second login made the first one's tokens old
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_logged_in_ends_with_four_and_learns_how() {
    let host = Host::start().await;
    let nobody = Program::new().run(&["agent", "list"]).await;
    nobody.ends_with(4);
    assert!(nobody.err.contains("viworks login"), "{}", nobody.err);

    let program = Program::new();
    let wrong = program.run_with(&["login", &host.url(), "--user", "ada"], "wrong\n").await;
    wrong.ends_with(4);
    assert!(wrong.err.contains("name or password is wrong") && wrong.err.contains("login_refused"), "{}", wrong.err);
    assert!(!program.contexts().exists());

    let bad_token =
        Program::new().with("VIWORKS_URL", &host.url()).with("VIWORKS_TOKEN", "bad").run(&["agent", "list"]).await;
    bad_token.ends_with(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_token_is_renewed_on_the_way() {
    let host = Host::start().await;
    let program = Program::logged_in(&host).await;
    host.state().access.clear();
    program.run(&["agent", "list"]).await.ends_with(0);
    assert_eq!(host.state().refreshes, 1, "a refused token is renewed once");

    host.state().expires_in = 0;
    host.state().access.clear();
    program.run(&["agent", "list"]).await.ends_with(0);
    let before = host.state().requests.len();
    program.run(&["verb", "list"]).await.ends_with(0);
    assert_eq!(host.state().requests.len(), before + 1, "a token known to be over is not sent at all");
    assert_eq!(host.state().reused, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_spend_one_refresh_token_once() {
    let host = Host::start().await;
    let program = Program::logged_in(&host).await;
    for _ in 0..3 {
        host.state().access.clear();
        let children: Vec<_> = (0..6).map(|_| program.command(&["agent", "list"]).spawn().unwrap()).collect();
        for child in children {
            finished(child).await.ends_with(0);
        }
    }
    let state = host.state();
    assert_eq!((state.refreshes, state.reused), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_over_and_a_logout_end_with_four() {
    let host = Host::start().await;
    let program = Program::logged_in(&host).await;
    {
        let mut state = host.state();
        state.access.clear();
        state.refresh = None;
    }
    let over = program.run(&["agent", "list"]).await;
    over.ends_with(4);
    assert!(
        over.err.contains("the login is over") && over.err.contains(&format!("viworks login {}", host.url())),
        "{}",
        over.err
    );

    let program = Program::logged_in(&host).await;
    program.run(&["logout"]).await.ends_with(0);
    assert!(host.state().access.is_empty(), "the host heard of it");
    assert!(!std::fs::read_to_string(program.contexts()).unwrap().contains("access-"));
    program.run(&["agent", "list"]).await.ends_with(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_away_is_named_with_what_to_check() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let away = Program::new().with("VIWORKS_URL", &url).with("VIWORKS_TOKEN", "t").run(&["agent", "list"]).await;
    away.ends_with(1);
    assert!(away.err.contains(&url) && away.err.contains("refused") && away.err.contains("check that"), "{}", away.err);
}
