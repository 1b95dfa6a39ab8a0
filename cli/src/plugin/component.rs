//! From what a compiler leaves to what a host loads: a component with its manifest stamped in.

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use plan::manifest::{MAX_MANIFEST_BYTES, SECTION};
use plan::packed::{pack_within, unpack_within};
use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

/// The kind of section that carries a stamp.
const CUSTOM_SECTION: u8 = 0;

/// Makes a component of a core module built with `viworks-sdk` for `wasm32-unknown-unknown`.
///
/// # Errors
/// When `module` is no such module.
pub fn componentize(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let encode = || ComponentEncoder::default().validate(true).module(module)?.encode();
    let component =
        encode().context("cannot make a component of the module; does it export a plugin with `plugin!(…)`?")?;
    // Names for whoever takes a component apart, and what made it: a kilobyte that no host reads.
    let spare = |name: &[u8]| matches!(name, b"component-name" | b"producers");
    without(&component, spare).context("cannot tell the component's sections apart")
}

/// `component` with its manifest, JSON text, as its last section.
pub fn stamp(component: &[u8], manifest: &str) -> Vec<u8> {
    let manifest = pack_within(manifest, component);
    let mut content = Vec::with_capacity(manifest.len() + SECTION.len() + 5);
    push_leb128(&mut content, SECTION.len());
    content.extend_from_slice(SECTION.as_bytes());
    content.extend_from_slice(&manifest);
    let mut stamped = component.to_vec();
    stamped.push(CUSTOM_SECTION);
    push_leb128(&mut stamped, content.len());
    stamped.extend_from_slice(&content);
    stamped
}

/// The manifest stamped into `component`, its text; `None` when there is none.
///
/// # Errors
/// When the bytes are no component, carry two manifests, or one that does not unpack.
pub fn stamped(component: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let mut depth = 0_usize;
    let mut found = None;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                anyhow::bail!("it is a core module, not a component; build it with `viworks plugin build`");
            }
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::CustomSection(section) if depth == 1 && section.name() == SECTION => {
                anyhow::ensure!(found.is_none(), "it is stamped with two manifests, and no host would believe either");
                found = Some(section.data().to_vec());
            }
            _ => {}
        }
    }
    let Some(section) = found else { return Ok(None) };
    let text = unpack_within(&section, component, MAX_MANIFEST_BYTES);
    text.map(Some).with_context(|| format!("its manifest does not unpack to at most {MAX_MANIFEST_BYTES} bytes"))
}

/// `component` without its manifests; `None` when its sections cannot be told apart.
pub fn unstamped(component: &[u8]) -> Option<Vec<u8>> {
    without(component, |name| name == SECTION.as_bytes())
}

/// `component` without its own custom sections of such names.
fn without(component: &[u8], unwanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    const HEADER: usize = 8;
    let mut bare = component.get(..HEADER)?.to_vec();
    let mut rest = &component[HEADER..];
    while let Some((&kind, after)) = rest.split_first() {
        let (size, content) = leb128(after)?;
        let content_and_rest = content.split_at_checked(size)?;
        let whole = rest.len() - content_and_rest.1.len();
        let is_unwanted = kind == CUSTOM_SECTION
            && leb128(content_and_rest.0).is_some_and(|(length, rest)| rest.get(..length).is_some_and(&unwanted));
        if !is_unwanted {
            bare.extend_from_slice(&rest[..whole]);
        }
        rest = content_and_rest.1;
    }
    Some(bare)
}

/// A number, and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

/// SHA-256 of a plugin file, lower-case hex: what hosts pin.
pub fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

fn push_leb128(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit");
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest component: magic, version 13, layer 1.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn what_is_stamped_reads_back_at_every_length() {
        assert_eq!(stamped(EMPTY).expect("a component"), None);
        for length in [0, 1, 100, 127, 128, 16_384, 70_000] {
            let manifest = "x".repeat(length);
            let component = stamp(EMPTY, &manifest);
            wasmparser::Validator::new().validate_all(&component).expect("still a component");
            assert_eq!(stamped(&component).expect("a component"), Some(manifest.into_bytes()), "{length}");
            assert_eq!(unstamped(&stamp(&component, "{}")).expect("sections"), EMPTY, "{length}");
        }
    }

    #[test]
    fn a_stamp_inside_a_nested_component_does_not_count() {
        const NESTED_COMPONENT: u8 = 4;
        let inner = stamp(EMPTY, "{}");
        let mut outer = EMPTY.to_vec();
        outer.push(NESTED_COMPONENT);
        push_leb128(&mut outer, inner.len());
        outer.extend_from_slice(&inner);
        assert_eq!(stamped(&outer).expect("a component"), None);
        assert_eq!(unstamped(&stamp(&outer, "{}")).expect("sections"), outer);
    }

    #[test]
    fn a_core_module_is_told_from_a_component() {
        let error = stamped(b"\0asm\x01\0\0\0").expect_err("refused").to_string();
        assert!(error.contains("core module"), "{error}");
        assert!(stamped(b"PK\x03\x04").is_err());
        assert!(componentize(b"PK\x03\x04").is_err());
        assert_eq!(unstamped(&EMPTY[..5]), None);
        assert_eq!(unstamped(&[EMPTY, &[0, 9, 1]].concat()), None, "a section that is longer than the file");
    }

    #[test]
    fn a_digest_is_lower_case_hex() {
        assert_eq!(digest(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
