//! Gates 1 and 2: the file as a file, and as a component that asks for nothing but the log.

use plan::manifest::{MAX_MANIFEST_BYTES, SECTION};
use plan::packed::unpack_within;
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator, WasmFeatures};

use super::No;
use crate::abi;
use crate::refusal::Code;

/// Most bytes of a plugin file.
pub(crate) const MAX_WASM_BYTES: u64 = 4 * 1024 * 1024;

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
}

/// Gate 1: the name.
pub(crate) fn name(file: &str) -> Result<(), No> {
    let stem = file.strip_suffix(".wasm").unwrap_or_default();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = (1..=128).contains(&stem.len()) && stem.bytes().all(allowed) && !stem.starts_with(['.', '-']);
    if good { Ok(()) } else { Err((Code::FileName, format!("file name `{}` is not accepted", file.escape_debug()))) }
}

/// Gate 1: the size.
pub(crate) fn size(bytes: u64) -> Result<(), No> {
    match bytes <= MAX_WASM_BYTES {
        true => Ok(()),
        false => Err((Code::FileTooBig, format!("{bytes} bytes; a plugin has at most {MAX_WASM_BYTES}"))),
    }
}

/// Gate 2: form, imports and exports.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, No> {
    form(bytes)?;
    let outline = read(bytes).map_err(broken)?;
    if outline.deepest > MAX_NESTING {
        return Err((Code::Malformed, format!("components are nested more than {MAX_NESTING} levels deep")));
    }
    // Imports come first: what a plugin asks for says more than which proposal it was compiled for.
    let (imports, section) = judge(outline)?;
    Validator::new_with_features(FEATURES).validate_all(bytes).map_err(broken)?;
    let manifest = section.map(|section| unpacked(&section, bytes)).transpose()?;
    Ok(Parsed { imports, manifest })
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

fn judge(outline: Outline) -> Result<(Vec<String>, Option<Vec<u8>>), No> {
    let Outline { imports, exports, mut manifests, deepest: _ } = outline;
    let granted = |name: &str| abi::IMPORTS.iter().any(|prefix| is_version(name, prefix));
    if let Some(name) = imports.iter().find(|name| !granted(name)) {
        return Err((Code::ForbiddenImport, format!("imports `{}`", name.escape_debug())));
    }
    if !exports.iter().any(|name| is_version(name, abi::EXPORT)) {
        return Err((Code::MissingExport, "does not export `viworks:plugin/verbs@1.x`".into()));
    }
    if manifests.len() > 1 {
        let cause = format!("{} manifest sections; a component has one", manifests.len());
        return Err((Code::ManifestMalformed, cause));
    }
    Ok((imports, manifests.pop()))
}

/// What the manifest section of the component `file` says.
fn unpacked(section: &[u8], file: &[u8]) -> Result<Vec<u8>, No> {
    unpack_within(section, file, MAX_MANIFEST_BYTES).ok_or_else(|| {
        let cause = format!("the manifest section does not unpack to at most {MAX_MANIFEST_BYTES} bytes of text");
        (Code::ManifestMalformed, cause)
    })
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
        let code = |bytes: &[u8]| parse(bytes).expect_err("refused").0;
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
