//! Keys, signatures, and who believes them; the `minisign` tool reads ours and we read its.

use std::path::Path;
use std::process::Command;

use cli::plugin::build;
use serde_json::json;

use crate::{EXEC, answer, ended, installed, viworks};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn a_file_is_signed_verified_and_installed_with_its_signature() {
    let (folder, file) = installed();
    let key = folder.path().join("release.key");
    let made = answer(&viworks(&["keygen", text(&key), "-o", "json"]), 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).expect("a key").permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(ended(&viworks(&["keygen", text(&key)]), 2).contains("is there already"));

    let public = made["public_key"].as_str().expect("a line");
    let missing = answer(&viworks(&["verify", &file, "--key", public, "-o", "json"]), 1);
    assert_eq!(missing["code"], "signature_missing");
    answer(&viworks(&["sign", &file, "--key", text(&key), "--comment", "build 7", "-o", "json"]), 0);
    let good = answer(&viworks(&["verify", &file, "--key", public, "-o", "json"]), 0);
    assert_eq!(good["key_id"], made["key_id"]);
    let comment = good["comment"].as_str().expect("a comment");
    assert!(comment.starts_with("timestamp:") && comment.ends_with("file:exec.wasm\tbuild 7"), "{comment}");

    let trust = folder.path().join("trust.toml");
    std::fs::write(&trust, format!("[[keys]]\nname = \"release\"\nkey = \"{public}\"\n")).expect("written");
    let shown = answer(&viworks(&["inspect", &file, "--trust", text(&trust), "-o", "json"]), 0);
    assert_eq!((&shown["signature"]["standing"], &shown["signature"]["signer"]), (&json!("good"), &json!("release")));
    let shown = answer(&viworks(&["inspect", &file, "-o", "json"]), 0);
    assert_eq!(
        (&shown["signature"]["standing"], &shown["signature"]["key_id"]),
        (&json!("unverified"), &made["key_id"])
    );
    let page = viworks(&["inspect", &file]);
    let id = made["key_id"].as_str().expect("an id");
    assert!(String::from_utf8_lossy(&page.stdout).contains(&format!("says key {id}")), "{page:?}");

    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).expect("a folder");
    let put = answer(&viworks(&["install", &file, "--dir", text(&plugins), "-o", "json"]), 0);
    assert_eq!(put["signed"], true);
    let there = plugins.join("exec.wasm");
    answer(&viworks(&["verify", text(&there), "--trust", text(&trust), "-o", "json"]), 0);

    std::fs::write(
        &trust,
        format!("[[keys]]\nname = \"release\"\nkey = \"{public}\"\n[deny]\ndigests = [\"{}\"]\n", EXEC.digest),
    )
    .expect("written");
    let denied = answer(&viworks(&["verify", &file, "--trust", text(&trust), "-o", "json"]), 1);
    assert_eq!(denied["code"], "plugin_denied");
    std::fs::write(&trust, "[[keys]]\nname = 7\n").expect("written");
    assert!(ended(&viworks(&["verify", &file, "--trust", text(&trust)]), 2).contains("trust.toml:2: "));
    build::write(Path::new(&file), b"changed").expect("written");
    assert_eq!(answer(&viworks(&["verify", &file, "--key", public, "-o", "json"]), 1)["code"], "signature_invalid");
}

#[test]
fn the_tool_called_minisign_and_this_one_read_each_other() {
    if Command::new("minisign").arg("-v").output().is_err() {
        return servers::need::skipped("no minisign here: apt-get install minisign");
    }
    let minisign = |words: &[&str]| {
        let done = Command::new("minisign").args(words).output().expect("minisign runs");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let (folder, file) = installed();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (ours, ours_pub, its, its_pub) = (at("ours.key"), at("ours.key.pub"), at("its.key"), at("its.pub"));
    ended(&viworks(&["keygen", &ours]), 0);
    minisign(&["-G", "-W", "-p", &its_pub, "-s", &its]);
    for (key, public) in [(&ours, &ours_pub), (&its, &its_pub)] {
        ended(&viworks(&["sign", &file, "--key", key]), 0);
        minisign(&["-V", "-q", "-p", public, "-m", &file]);
        minisign(&["-S", "-s", key, "-m", &file]);
        ended(&viworks(&["verify", &file, "--key", public]), 0);
        minisign(&["-S", "-l", "-s", key, "-m", &file]);
        ended(&viworks(&["verify", &file, "--key", public]), 0);
    }
}
