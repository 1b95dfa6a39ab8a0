//! Images on a real engine: built from text and from a folder, pushed to a registry, pulled from it.

use serde_json::json;
use servers::docker::Engine;
use servers::registry::Registry;
use tests::dock::{Dock, summary};

const SHELL: &str = "FROM box:1\nARG WHO=nobody\nRUN [\"/bin/sh\", \"-c\", \"echo made for $WHO > /made\"]\n";

#[tokio::test]
async fn an_image_is_built_from_text_and_from_a_folder() {
    let Some(engine) = Engine::shared() else { return };
    engine.busybox().expect("a base image");
    let dock = Dock::at(&engine.endpoint()).await;
    let run = |image: &str| engine.run(&["run", "--rm", "--network", "none", image, "cat", "/made"]).expect("it runs");

    let labels = json!({ "org.example.team": "shop" });
    let args = json!({ "tags": ["text:1", "text:latest"], "dockerfile": SHELL, "network": "none", "labels": labels });
    let built = dock.result("docker.build", &args).await;
    assert_eq!(run("text:1"), "made for nobody");
    let id = engine.run(&["image", "inspect", "--format", "{{.Id}}", "text:1"]).expect("the image");
    assert_eq!((&built["id"], &built["os"]), (&json!(id), &json!("linux")), "{built:#}");
    assert_eq!(built["tags"], json!(["text:1", "text:latest"]));
    assert!(built["size_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{built:#}");
    assert!(built["created"].as_str().is_some_and(|time| time.ends_with('Z')), "{built:#}");
    let label = ["image", "inspect", "--format", "{{index .Config.Labels \"org.example.team\"}}", "text:1"];
    assert_eq!(engine.run(&label).expect("its label"), "shop");

    let file = "FROM box:1\nARG WHO\nCOPY made /\nRUN [\"/bin/sh\", \"-c\", \"echo and $WHO >> /made\"]\n";
    let context = engine.context("FROM nothing\n", &[("made", "from a file\n"), ("deploy/file", file)]).expect("files");
    let folder = context.path().display().to_string();
    let args = json!({
        "tags": ["folder:1"], "context": folder, "file": "deploy/file", "network": "none",
        "build_args": { "WHO": "them all" },
    });
    let built = dock.result("docker.build", &args).await;
    assert_eq!(built["tags"], json!(["folder:1"]));
    assert_eq!(run("folder:1"), "from a file\nand them all");

    let args = json!({ "tags": ["text:2"], "dockerfile": "FROM box:1\nRUN [\"/bin/false\"]\n", "network": "none" });
    let failed = dock.failure("docker.build", &args).await;
    assert!(summary(&failed).contains("returned a non-zero code: 1"), "{failed:#}");
    assert!(engine.run(&["image", "inspect", "text:2"]).is_err(), "there is no image of a build that failed");
    let gone = format!("{folder}/nowhere");
    let failed = dock.failure("docker.build", &json!({ "tags": ["text:3"], "context": gone })).await;
    assert!(summary(&failed).contains(&gone), "{failed:#}");
}

#[tokio::test]
async fn an_image_is_pulled_from_a_registry() {
    let (Some(engine), Some(registry)) = (Engine::shared(), Registry::shared()) else { return };
    let name = format!("{}/team/pulled:1", registry.address());
    engine.build_image(&name, "FROM scratch\nCOPY bin /bin\nLABEL pulled=yes\n", &[]).expect("built");
    let id = engine.run(&["image", "inspect", "--format", "{{.Id}}", &name]).expect("the image");
    engine.run(&["push", &name]).expect("pushed");
    engine.run(&["image", "rm", &name]).expect("removed");
    let dock = Dock::at(&engine.endpoint()).await;

    let pulled = dock.result("docker.pull", &json!({ "image": name })).await;
    assert_eq!((&pulled["new"], &pulled["image"]["id"]), (&json!(true), &json!(id)), "{pulled:#}");
    assert_eq!(pulled["image"]["tags"], json!([name]));
    let digest = pulled["digest"].as_str().expect("a digest");
    assert!(digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64), "{digest}");
    let by_digest = format!("{}/team/pulled@{digest}", registry.address());
    assert_eq!(pulled["image"]["digests"], json!([by_digest]));

    let again = dock.result("docker.pull", &json!({ "image": name })).await;
    assert_eq!((&again["new"], &again["image"]["id"]), (&json!(false), &json!(id)), "{again:#}");
    let pinned = dock.result("docker.pull", &json!({ "image": by_digest })).await;
    assert_eq!(pinned["image"]["id"], json!(id), "{pinned:#}");

    // A container of an image that the machine does not have pulls it first.
    engine.run(&["image", "rm", "--force", &id]).expect("removed");
    let args = json!({ "image": name, "command": ["echo", "there"], "detach": false, "network": "none", "rm": true });
    let ran = dock.result("docker.run", &args).await;
    assert_eq!(ran["ended"]["stdout"], "there\n", "{ran:#}");

    let missing = format!("{}/team/pulled:2", registry.address());
    let failed = dock.failure("docker.pull", &json!({ "image": missing })).await;
    assert_eq!(summary(&failed), format!("the registry has no image `{missing}`"));
    assert_eq!(failed["exit_code"], 1);
    let failed = dock.failure("docker.pull", &json!({ "image": "127.0.0.1:1/team/pulled:1" })).await;
    assert!(summary(&failed).starts_with("the registry 127.0.0.1:1 cannot be reached: "), "{failed:#}");
}
