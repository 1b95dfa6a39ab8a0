use viworks_sdk::test;

use super::PLUGIN;

#[test]
fn a_host_would_load_this_plugin() {
    test::check(&PLUGIN);
}
