//! `viworks plugin install`: all nine gates, then one rename into a host's plugin folder.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use runtime::tool::{self, Placement, Predecessor, ToolError};
use serde_json::json;

use super::sign::named;
use super::{build, check, verify};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Which file, and where to.
#[derive(Clone, Debug, Args)]
pub struct InstallOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The host's plugin folder
    #[arg(long, value_name = "PLUGINS")]
    pub dir: PathBuf,
}

pub(super) fn command(options: &InstallOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let placement = match tool::place(&bytes, &super::file_name(&options.file), &options.dir) {
        Ok(placement) => placement,
        Err(ToolError::Refused(refusal)) => {
            sink.one(&check::answer(&refusal), &refusal.code, || check::page(&refusal))?;
            sink.say("nothing was installed")?;
            return Ok(Exit::Error);
        }
        Err(error @ ToolError::Folder { .. }) => return Err(Failure::usage(escape::line(&error.to_string()))),
        Err(error @ (ToolError::NoVerb { .. } | ToolError::Engine(_) | ToolError::Thread(_))) => {
            return Err(Failure::new(Exit::Error, escape::line(&error.to_string())));
        }
    };
    let file = options.dir.join(&placement.file_name);
    let signature = verify::beside(&options.file)?.into_iter().next().map(|(_, text)| text);
    put(&file, &bytes, signature.as_deref())
        .map_err(|error| Failure::new(Exit::Error, escape::line(&format!("{error:#}"))))?;
    let shown = file.display().to_string();
    let replaced = placement.replaces.as_ref();
    let answer = json!({
        "ok": true, "name": placement.manifest.name, "version": placement.manifest.version, "digest": placement.digest,
        "file": shown, "signed": signature.is_some(), "replaces": replaced.map(|old| json!({ "version": old.version, "digest": old.digest })),
    });
    sink.one(&answer, &shown, || page(&placement, &shown))?;
    if signature.is_none() {
        sink.say(
            "note: it is not signed; a host with `plugins.signatures = \"enforce\"` refuses it (`viworks plugin sign`)",
        )?;
    }
    for line in notes(&placement) {
        sink.say(&escape::line(&line))?;
    }
    Ok(Exit::Ok)
}

/// Puts file and signature in place so that at every moment one of the signatures there is of the file
/// there: the new one first goes where the old one is not, and only then does the file change.
pub(super) fn put(file: &Path, bytes: &[u8], signature: Option<&str>) -> anyhow::Result<()> {
    let [main, spare] = tool::SIGNATURES.map(|ending| named(file, ending));
    let remove = |file: &Path| match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", file.display()))
        }
        Err(_) | Ok(()) => Ok(()),
    };
    let Some(signature) = signature else {
        build::write(file, bytes)?;
        // Of other bytes than those that lie there now.
        return remove(&main).and_then(|()| remove(&spare));
    };
    let first = if main.exists() { &spare } else { &main };
    build::write(first, signature.as_bytes())?;
    build::write(file, bytes)?;
    build::write(&main, signature.as_bytes())?;
    remove(&spare)
}

fn page(placement: &Placement, file: &str) -> String {
    let (name, version) = (&placement.manifest.name, &placement.manifest.version);
    let said = match &placement.replaces {
        None => format!("installed {name} {version} as {file}"),
        Some(Predecessor { digest: Some(digest), .. }) if *digest == placement.digest => {
            format!("{name} {version} was there already, byte for byte: {file}")
        }
        Some(Predecessor { version: Some(old), .. }) => {
            format!("installed {name} {version} as {file}, in place of {name} {old}")
        }
        Some(Predecessor { version: None, .. }) => {
            format!("installed {name} {version} as {file}, in place of a file that was no plugin")
        }
    };
    escape::line(&said) + "\n"
}

/// What stands between being installed and being served.
fn notes(placement: &Placement) -> Vec<String> {
    let name = &placement.manifest.name;
    let mut notes = Vec::new();
    if !placement.enabled {
        notes.push(format!("note: `{name}.toml` there says `enabled = false`, so no verb of it is served"));
    } else if !placement.granted {
        notes.push(format!(
            "note: no `[grants]` in `{name}.toml` there: a host with `plugins.default_grants = \"none\"` lets it wait for approval"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use plan::manifest::Manifest;
    use plan::policy::Rules;

    use super::*;

    fn placement(replaces: Option<Predecessor>) -> Placement {
        let manifest = Manifest {
            abi: "1.0".into(),
            name: "disk".into(),
            version: "1.1.0".into(),
            summary: "Disks".into(),
            verbs: Vec::new(),
            grants: Rules { effects: Vec::new(), programs: Vec::new() },
            config_schema: None,
            rule: None,
        };
        let file_name = "disk.wasm".into();
        Placement { file_name, manifest, digest: "ab".into(), replaces, granted: false, enabled: true }
    }

    #[test]
    fn file_and_signature_are_replaced_together_and_nothing_stale_is_left() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("disk.wasm");
        let there = || {
            let names = std::fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
            let mut texts: Vec<String> = names
                .map(|path| {
                    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                    format!("{name}={}", std::fs::read_to_string(&path).expect("text"))
                })
                .collect();
            texts.sort();
            texts.join(" ")
        };
        put(&file, b"1", Some("s1")).expect("put");
        assert_eq!(there(), "disk.wasm.minisig=s1 disk.wasm=1");
        put(&file, b"2", Some("s2")).expect("put");
        assert_eq!(there(), "disk.wasm.minisig=s2 disk.wasm=2");
        std::fs::rename(dir.path().join("disk.wasm.minisig"), dir.path().join("disk.wasm.sig")).expect("renamed");
        put(&file, b"3", Some("s3")).expect("put");
        assert_eq!(there(), "disk.wasm.minisig=s3 disk.wasm=3");
        put(&file, b"4", None).expect("put");
        assert_eq!(there(), "disk.wasm=4");
    }

    #[test]
    fn it_says_what_it_takes_the_place_of() {
        let said = |version: Option<&str>, digest: &str| {
            let old = Predecessor { version: version.map(str::to_owned), digest: Some(digest.to_owned()) };
            page(&placement(Some(old)), "p/disk.wasm")
        };
        assert_eq!(page(&placement(None), "p/disk.wasm"), "installed disk 1.1.0 as p/disk.wasm\n");
        assert_eq!(said(Some("1.0.0"), "cd"), "installed disk 1.1.0 as p/disk.wasm, in place of disk 1.0.0\n");
        assert_eq!(said(Some("1.1.0"), "ab"), "disk 1.1.0 was there already, byte for byte: p/disk.wasm\n");
        assert_eq!(said(None, "cd"), "installed disk 1.1.0 as p/disk.wasm, in place of a file that was no plugin\n");
    }

    #[test]
    fn it_says_what_still_keeps_a_plugin_from_serving() {
        assert!(
            notes(&placement(None))[0].contains("waits for approval")
                || notes(&placement(None))[0].contains("wait for approval")
        );
        assert!(notes(&Placement { enabled: false, ..placement(None) })[0].contains("enabled = false"));
        assert!(notes(&Placement { granted: true, ..placement(None) }).is_empty());
    }
}
