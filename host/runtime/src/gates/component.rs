//! Gates 1 and 2: the file as a file, and as a component that asks for nothing but the log, or for no more than
//! its operator consented to.

use plan::manifest::{Kind, MAX_MANIFEST_BYTES, SECTION};
use plan::packed::unpack_within;
use serde::Deserialize;
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator, WasmFeatures};

use super::No;
use crate::abi;
use crate::refusal::Code;
use crate::tier::{Consents, Tier};
use crate::world::nothing;

/// What a compiler for plugins may use. The engine has no more than this switched on.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::COMPONENT_MODEL);

/// Most levels of components and modules inside one another: compilers follow them on their stack.
const MAX_NESTING: usize = 32;

/// What can be known of a component without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Names of what it imports.
    pub(crate) imports: Vec<String>,
    /// What its manifest section says.
    pub(crate) manifest: Option<Vec<u8>>,
    /// Which kind of guest it is.
    pub(crate) tier: Tier,
    /// What it provides, going by what it exports.
    pub(crate) kind: Kind,
}

/// Gate 1: the name.
pub(crate) fn name(file: &str) -> Result<(), No> {
    let stem = file.strip_suffix(".wasm").unwrap_or_default();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = (1..=128).contains(&stem.len()) && stem.bytes().all(allowed) && !stem.starts_with(['.', '-']);
    if good { Ok(()) } else { Err((Code::FileName, format!("file name `{}` is not accepted", file.escape_debug()))) }
}

/// Gate 1: more bytes than a plugin of this tier has.
pub(crate) fn too_big(bytes: u64, tier: Tier) -> No {
    let most = tier.file_bytes();
    (Code::FileTooBig, format!("{bytes} bytes; a plugin of the {} tier has at most {most}", tier.as_str()))
}

/// Gates 1 and 2: size, form, imports and exports.
pub(crate) fn parse(bytes: &[u8], consents: &Consents) -> Result<Parsed, No> {
    let size = bytes.len() as u64;
    if size > Tier::Compat.file_bytes() {
        return Err(too_big(size, Tier::Compat));
    }
    // What is no component has no stamp by which anybody could have consented to it.
    if size > Tier::Native.file_bytes() && !Parser::is_component(bytes) {
        return Err(too_big(size, Tier::Native));
    }
    form(bytes)?;
    let outline = read(bytes).map_err(broken)?;
    if outline.deepest > MAX_NESTING {
        return Err((Code::Malformed, format!("components are nested more than {MAX_NESTING} levels deep")));
    }
    // Imports come first: what a plugin asks for says more than which proposal it was compiled for.
    let Judged { imports, section, tier, kind } = judge(outline, bytes, size, consents)?;
    Validator::new_with_features(FEATURES).validate_all(bytes).map_err(broken)?;
    let manifest = section.map(|section| unpacked(&section, bytes)).transpose()?;
    Ok(Parsed { imports, manifest, tier, kind })
}

/// The imports of a component, whatever they are.
pub(crate) fn imports(bytes: &[u8]) -> Result<Vec<String>, No> {
    form(bytes)?;
    read(bytes).map(|outline| outline.imports).map_err(broken)
}

fn form(bytes: &[u8]) -> Result<(), No> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() || (bytes.len() < 8 && MAGIC.starts_with(&bytes[..bytes.len().min(4)])) {
        return Err((Code::Truncated, format!("the file ends after {} bytes", bytes.len())));
    }
    if !bytes.starts_with(MAGIC) {
        return Err((Code::NotWasm, "the file does not begin with the wasm magic number".into()));
    }
    if Parser::is_core_wasm(bytes) {
        return Err((Code::CoreModule, "the file is a core module, not a component".into()));
    }
    if !Parser::is_component(bytes) {
        return Err((Code::NotWasm, "the file is of an unknown version of wasm".into()));
    }
    Ok(())
}

/// What the parser's complaint means for whoever installed the file.
fn broken(error: wasmparser::BinaryReaderError) -> No {
    let code = match error.message().starts_with("unexpected end") {
        true => Code::Truncated,
        false => Code::Malformed,
    };
    (code, format!("{} at byte {}", error.message(), error.offset()))
}

struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
    manifests: Vec<Vec<u8>>,
    /// Levels of nesting, 1 for a component alone.
    deepest: usize,
}

/// Reads the outermost component's imports, exports and manifest sections.
fn read(bytes: &[u8]) -> Result<Outline, wasmparser::BinaryReaderError> {
    let mut outline = Outline { imports: Vec::new(), exports: Vec::new(), manifests: Vec::new(), deepest: 0 };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => {
                depth += 1;
                outline.deepest = outline.deepest.max(depth);
            }
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    outline.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        outline.exports.push(export.name.name.to_owned());
                    }
                }
            }
            Payload::CustomSection(section) if depth == 1 && section.name() == SECTION => {
                outline.manifests.push(section.data().to_vec());
            }
            _ => {}
        }
    }
    Ok(outline)
}

struct Judged {
    imports: Vec<String>,
    /// The manifest's.
    section: Option<Vec<u8>>,
    tier: Tier,
    kind: Kind,
}

fn judge(outline: Outline, bytes: &[u8], size: u64, consents: &Consents) -> Result<Judged, No> {
    let tier = tier(&outline, bytes, size, consents)?;
    let Outline { imports, exports, mut manifests, deepest: _ } = outline;
    let exports = |prefix: &str| exports.iter().any(|name| is_version(name, prefix));
    let kind = match (exports(abi::EXPORT), exports(abi::RULE_EXPORT)) {
        (true, false) => Kind::Verb,
        (false, true) => Kind::Rule,
        (false, false) => {
            let cause = "exports neither `viworks:plugin/verbs@1.x` nor `viworks:plugin/rules@1.x`";
            return Err((Code::MissingExport, cause.into()));
        }
        (true, true) => return Err((Code::ManifestMalformed, "provides verbs and a rule; a plugin is one".into())),
    };
    if manifests.len() > 1 {
        let cause = format!("{} manifest sections; a component has one", manifests.len());
        return Err((Code::ManifestMalformed, cause));
    }
    Ok(Judged { imports, section: manifests.pop(), tier, kind })
}

/// What the manifest section of the component `file` says.
fn unpacked(section: &[u8], file: &[u8]) -> Result<Vec<u8>, No> {
    unpack_within(section, file, MAX_MANIFEST_BYTES).ok_or_else(|| {
        let cause = format!("the manifest section does not unpack to at most {MAX_MANIFEST_BYTES} bytes of text");
        (Code::ManifestMalformed, cause)
    })
}

/// The tier of a component by what it needs; refused if its operator did not consent to that.
fn tier(outline: &Outline, bytes: &[u8], size: u64, consents: &Consents) -> Result<Tier, No> {
    let granted = |name: &str| abi::IMPORTS.iter().any(|prefix| is_version(name, prefix));
    let forbidden = |name: &String| (Code::ForbiddenImport, format!("imports `{}`", name.escape_debug()));
    let mut foreign = outline.imports.iter().filter(|name| !granted(name));
    if let Some(name) = foreign.clone().find(|name| !nothing::answers(name)) {
        return Err(forbidden(name));
    }
    let wasi = foreign.next();
    let refusal = match wasi {
        _ if size > Tier::Native.file_bytes() => too_big(size, Tier::Native),
        Some(name) => forbidden(name),
        None => return Ok(Tier::Native),
    };
    let plugin = outline.manifests.first().and_then(|stamp| named(&unpacked(stamp, bytes).ok()?));
    match (consents.cover(plugin.as_deref()), plugin) {
        (true, _) => Ok(Tier::Compat),
        (false, Some(plugin)) => {
            let why = refusal.1;
            Err((
                Code::CompatTier,
                format!("{why}, and `{}.toml` does not say `tier = \"compat\"`", plugin.escape_debug()),
            ))
        }
        (false, None) => Err(refusal),
    }
}

/// The plugin that a stamp names, if it is a stamp at all.
fn named(stamp: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_slice::<Named>(stamp).ok().map(|named| named.name)
}

/// Whether `name` is `prefix` followed by the rest of a version, and nothing more.
fn is_version(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix).unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_plain_and_end_in_wasm() {
        for good in ["docker.wasm", "my-tool_2.1.wasm", "a.wasm"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["docker", ".wasm", ".hidden.wasm", "-x.wasm", "a b.wasm", "a/b.wasm", "ä.wasm", "a.wasm.sig"] {
            assert_eq!(name(bad).expect_err(bad).0, Code::FileName);
        }
    }

    #[test]
    fn bytes_that_are_no_component_say_what_they_are() {
        let code = |bytes: &[u8]| parse(bytes, &Consents::Nobody).expect_err("refused").0;
        assert_eq!(code(b""), Code::Truncated);
        assert_eq!(code(b"\0as"), Code::Truncated);
        assert_eq!(code(b"#!/bin/sh\n"), Code::NotWasm);
        assert_eq!(code(b"\0asm\x01\0\0\0"), Code::CoreModule);
        assert_eq!(code(b"\0asm\x63\0\x63\0"), Code::NotWasm);
        assert_eq!(code(b"\0asm\x0d\0\x01\0"), Code::MissingExport);
        assert_eq!(code(b"\0asm\x0d\0\x01\0\x07\xff"), Code::Truncated);
        assert_eq!(code(b"\0asm\x0d\0\x01\0\x0a\x02\x01\x09"), Code::Malformed);
    }

    #[test]
    fn only_versions_of_what_is_granted_are_granted() {
        assert!(is_version("viworks:plugin/log@1.0.0", "viworks:plugin/log@1."));
        for bad in [
            "viworks:plugin/log@1.",
            "viworks:plugin/log@1.0-x",
            "viworks:plugin/log@2.0.0",
            "wasi:cli/environment@0.2.0",
        ] {
            assert!(!is_version(bad, "viworks:plugin/log@1."), "{bad}");
        }
    }
}
