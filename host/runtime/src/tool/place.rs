//! All nine gates for a file that is about to be put into a plugin folder: by itself, beside its
//! neighbours there, and under the operator's file.

use std::path::Path;

use plan::manifest::Manifest;
use ports::plugins::Refusal;

use super::{ToolError, gates, on_deep_stack};
use crate::build::Build;
use crate::compile::digest;
use crate::folder::{self, Listing};
use crate::gates::operator;
use crate::gates::{self as rules, Gates};
use crate::refusal::Code;
use crate::tier::Consents;

/// A plugin that may take its place in a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// `<plugin name>.wasm`.
    pub file_name: String,
    /// What it says of itself.
    pub manifest: Manifest,
    /// SHA-256 of its bytes, lower-case hex.
    pub digest: String,
    /// What lies in its place now.
    pub replaces: Option<Predecessor>,
    /// Whether the operator's file says what it may do; else a host decides by its default.
    pub granted: bool,
    /// Whether the operator's file lets it serve.
    pub enabled: bool,
}

/// The file that a plugin takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its version, as its stamp says; absent when it has none that can be read.
    pub version: Option<String>,
    /// SHA-256 of its bytes; absent when they cannot be read.
    pub digest: Option<String>,
}

/// Leads `bytes`, found under `file_name`, through all nine gates as they would stand in `folder`, where
/// the file is to be called `<plugin name>.wasm`. Neighbours are judged by their stamps; none is run.
///
/// # Errors
/// The first gate that said no, or why the folder cannot be read.
pub fn place(bytes: &[u8], file_name: &str, folder: &Path) -> Result<Placement, ToolError> {
    on_deep_stack(|| {
        let listing =
            folder::list(folder, &[]).map_err(|source| ToolError::Folder { folder: folder.to_owned(), source })?;
        let gates = gates()?;
        let build = gates.check(file_name, bytes, &Consents::of(&listing.toml))?;
        let file_name = format!("{}.wasm", build.identity.name);
        beside_neighbours(&gates, &build, &file_name, &listing)?;
        let text = listing.toml.get(&build.identity.name).map(String::as_str);
        let refuse = |(code, cause): (Code, String)| code.refuse(cause, &build.identity.digest);
        let operator = operator::read(&build, text).map_err(refuse)?;
        if operator.excludes(&build) {
            let pin = operator.pin.as_deref().unwrap_or_default();
            let cause = format!("`{}.toml` pins `{pin}`, and this is {}", build.identity.name, build.identity.version);
            return Err(refuse((Code::Pinned, cause)).into());
        }
        let replaces = listing.wasm.get(&file_name).map(|read| {
            let bytes = read.as_ref().ok().and_then(|file| file.bytes.as_deref());
            Predecessor {
                version: bytes.and_then(|bytes| gates.stamp(bytes)).map(|manifest| manifest.version),
                digest: read.as_ref().ok().map(|file| file.digest.clone()),
            }
        });
        Ok(Placement {
            digest: digest(bytes),
            manifest: build.manifest,
            replaces,
            granted: operator.grant.is_some(),
            enabled: operator.enabled,
            file_name,
        })
    })
}

/// Gate 9 among the files of a folder: a name belongs to whoever has it, besides the file to be replaced.
fn beside_neighbours(gates: &Gates, build: &Build, file_name: &str, listing: &Listing) -> Result<(), Refusal> {
    let digest = &build.identity.digest;
    let (name, own) = (&build.identity.name, &build.manifest.verbs);
    for (file, read) in listing.wasm.iter().filter(|(file, _)| *file != file_name) {
        // What cannot be read, or passes no gate, has no name to defend.
        let bytes = read.as_ref().ok().and_then(|read| read.bytes.as_deref());
        let Some(other) = bytes.filter(|_| rules::name(file).is_ok()).and_then(|bytes| gates.stamp(bytes)) else {
            continue;
        };
        if other.name == *name {
            return Err(Code::PluginConflict.refuse(format!("plugin `{name}` is already provided by `{file}`"), digest));
        }
        if let Some(verb) = own.iter().find(|own| other.verbs.iter().any(|verb| verb.name == own.name)) {
            let cause = format!("verb `{}` is already provided by plugin `{}` (`{file}`)", verb.name, other.name);
            return Err(Code::VerbConflict.refuse(cause, digest));
        }
    }
    Ok(())
}
