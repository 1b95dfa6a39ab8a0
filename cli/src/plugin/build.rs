//! `viworks plugin build`: a crate becomes one file that a host loads.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use clap::Args;
use plan::manifest::Manifest;
use plan::packed::pack;
use runtime::tool::ToolError;
use serde::Deserialize;
use serde_json::json;

use super::check;
use super::component::{componentize, digest, stamp};
use super::toolchain::{TARGET, ThisMachine, Toolchain, own_cargo};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape, table};

/// Which crate, and where to.
#[derive(Clone, Debug, Args)]
pub struct BuildOptions {
    /// The plugin's crate
    #[arg(default_value = ".", value_name = "DIR")]
    pub directory: PathBuf,
    /// Where to put the component [default: plugins/NAME.wasm in cargo's target directory]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A plugin that passed every gate that looks at one file alone.
#[derive(Clone, Debug)]
pub struct Built {
    /// The stamped component.
    pub bytes: Vec<u8>,
    /// What it says of itself.
    pub manifest: Manifest,
    /// SHA-256 of the bytes, lower-case hex.
    pub digest: String,
    /// What compiled it.
    pub toolchain: Toolchain,
    /// Cargo's target directory.
    pub target: PathBuf,
}

/// The size a plugin should stay below, bytes.
pub const COMFORTABLE_SIZE: usize = 200 * 1024;

/// The variable that tells the SDK's `plugin!` where to find what the plugin says of itself.
const DESCRIBED: &str = "VIWORKS_DESCRIBED";

/// Flags for the linker. It leaves five bytes for every address; nearly all fit into two or three. An address
/// behind half a MiB of stack is a byte shorter than one behind the usual whole.
const LINKER: &[&str] = &["-Clink-arg=--compress-relocations", "-Clink-arg=-zstack-size=524288"];

/// Profile overrides.
const PROFILE: &[&str] = &[
    "profile.release.lto=\"fat\"",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=true",
    "profile.release.debug=\"none\"",
    "profile.release.overflow-checks=true",
];

/// Compiles the crate in `directory`, makes it a component, asks it for its manifest, stamps that in,
/// and leads the result through the gates. The compiler's messages go to standard error.
///
/// # Errors
/// The first thing that went wrong, from a missing compiler to a refusing gate.
pub fn build(directory: &Path) -> anyhow::Result<Built> {
    let package = Package::at(directory)?;
    let toolchain = Toolchain::choose(&ThisMachine { directory }).map_err(anyhow::Error::msg)?;
    let _turn = turn(&package)?;
    let component = compile(&package, &toolchain, None)?;
    let manifest = runtime::tool::describe(&component)?;
    // Again, with what it says of itself in place of all that it says it from: schemas are half of a plugin.
    let described = package.guest().join(format!("{}.described", package.name));
    write(&described, &pack(&manifest))?;
    let component = compile(&package, &toolchain, Some(&described))?;
    let bytes = stamp(&component, &manifest);
    let checked = runtime::tool::check(&bytes, &format!("{}.wasm", package.name))?;
    Ok(Built { digest: digest(&bytes), bytes, manifest: checked.manifest, toolchain, target: package.target })
}

/// Held while a plugin is compiled, so that nobody else's compiler writes what is about to be read.
fn turn(package: &Package) -> anyhow::Result<File> {
    let folder = package.guest();
    let failed = || format!("cannot use `{}`", folder.display());
    std::fs::create_dir_all(&folder).with_context(failed)?;
    let file = File::create(folder.join(".viworks-build")).with_context(failed)?;
    file.lock().with_context(failed)?;
    Ok(file)
}

/// The crate, as cargo knows it.
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest: PathBuf,
    /// Workspaces of crates that it takes from folders outside of its own.
    elsewhere: BTreeSet<PathBuf>,
    pub(super) target: PathBuf,
    optimize: Optimize,
}

/// What a plugin is compiled for: `[package.metadata.viworks] optimize = "speed" | "size"`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Optimize {
    /// A call takes three quarters of the time that it takes otherwise.
    #[default]
    Speed,
    /// A fifth smaller: for what would be above [`COMFORTABLE_SIZE`].
    Size,
}

impl Optimize {
    fn profile(self) -> &'static str {
        match self {
            Optimize::Speed => "profile.release.opt-level=2",
            Optimize::Size => "profile.release.opt-level=\"z\"",
        }
    }
}

impl Package {
    /// The crate in `directory`.
    pub(super) fn at(directory: &Path) -> anyhow::Result<Package> {
        let manifest = directory.join("Cargo.toml");
        let manifest = manifest.canonicalize().with_context(|| {
            format!("`{}` is not a crate: `{}` cannot be read", directory.display(), manifest.display())
        })?;
        let mut cargo = std::process::Command::new(own_cargo());
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo; is Rust installed?")?;
        if !output.status.success() {
            bail!("cargo cannot read `{}`; its message is above", manifest.display());
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("cannot read what cargo says of the crate")?;
        let found = metadata.packages.into_iter().find(|package| package.manifest_path == manifest);
        let package =
            found.with_context(|| format!("`{}` is a workspace, not a crate: name one", directory.display()))?;
        let is_plugin = |target: &MetadataTarget| target.crate_types.iter().any(|kind| kind == "cdylib");
        if !package.targets.iter().any(is_plugin) {
            bail!(
                "crate `{}` is not built as a plugin: add `[lib] crate-type = [\"cdylib\", \"rlib\"]` to its Cargo.toml",
                package.name
            );
        }
        let taken = package.dependencies.iter().filter_map(|dependency| dependency.path.as_deref());
        let elsewhere = taken.filter(|path| !path.starts_with(&metadata.workspace_root)).map(outermost).collect();
        let optimize = match package.metadata {
            Some(MetadataOurs { viworks: Some(ours) }) => ours.optimize,
            Some(MetadataOurs { viworks: None }) | None => Optimize::default(),
        };
        Ok(Package { name: package.name, manifest, elsewhere, target: metadata.target_directory, optimize })
    }

    /// A directory of its own: the host's build neither waits for a plugin's nor is thrown away by it.
    fn guest(&self) -> PathBuf {
        self.target.join("guest")
    }
}

/// The folder of the workspace that the crate at `path` belongs to: the outermost one with a manifest.
fn outermost(path: &Path) -> PathBuf {
    let has_manifest = |folder: &&Path| folder.join("Cargo.toml").is_file();
    path.ancestors().filter(has_manifest).last().unwrap_or(path).to_owned()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
    dependencies: Vec<MetadataDependency>,
    metadata: Option<MetadataOurs>,
}

/// What a `Cargo.toml` says for tools: ours, and others'.
#[derive(Deserialize)]
struct MetadataOurs {
    viworks: Option<Wishes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wishes {
    #[serde(default)]
    optimize: Optimize,
}

#[derive(Deserialize)]
struct MetadataDependency {
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    crate_types: Vec<String>,
}

/// One line of cargo's `--message-format json`; only what tells where the module went.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Compiles the crate to a component. `described` holds what it says of itself, packed, once that is known.
fn compile(package: &Package, toolchain: &Toolchain, described: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let module = module(package, toolchain, described)?;
    let module = std::fs::read(&module).with_context(|| format!("cannot read `{}`", module.display()))?;
    componentize(&module)
}

/// Compiles the core module and says where it is.
fn module(package: &Package, toolchain: &Toolchain, described: Option<&Path>) -> anyhow::Result<PathBuf> {
    let mut cargo = toolchain.cargo();
    cargo.args(["build", "--release", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    cargo.arg("--manifest-path").arg(&package.manifest);
    cargo.arg("--target-dir").arg(package.guest());
    cargo.args(["--config", package.optimize.profile()]);
    cargo.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
    cargo.args(toolchain.build_arguments()).envs(toolchain.build_environment().iter().copied());
    // Flags meant for this machine's own programs would break or bloat a guest.
    cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", remapped(package));
    match described {
        Some(file) => cargo.env(DESCRIBED, file),
        None => cargo.env_remove(DESCRIBED),
    };
    cargo.current_dir(package.manifest.parent().unwrap_or(Path::new(".")));
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo; is Rust installed?")?;
    if !output.status.success() {
        bail!(
            "crate `{}` does not compile for {TARGET} with {toolchain}; the compiler's messages are above",
            package.name
        );
    }
    let is_module = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "wasm");
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let modules = lines
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.manifest_path == package.manifest)
        .flat_map(|message| message.filenames);
    let module = modules.into_iter().find(is_module);
    module.with_context(|| format!("cargo built crate `{}` but no .wasm file; is it a cdylib?", package.name))
}

/// Compiler flags: those for the linker, and some that keep this machine's paths out of panic messages, and so out of the digest. Crates
/// of the project's own workspace need none: cargo calls the compiler with paths from there.
fn remapped(package: &Package) -> OsString {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let sources = home.map(|home| home.join("registry/src"));
    let mut from: Vec<(PathBuf, &str)> = package.elsewhere.iter().map(|path| (path.clone(), "deps")).collect();
    if let Some(sources) = sources {
        // One folder for each registry; before the first download there is none to name.
        let registries = std::fs::read_dir(&sources).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut registries: Vec<PathBuf> = registries.collect();
        registries.sort();
        from.push((sources, "deps"));
        from.extend(registries.into_iter().map(|registry| (registry, "deps")));
    }
    let mut flags = OsString::from(LINKER.join("\x1f"));
    for (path, to) in from {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(path);
        flags.push("=");
        flags.push(to);
    }
    flags
}

/// Writes `bytes` to `file` so that nobody ever sees half of them.
///
/// # Errors
/// When the folder cannot be made or written to.
pub fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().with_context(|| format!("`{}` is not a file name", file.display()))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = folder.join(temporary);
    let put = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut out = std::fs::File::create(&temporary)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        std::fs::rename(&temporary, file)?;
        // The new name is safe once the folder is.
        std::fs::File::open(folder)?.sync_all()
    };
    put()
        .inspect_err(|_| _ = std::fs::remove_file(&temporary))
        .with_context(|| format!("cannot write `{}`", file.display()))
}

pub(super) fn command(options: &BuildOptions, sink: &Sink) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| Failure::new(Exit::Error, escape::line(&format!("{error:#}")));
    let built = match build(&options.directory).map_err(anyhow::Error::downcast::<ToolError>) {
        Ok(built) => built,
        Err(Ok(ToolError::Refused(refusal))) => {
            sink.one(&check::answer(&refusal), &refusal.code, || check::page(&refusal))?;
            return Ok(Exit::Error);
        }
        Err(Ok(error)) => return Err(failed(error.into())),
        Err(Err(error)) => return Err(failed(error)),
    };
    let Manifest { name, version, verbs, .. } = &built.manifest;
    let kind = built.manifest.kind();
    let default = || built.target.join("plugins").join(format!("{name}.wasm"));
    let out = options.out.clone().unwrap_or_else(default);
    write(&out, &built.bytes).map_err(failed)?;
    let verbs: Vec<&str> = verbs.iter().map(|verb| verb.name.as_str()).collect();
    let size = built.bytes.len();
    sink.say(&format!("built with {}", built.toolchain))?;
    if size > COMFORTABLE_SIZE {
        sink.say(&format!("note: {size} bytes; below {COMFORTABLE_SIZE} a plugin starts fastest"))?;
    }
    let file = out.display().to_string();
    let answer = json!({
        "name": name, "version": version, "kind": kind.as_str(), "verbs": verbs, "size_bytes": size, "digest": built.digest, "file": file,
    });
    sink.one(&answer, &file, || {
        let mut page = table::card(&[
            ("plugin", format!("{name} {version}")),
            ("provides", check::provides(&built.manifest)),
            ("size", format!("{size} bytes")),
            ("digest", built.digest.clone()),
        ]);
        let _ = writeln!(page, "{}", escape::line(&file));
        page
    })?;
    Ok(Exit::Ok)
}
