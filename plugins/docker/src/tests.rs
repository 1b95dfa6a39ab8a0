use viworks_sdk::test;

use super::PLUGIN;

#[test]
fn a_host_would_load_this_plugin() {
    test::check(&PLUGIN);
}

#[test]
fn what_docker_printed_means_what_it_meant() {
    test::golden(&PLUGIN, env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn hostile_text_is_refused_or_harmless_in_every_argument() {
    let tried = test::injections(&PLUGIN);
    assert!(tried.places >= 75, "{tried:?}");
    assert!(tried.refused > 1000 && tried.planned > 1000, "{tried:?}");
}
