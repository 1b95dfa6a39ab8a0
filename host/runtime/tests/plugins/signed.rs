//! Who signed a file decides whether it serves, for as long as the trust file says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::plugin::{Order, Record};
use ports::plugin_life::{PluginBook, PluginLife as _};
use ports::plugins::{PluginStatus, Plugins as _};
use runtime::minisign::{KeyId, SecretKey};
use runtime::{Options, Signatures};
use serde_json::json;

use crate::calls::{House, profile};
use crate::guest::Guest;
use crate::life::Book;

fn key(seed: u8) -> SecretKey {
    SecretKey::new(KeyId([seed; 8]), [seed; 32])
}

fn signature(seed: u8, bytes: &[u8]) -> Vec<u8> {
    key(seed).sign(bytes, "timestamp:1750000000").into_bytes()
}

/// Trusts key 1, and what else is said.
fn trust(rest: &str) -> String {
    format!("[[keys]]\nname = \"release\"\nkey = \"{}\"\n{rest}", key(1).public().line())
}

/// A house where signatures are enforced, with a signed plugin in it.
async fn enforcing(folder: &Path, bytes: &[u8]) -> (House, PathBuf) {
    let file = folder.join("trust.toml");
    fs::write(&file, trust("")).expect("written");
    let trust_file = Some(file.clone());
    let signature = signature(1, bytes);
    let files: [(&str, &[u8]); 2] = [("demo.wasm", bytes), ("demo.wasm.minisig", &signature)];
    let house = House::open(&files, |options| Options { signatures: Signatures::Enforce, trust_file, ..options }).await;
    (house, file)
}

async fn after_a_look(house: &House) -> PluginStatus {
    house.handle.rescan().await.expect("the service runs");
    house.handle.plugins().into_iter().find(|status| status.file == "demo.wasm").expect("a file")
}

fn refused(status: &PluginStatus) -> Option<&str> {
    status.refusal.as_ref().map(|refusal| refusal.code.as_str())
}

fn serves(status: &PluginStatus) -> Option<&str> {
    status.active.as_ref().map(|identity| identity.version.as_str())
}

#[tokio::test]
async fn only_what_is_signed_takes_the_place_of_what_is_signed() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (old, new) = (Guest::new("demo", "1.0.0").build(), Guest::new("demo", "2.0.0").build());
    let (house, _) = enforcing(folder.path(), &old).await;
    let status = after_a_look(&house).await;
    let shown = status.signature.clone().expect("a signature");
    assert_eq!((serves(&status), refused(&status)), (Some("1.0.0"), None));
    assert_eq!((shown.standing, shown.signer.as_deref()), ("good", Some("release")));
    let generation = house.handle.generation();

    fs::remove_file(house.dir.path().join("demo.wasm.minisig")).expect("removed");
    let status = after_a_look(&house).await;
    assert_eq!((serves(&status), refused(&status)), (Some("1.0.0"), Some("signature_missing")), "the last good one");
    assert!(status.signature.is_none() && house.handle.generation() > generation);

    house.write("demo.wasm", &new);
    house.write("demo.wasm.sig", &signature(1, &old));
    assert_eq!(refused(&after_a_look(&house).await), Some("signature_invalid"));
    house.write("demo.wasm.sig", &signature(2, &new));
    assert_eq!(refused(&after_a_look(&house).await), Some("signature_untrusted"));
    house.write("demo.wasm.minisig", &signature(1, &new));
    let status = after_a_look(&house).await;
    assert_eq!((serves(&status), refused(&status)), (Some("2.0.0"), None), "one of the two is good");
}

#[tokio::test]
async fn what_is_kept_over_a_restart_is_kept_as_it_was_signed() {
    let (folder, here) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
    let (old, new) = (Guest::new("demo", "1.0.0").build(), Guest::new("demo", "2.0.0").build());
    let file = folder.path().join("trust.toml");
    fs::write(&file, trust("")).expect("written");
    let again = async |bytes: &[u8], records: Vec<Record>, used: &str| {
        let signature = signature(1, bytes);
        let files: [(&str, &[u8]); 2] = [("demo.wasm", bytes), ("demo.wasm.minisig", &signature)];
        let (trust_file, kept) = (Some(file.clone()), Some(here.path().to_owned()));
        let book = Arc::new(Book::default());
        book.waits("{}", used);
        let book: Arc<dyn PluginBook> = book;
        House::open(&files, |options| Options {
            signatures: Signatures::Enforce,
            trust_file,
            kept,
            records,
            book: Some(book),
            ..options
        })
        .await
    };
    let house = again(&old, Vec::new(), "").await;
    let (name, used) = (house.verb("demo.run").traits().name.clone(), house.verb("demo.run").plugin().digest.clone());
    let house = again(&new, house.handle.records(), &used).await;
    assert_eq!(serves(&after_a_look(&house).await), Some("2.0.0"));
    let pinned = |house: &House| house.handle.pinned(&name, &used).map(|verb| verb.plugin().version.clone());
    assert_eq!(pinned(&house).as_deref(), Some("1.0.0"), "what was run with it can still be read");
    house.handle.order("demo", Order::Rollback, "ada").await.expect("there is a way back");
    assert_eq!(serves(&after_a_look(&house).await), Some("1.0.0"));

    // Nobody trusts the key any more: what it signed is not kept for anything, in the next process either.
    let records = house.handle.records();
    fs::write(&file, "").expect("written");
    let house = again(&new, records, &used).await;
    assert_eq!((serves(&after_a_look(&house).await), pinned(&house)), (None, None));
}

#[tokio::test]
async fn what_is_denied_goes_out_of_service_and_nothing_of_it_is_called_again() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (old, new) = (Guest::new("demo", "1.0.0").build(), Guest::new("demo", "2.0.0").build());
    let (house, file) = enforcing(folder.path(), &old).await;
    let verb = house.verb("demo.run");
    let identity = verb.plugin().clone();
    house.write("demo.wasm", &new);
    house.write("demo.wasm.minisig", &signature(1, &new));
    assert_eq!(serves(&after_a_look(&house).await), Some("2.0.0"));

    for denied in ["signers = [\"release\"]".to_owned(), "digests = []\nsigners = [\"0101010101010101\"]".to_owned()] {
        fs::write(&file, trust(&format!("[deny]\n{denied}\n"))).expect("written");
        let status = after_a_look(&house).await;
        assert_eq!((status.state, serves(&status), refused(&status)), ("refused", None, Some("plugin_denied")));
        assert!(
            house.handle.pinned(&verb.traits().name, &identity.digest).is_none(),
            "not even to read what it planned"
        );
        assert!(house.handle.grant("demo").is_none(), "and what it planned is not sent");
        fs::write(&file, trust("")).expect("written");
        assert_eq!(serves(&after_a_look(&house).await), Some("2.0.0"), "it comes back when it is denied no more");
    }
    let digest = house.verb("demo.run").plugin().digest.clone();
    fs::write(&file, trust(&format!("[deny]\ndigests = [\"{digest}\"]\n"))).expect("written");
    assert_eq!(after_a_look(&house).await.state, "refused");
    house.write("demo.wasm", &old);
    house.write("demo.wasm.minisig", &signature(1, &old));
    assert_eq!(serves(&after_a_look(&house).await), Some("1.0.0"), "the one before is not denied");
    fs::write(&file, "[deny").expect("written");
    let status = after_a_look(&house).await;
    assert_eq!((serves(&status), refused(&status)), (Some("1.0.0"), None), "what it said before holds");
    fs::write(&file, "").expect("written");
    assert_eq!(refused(&after_a_look(&house).await), Some("signature_untrusted"), "a key that is taken out is no key");
}

#[tokio::test]
async fn without_being_asked_for_signatures_are_shown_and_nothing_else() {
    let bytes = Guest::new("demo", "1.0.0").build();
    let files: [(&str, &[u8]); 2] = [("demo.wasm", &bytes), ("demo.wasm.minisig", &signature(1, b"other"))];
    let house = House::open(&files, |options| options).await;
    let status = after_a_look(&house).await;
    let shown = status.signature.clone().expect("a signature");
    assert_eq!((serves(&status), shown.standing, shown.signer), (Some("1.0.0"), "untrusted", None));
    house.verb("demo.run").plan(&profile(), &json!({})).await.expect("a plan");
    house.write("demo.wasm.minisig", b"garbage");
    assert_eq!(after_a_look(&house).await.signature.expect("a file").standing, "malformed");
}
