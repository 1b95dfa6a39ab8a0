//! `viworks plugin new`: a project that builds and passes its tests, out of what this program carries.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::vendor;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// What to make and where.
#[derive(Clone, Debug, Args)]
pub struct NewOptions {
    /// The plugin's name: a lower-case letter, then letters, digits, _ and -
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The project's folder [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Use the SDK in this folder instead of a copy in the project
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
    /// Make a rule of alerts instead of a verb
    #[arg(long)]
    pub alert: bool,
}

/// Which project gets the SDK.
#[derive(Clone, Debug, Args)]
pub struct SdkOptions {
    /// The plugin's project
    #[arg(default_value = ".", value_name = "DIR")]
    pub directory: PathBuf,
}

/// A template: where each file goes, and its text with `NAME`, `RUST` and `SDK` in it.
type Template = &'static [(&'static str, &'static str)];

/// A verb.
const VERB: Template = &[
    ("Cargo.toml", include_str!("../../template/Cargo.toml")),
    ("src/lib.rs", include_str!("../../template/lib.rs")),
    ("tests/golden/kernel.json", include_str!("../../template/golden/kernel.json")),
    ("tests/golden/failed.json", include_str!("../../template/golden/failed.json")),
    ("README.md", include_str!("../../template/README.md")),
    (".gitignore", "/target\n"),
];
/// A rule of alerts.
const ALERT: Template = &[
    ("Cargo.toml", include_str!("../../template/Cargo.toml")),
    ("src/lib.rs", include_str!("../../template/alert/lib.rs")),
    ("tests/golden/swings.json", include_str!("../../template/alert/golden/swings.json")),
    ("README.md", include_str!("../../template/alert/README.md")),
    (".gitignore", "/target\n"),
];

fn template(alert: bool) -> Template {
    if alert { ALERT } else { VERB }
}

/// Names that cargo or the SDK needs for something else.
const TAKEN: [&str; 12] = [
    "alloc",
    "core",
    "deps",
    "examples",
    "build",
    "incremental",
    "plan",
    "proc_macro",
    "std",
    "test",
    "viworks-sdk",
    "viworks-sdk-macros",
];

/// Makes the project in `folder`, with the SDK in `sdk` or a copy of it; a rule of alerts, if `alert`.
///
/// # Errors
/// When the name cannot be a plugin's, the folder is not empty, or a file cannot be written.
pub fn new(name: &str, folder: &Path, sdk: Option<&Path>, alert: bool) -> anyhow::Result<()> {
    if !is_name(name) {
        bail!("`{name}` cannot be a plugin's name: a lower-case letter, then letters, digits, `_`, `-`, at most 63");
    }
    let keyword = keywords().contains(&name);
    if keyword || TAKEN.contains(&name) {
        bail!("`{name}` is a name that Rust or the SDK needs itself: take another, e.g. `my-{name}`");
    }
    let shown = folder.display();
    match std::fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!("`{shown}` is not empty: name another folder with --dir");
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("`{shown}` cannot be read")),
    }
    let path = match sdk {
        Some(sdk) => {
            let sdk = sdk.canonicalize().with_context(|| format!("`{}` cannot be read", sdk.display()))?;
            let manifest = std::fs::read_to_string(sdk.join("Cargo.toml")).unwrap_or_default();
            if !manifest.contains("name = \"viworks-sdk\"") {
                bail!("`{}` is not the SDK: its Cargo.toml names no crate `viworks-sdk`", sdk.display());
            }
            sdk.to_str().with_context(|| format!("`{}` is not UTF-8", sdk.display()))?.to_owned()
        }
        None => format!("{}/{}", vendor::FOLDER, vendor::CRATE),
    };
    let put = |file: &str, text: &str| -> anyhow::Result<()> {
        let file = folder.join(file);
        let put = std::fs::create_dir_all(file.parent().unwrap_or(folder)).and_then(|()| std::fs::write(&file, text));
        put.with_context(|| format!("cannot write `{}`", file.display()))
    };
    let path = toml::Value::from(path).to_string();
    for (file, text) in template(alert) {
        let text = text.replace("\"SDK\"", &path).replace("\"RUST\"", &format!("\"{}\"", vendor::rust_version()));
        put(file, &text.replace("NAME", name))?;
    }
    if sdk.is_none() {
        vendor::write(folder)?;
        put("Cargo.lock", &vendor::lock())?;
    }
    Ok(())
}

/// As a host wants it: `[a-z][a-z0-9_-]{0,62}`.
fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|letter: char| letter.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

/// Words that no crate can be called.
fn keywords() -> [&'static str; 47] {
    [
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
        "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
        "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super",
        "trait", "true", "try", "type", "typeof", "unsafe", "use", "where",
    ]
}

pub(super) fn command(options: &NewOptions, sink: &Sink) -> Result<Exit, Failure> {
    let name = &options.name;
    let folder = options.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    new(name, &folder, options.sdk.as_deref(), options.alert)
        .map_err(|error| Failure::usage(escape::line(&format!("{error:#}"))))?;
    let shown = folder.display().to_string();
    let files: Vec<&str> = template(options.alert).iter().map(|(file, _)| *file).collect();
    sink.one(&json!({ "name": name, "folder": shown, "files": files }), &shown, || escape::line(&shown) + "\n")?;
    sink.say(&escape::line(&format!("made `{name}`; next: cd {shown} && cargo test && viworks plugin build")))?;
    Ok(Exit::Ok)
}

pub(super) fn sdk_command(options: &SdkOptions, sink: &Sink) -> Result<Exit, Failure> {
    let project = &options.directory;
    let failed = |error: anyhow::Error| Failure::new(Exit::Error, escape::line(&format!("{error:#}")));
    if !project.join("Cargo.toml").is_file() {
        let shown = escape::line(&project.display().to_string());
        return Err(Failure::usage(format!("`{shown}` is not a crate: it has no Cargo.toml")));
    }
    vendor::write(project).map_err(failed)?;
    let folder = project.join(vendor::FOLDER).display().to_string();
    let version = env!("CARGO_PKG_VERSION");
    sink.one(&json!({ "folder": folder, "version": version }), &folder, || escape::line(&folder) + "\n")?;
    sink.say(&format!("the SDK of viworks {version} is there now"))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_refused_where_it_cannot_be() {
        let dir = tempfile::tempdir().expect("a folder");
        let refused = |name: &str, folder: &Path| new(name, folder, None, false).expect_err("refused").to_string();
        for name in ["", "Disk", "1st", "a b", "../x", "dísk"] {
            assert!(refused(name, &dir.path().join("x")).contains("cannot be a plugin's name"), "{name}");
        }
        for name in ["match", "test", "plan", "std"] {
            assert!(refused(name, &dir.path().join("x")).contains("needs itself"), "{name}");
        }
        assert!(!dir.path().join("x").exists());
        std::fs::write(dir.path().join("mine"), "").expect("written");
        assert!(refused("disk", dir.path()).contains("is not empty"));
        let other = new("disk", &dir.path().join("y"), Some(dir.path()), false).expect_err("refused").to_string();
        assert!(other.contains("is not the SDK"), "{other}");
    }

    #[test]
    fn the_templates_leave_no_placeholder_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        for alert in [false, true] {
            let folder = dir.path().join(if alert { "a" } else { "v" });
            new("disk", &folder, None, alert).expect("made");
            for (file, _) in template(alert) {
                let text = std::fs::read_to_string(folder.join(file)).expect("written");
                assert!(
                    !text.contains("NAME") && !text.contains("\"SDK\"") && !text.contains("\"RUST\""),
                    "{file}: {text}"
                );
            }
        }
    }
}
