//! Starting and stopping the host as an operator does.

use std::process::Command;

use tests::host::TestHost;
use tests::programs::program;
use tests::store::Store;

tests::on_both_stores![a_host_asked_to_stop_ends_well_and_takes_its_address_back,];

#[tokio::test]
async fn a_configuration_with_an_unknown_key_stops_the_start_and_names_file_and_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("host.toml");
    std::fs::write(&config, "[server]\n\nbnid = \"127.0.0.1:0\"\n").expect("written");
    let mut serve = Command::new(program("viworks-host"));
    let done = serve.args(["serve", "--config"]).arg(&config).current_dir(dir.path()).output().expect("starts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code().is_some_and(|code| code != 0), "{:?}", done.status);
    assert!(said.contains(&format!("{}:3", config.display())) && said.contains("bnid"), "{said}");
    let made: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").filter_map(Result::ok).collect();
    assert_eq!(made.len(), 1, "nothing was made");
}

async fn a_host_asked_to_stop_ends_well_and_takes_its_address_back(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let listening = host.data().join("listening.json");
    assert!(listening.is_file());
    let status = host.stop().await;
    assert_eq!(status.code(), Some(0));
    assert!(!listening.exists());
    // And starts again on what it left, with the same users.
    host.launch().await;
    assert_eq!(host.admin().await.get("/api/v1/me").await.expect(200)["name"], "admin");
    assert_eq!(host.stop().await.code(), Some(0));
}
