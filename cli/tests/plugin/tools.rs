//! Working on a plugin while a host runs.

use serde_json::Value;

use crate::{EXEC, ended, room, viworks};

#[test]
fn a_round_of_dev_builds_and_puts_what_passes_into_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, project) = (folder.path().to_str().expect("text"), room("plugins/exec"));
    let project = project.to_str().expect("text");
    let key = folder.path().join("dev.key");
    let key = key.to_str().expect("text");
    let told = ended(&viworks(&["dev", project, "--dir", dir, "--once"]), 0);
    assert!(told.contains(&format!(" ok: exec {} {} is in ", EXEC.manifest.version, &EXEC.digest[..12])), "{told}");
    assert_eq!(std::fs::read(folder.path().join("exec.wasm")).expect("a file"), EXEC.bytes);
    let told = ended(&viworks(&["dev", project, "--dir", dir, "--once"]), 0);
    assert!(told.contains("byte for byte"), "{told}");
    ended(&viworks(&["keygen", key]), 0);
    ended(&viworks(&["dev", project, "--dir", dir, "--key", key, "--once"]), 0);
    let file = folder.path().join("exec.wasm");
    let verified = viworks(&["verify", file.to_str().expect("text"), "--key", &format!("{key}.pub"), "-o", "json"]);
    ended(&verified, 0);
    assert!(serde_json::from_slice::<Value>(&verified.stdout).is_ok_and(|answer| answer["ok"] == true));

    std::fs::write(folder.path().join("Cargo.toml"), "[package]\nname = \"a\"\n").expect("written");
    let told = ended(&viworks(&["dev", dir, "--dir", dir, "--once"]), 1);
    assert!(told.contains(" FAILED: ") && told.contains("what is in the folder stays as it is"), "{told}");
    assert_eq!(std::fs::read(file).expect("a file"), EXEC.bytes);
}
