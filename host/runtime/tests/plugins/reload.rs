//! Files come, change, break, collide and go; what serves follows, and never gets worse.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ports::plugins::{PluginStatus, Plugins as _, ResolveError};
use runtime::{CacheOptions, Compile, DefaultGrants, Options};
use serde_json::json;

use crate::calls::{House, profile};
use crate::guest::Guest;

const CEILING: Duration = Duration::from_secs(120);

fn good(name: &str, version: &str) -> Vec<u8> {
    Guest::new(name, version).build()
}

fn status(house: &House, file: &str) -> PluginStatus {
    let found = house.handle.plugins().into_iter().find(|status| status.file == file);
    found.unwrap_or_else(|| panic!("no {file} in {:#?}", house.handle.plugins()))
}

fn version(house: &House, verb: &str) -> String {
    house.verb(verb).plugin().version.clone()
}

fn unavailable(house: &House, verb: &str) -> String {
    match house.handle.resolve(verb) {
        Err(ResolveError::Unavailable { why, .. }) => why,
        other => panic!("expected `{verb}` to be unavailable, got {:?}", other.map(|verb| verb.plugin().clone())),
    }
}

async fn rescan(house: &House) {
    house.handle.rescan().await.expect("the service runs");
}

#[tokio::test]
async fn a_bad_file_never_replaces_a_good_one() {
    let house = House::open(&[("demo.wasm", &good("demo", "1.0.0"))], |options| options).await;
    for broken in [b"garbage".to_vec(), Guest { stamped: false, ..Guest::new("demo", "2.0.0") }.build()] {
        house.write("demo.wasm", &broken);
        rescan(&house).await;
        let status = status(&house, "demo.wasm");
        assert_eq!((status.state, status.active.map(|a| a.version)), ("active", Some("1.0.0".into())));
        assert!(status.refusal.is_some());
        house.verb("demo.run").plan(&profile(), &json!({})).await.expect("the last good one serves");
    }
    house.write("demo.wasm", &good("demo", "2.0.0"));
    rescan(&house).await;
    assert_eq!((version(&house, "demo.run"), status(&house, "demo.wasm").refusal), ("2.0.0".into(), None));
    let states: Vec<(Option<&str>, &str, bool)> =
        house.handle.transitions(0).iter().map(|t| (t.from, t.to, t.refusal.is_some())).collect();
    let active = Some("active");
    assert_eq!(
        states,
        [(None, "active", false), (active, "active", true), (active, "active", true), (active, "probation", false)]
    );
    let last = house.handle.transitions(3);
    assert_eq!(last.iter().map(|t| t.sequence).collect::<Vec<_>>(), [4]);
}

#[tokio::test]
async fn a_dropped_file_serves_without_anybody_asking() {
    let house = House::open(&[], |options| options).await;
    let mut changes = house.handle.changes();
    house.write(".demo.tmp", &good("demo", "1.0.0"));
    fs::rename(house.dir.path().join(".demo.tmp"), house.dir.path().join("demo.wasm")).expect("rename");
    tokio::time::timeout(CEILING, changes.wait_for(|generation| *generation > 0))
        .await
        .expect("in time")
        .expect("the service runs");
    assert_eq!(version(&house, "demo.run"), "1.0.0");
    // Well under the regular look every 30 s: an event did it.
    house.write("demo.wasm", &good("demo", "1.1.0"));
    tokio::time::timeout(CEILING, changes.wait_for(|generation| *generation > 1))
        .await
        .expect("in time")
        .expect("the service runs");
    assert_eq!(version(&house, "demo.run"), "1.1.0");
}

#[tokio::test]
async fn files_that_change_together_become_one_generation() {
    let house = House::open(&[], |options| options).await;
    assert_eq!(house.handle.generation(), 0);
    for name in ["a", "b", "c"] {
        house.write(&format!("{name}.wasm"), &good(name, "1.0.0"));
    }
    rescan(&house).await;
    assert_eq!((house.handle.generation(), house.handle.verbs().len()), (1, 3));
    rescan(&house).await;
    assert_eq!(house.handle.generation(), 1, "a scan that finds nothing new changes nothing");
}

#[tokio::test]
async fn a_removed_plugin_is_unavailable_and_says_since_when() {
    let house = House::open(&[("demo.wasm", &good("demo", "1.0.0"))], |options| options).await;
    let pinned = house.verb("demo.run");
    fs::remove_file(house.dir.path().join("demo.wasm")).expect("remove");
    rescan(&house).await;
    let why = unavailable(&house, "demo.run");
    assert!(why.contains("plugin `demo` was removed at 20"), "{why}");
    assert_eq!(status(&house, "demo.wasm").state, "removed");
    assert!(house.handle.verbs().is_empty());
    pinned.plan(&profile(), &json!({})).await.expect("whoever holds it can still use it");
    let digest = pinned.plugin().digest.clone();
    assert!(
        house.handle.pinned(&pinned.traits().name, &digest).is_some(),
        "what was planned with it can still be read"
    );
    assert!(house.handle.grant("demo").is_some(), "its queued plans can still be checked");
    house.write("demo.wasm", &good("demo", "1.0.0"));
    rescan(&house).await;
    assert_eq!((version(&house, "demo.run"), house.handle.plugins().len()), ("1.0.0".into(), 1));
}

#[tokio::test]
async fn an_old_version_is_found_by_its_digest_while_it_is_kept_or_held() {
    let house = House::open(&[("demo.wasm", &good("demo", "1.0.0"))], |options| options).await;
    let first = house.verb("demo.run");
    let (name, digest) = (first.traits().name.clone(), first.plugin().digest.clone());
    let pinned = |digest: &str| house.handle.pinned(&name, digest).expect("some version").plugin().version.clone();
    for minor in 1..=4 {
        house.write("demo.wasm", &good("demo", &format!("1.{minor}.0")));
        rescan(&house).await;
        assert_eq!(pinned(&digest), "1.0.0", "held, so it is there");
    }
    drop(first);
    assert_eq!(pinned(&digest), "1.4.0", "no longer held nor among the last three: the newest answers");
    let kept: Vec<String> =
        house.handle.transitions(0).iter().filter_map(|t| t.active.clone()).map(|a| a.digest).collect();
    assert_eq!((pinned(&kept[2]), pinned(&kept[3])), ("1.2.0".into(), "1.3.0".into()));
}

#[tokio::test]
async fn names_belong_to_whoever_had_them_first() {
    let house = House::open(&[("m.wasm", &good("demo", "1.0.0"))], |options| options).await;
    let mut thief = Guest::new("thief", "1.0.0");
    thief.manifest["verbs"][0]["name"] = json!("demo.run");
    house.write("a-copy.wasm", &good("demo", "9.0.0"));
    house.write("b-thief.wasm", &thief.build());
    rescan(&house).await;
    let code = |file: &str| status(&house, file).refusal.map(|refusal| (refusal.gate, refusal.code));
    assert_eq!(code("a-copy.wasm"), Some((9, "plugin_conflict".into())));
    assert_eq!(code("b-thief.wasm"), Some((9, "verb_conflict".into())));
    assert_eq!((version(&house, "demo.run"), status(&house, "a-copy.wasm").state), ("1.0.0".into(), "refused"));
    fs::remove_file(house.dir.path().join("m.wasm")).expect("remove");
    rescan(&house).await;
    assert_eq!(version(&house, "demo.run"), "9.0.0", "once the first is gone the next may have the name");
    assert_eq!(code("b-thief.wasm"), Some((9, "verb_conflict".into())));
}

#[tokio::test]
async fn a_renamed_file_keeps_serving() {
    let house =
        House::open(&[("old.wasm", &good("demo", "1.0.0")), ("x.wasm", &good("other", "1.0.0"))], |options| options)
            .await;
    fs::rename(house.dir.path().join("old.wasm"), house.dir.path().join("new.wasm")).expect("rename");
    rescan(&house).await;
    assert_eq!((version(&house, "demo.run"), status(&house, "new.wasm").state), ("1.0.0".into(), "active"));
    assert_eq!(house.handle.plugins().len(), 2, "{:#?}", house.handle.plugins());
}

#[tokio::test]
async fn the_operators_file_switches_grants_and_configures() {
    let mut guest = Guest::new("demo", "1.0.0");
    guest.manifest["config_schema"] = json!({ "type": "object", "additionalProperties": false, "properties": { "colour": { "enum": ["red", "blue"], "default": "red" } } });
    let house = House::open(&[("demo.wasm", &guest.build())], |options| options).await;
    assert_eq!(status(&house, "demo.wasm").grant.programs[0].program, "echo");

    house.write("demo.toml", b"enabled = false\n");
    rescan(&house).await;
    assert_eq!(status(&house, "demo.wasm").state, "disabled");
    assert!(unavailable(&house, "demo.run").contains("disabled in `demo.toml`"));
    assert!(house.handle.grant("demo").is_none(), "nothing queued of it may run");

    house.write("demo.toml", b"[config]\ncolour = \"blue\"\n");
    rescan(&house).await;
    assert_eq!(status(&house, "demo.wasm").state, "active");

    for (text, code) in [
        ("[config]\ncolour = \"green\"\n", "config_invalid"),
        ("enabled = maybe", "config_malformed"),
        ("grant = 1", "config_malformed"),
    ] {
        house.write("demo.toml", text.as_bytes());
        rescan(&house).await;
        let status = status(&house, "demo.wasm");
        assert_eq!(
            (status.state, status.refusal.map(|r| (r.gate, r.code))),
            ("active", Some((9, code.to_owned()))),
            "{text}"
        );
    }
    fs::remove_file(house.dir.path().join("demo.toml")).expect("remove");
    rescan(&house).await;
    assert_eq!((status(&house, "demo.wasm").state, status(&house, "demo.wasm").refusal), ("active", None));
}

#[tokio::test]
async fn without_a_grant_a_plugin_waits_for_approval() {
    let closed = |options: Options| Options { default_grants: DefaultGrants::None, ..options };
    let house = House::open(&[("demo.wasm", &good("demo", "1.0.0"))], closed).await;
    let waiting = status(&house, "demo.wasm");
    assert_eq!((waiting.state, waiting.active, waiting.grant.programs.len()), ("needs_approval", None, 1));
    assert!(unavailable(&house, "demo.run").contains("waits for approval"));
    house.write("demo.toml", b"[grants]\neffects = [\"read\"]\n[[grants.programs]]\nprogram = \"echo\"\n");
    rescan(&house).await;
    house.verb("demo.run").plan(&profile(), &json!({})).await.expect("approved");
    fs::remove_file(house.dir.path().join("demo.toml")).expect("remove");
    rescan(&house).await;
    assert_eq!(status(&house, "demo.wasm").state, "needs_approval", "a grant that is withdrawn is withdrawn");
}

#[tokio::test]
async fn a_lost_mount_takes_nothing_away_until_it_is_sure() {
    let files: &[(&str, &[u8])] = &[("a.wasm", &good("a", "1.0.0")), ("b.wasm", &good("b", "1.0.0"))];
    let house = House::open(files, |options| options).await;
    for name in ["a.wasm", "b.wasm"] {
        fs::remove_file(house.dir.path().join(name)).expect("remove");
    }
    rescan(&house).await;
    assert_eq!(house.handle.verbs().len(), 2, "all at once looks like a lost mount");
    house.write("a.wasm", &good("a", "1.0.0"));
    rescan(&house).await;
    assert_eq!(house.handle.verbs().len(), 1, "the folder is back, so what is missing is missing");

    let hasty = |options: Options| Options { lost_after: Duration::ZERO, ..options };
    let house = House::open(files, hasty).await;
    for name in ["a.wasm", "b.wasm"] {
        fs::remove_file(house.dir.path().join(name)).expect("remove");
    }
    rescan(&house).await;
    assert!(house.handle.verbs().is_empty());
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_watched_again() {
    let house = House::open(&[("demo.wasm", &good("demo", "1.0.0"))], |options| options).await;
    let (here, aside) = (house.dir.path().to_owned(), house.dir.path().with_extension("aside"));
    fs::rename(&here, &aside).expect("move away");
    rescan(&house).await;
    assert_eq!(version(&house, "demo.run"), "1.0.0", "a folder that is not there keeps serving");
    fs::create_dir(&here).expect("make");
    house.write("demo.wasm", &good("demo", "2.0.0"));
    rescan(&house).await;
    assert_eq!(version(&house, "demo.run"), "2.0.0");
    let mut changes = house.handle.changes();
    changes.mark_unchanged();
    house.write("demo.wasm", &good("demo", "3.0.0"));
    tokio::time::timeout(CEILING, changes.changed()).await.expect("seen by the watch").expect("the service runs");
    assert_eq!(version(&house, "demo.run"), "3.0.0");
    fs::remove_dir_all(aside).expect("clean up");
}

#[tokio::test]
async fn a_file_that_is_still_being_copied_is_not_refused() {
    let house = House::open(&[("demo.wasm", &good("demo", "1.0.0"))], |options| options).await;
    let next = good("demo", "2.0.0");
    house.write("demo.wasm", &next[..next.len() - 10]);
    house.write("new.wasm", &next[..next.len() / 2]);
    rescan(&house).await;
    assert_eq!((version(&house, "demo.run"), status(&house, "demo.wasm").refusal), ("1.0.0".into(), None));
    assert_eq!(house.handle.plugins().len(), 1, "{:#?}", house.handle.plugins());
    // Nobody finishes `new.wasm`: once it is five seconds old it is a broken file.
    let mut changes = house.handle.changes();
    changes.mark_unchanged();
    tokio::time::timeout(CEILING, changes.changed()).await.expect("in time").expect("the service runs");
    assert_eq!(status(&house, "new.wasm").refusal.map(|refusal| refusal.code), Some("truncated".into()));
}

#[tokio::test]
async fn links_and_temporary_files_are_nobodys_plugin() {
    let house =
        House::open(&[(".demo.wasm", &good("demo", "1.0.0")), ("demo.wasm~", &good("demo", "1.0.0"))], |options| {
            options
        })
        .await;
    symlink(house.dir.path().join(".demo.wasm"), house.dir.path().join("demo.wasm")).expect("link");
    rescan(&house).await;
    assert!(house.handle.plugins().is_empty(), "{:#?}", house.handle.plugins());
}

fn child() -> Compile {
    Compile::Child { program: PathBuf::from(env!("CARGO_BIN_EXE_compile-worker")), args: Vec::new() }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).expect("listed").map(|entry| entry.expect("entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

#[tokio::test]
async fn compiling_in_a_child_serves_and_is_remembered_between_starts() {
    let cache = tempfile::tempdir().expect("temp dir");
    let options = |compile: Compile| {
        let cache = CacheOptions { dir: cache.path().join("compiled"), fresh_key: [7; 32] };
        move |options: Options| Options { compile, cache: Some(cache), ..options }
    };
    let bytes = good("demo", "1.0.0");
    let house = House::open(&[("demo.wasm", &bytes)], options(child())).await;
    house.verb("demo.run").plan(&profile(), &json!({})).await.expect("machine code of the child runs here");
    let kept = entries(&cache.path().join("compiled"));
    assert_eq!(kept.len(), 1);
    drop(house);

    // No compiler at hand now: only the cache can answer.
    let nothing = || Compile::Child { program: "/nonexistent/worker".into(), args: Vec::new() };
    let house = House::open(&[("demo.wasm", &bytes)], options(nothing())).await;
    house.verb("demo.run").plan(&profile(), &json!({})).await.expect("from the cache");
    drop(house);

    let good = fs::read(&kept[0]).expect("entry");
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    fs::write(&kept[0], &forged).expect("write");
    let house = House::open(&[("demo.wasm", &bytes)], options(nothing())).await;
    assert_eq!(status(&house, "demo.wasm").refusal.map(|r| (r.gate, r.code)), Some((6, "compile_unavailable".into())));
    drop(house);

    // With the compiler back, the poisoned entry is made anew and the plugin serves.
    let house = House::open(&[("demo.wasm", &bytes)], options(child())).await;
    house.verb("demo.run").plan(&profile(), &json!({})).await.expect("compiled again");
    assert_ne!(fs::read(&kept[0]).expect("entry"), forged);
    drop(house);
    let house = House::open(&[("demo.wasm", &bytes)], options(nothing())).await;
    house.verb("demo.run").plan(&profile(), &json!({})).await.expect("from the mended cache");
}

#[tokio::test]
async fn a_compiler_that_dies_or_complains_refuses_the_file_and_the_last_good_one_serves() {
    let dir = tempfile::tempdir().expect("temp dir");
    let script = dir.path().join("worker");
    let act = |text: &str| fs::write(&script, text).expect("written");
    let real = env!("CARGO_BIN_EXE_compile-worker");
    act(&format!("exec {real}"));
    let worker = Compile::Child { program: "/bin/sh".into(), args: vec![script.to_str().expect("text").to_owned()] };
    let house =
        House::open(&[("demo.wasm", &good("demo", "1.0.0"))], |options| Options { compile: worker, ..options }).await;
    assert_eq!(version(&house, "demo.run"), "1.0.0");
    for (minor, text, code) in
        [(1, "kill -KILL $$", "compile_limit"), (2, "echo function 3 is wrong >&2; exit 1", "compile_failed")]
    {
        act(text);
        house.write("demo.wasm", &good("demo", &format!("1.{minor}.0")));
        rescan(&house).await;
        let found = status(&house, "demo.wasm").refusal.map(|refusal| (refusal.gate, refusal.code));
        assert_eq!((version(&house, "demo.run").as_str(), found), ("1.0.0", Some((6, code.to_owned()))));
    }
}
