//! The plugin folder as it is now: listed, read once into memory, never written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use data_encoding::HEXLOWER;
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use crate::gates::operator::MAX_TOML_BYTES;
use crate::minisign;
use crate::tier::Tier;

/// Files that are hashed to the end although they are too large to be kept.
const MAX_HASHED: u64 = 1024 * 1024 * 1024;
/// Most bytes of a plugin of any kind.
const MAX_WASM_BYTES: u64 = Tier::Compat.file_bytes();
/// Most files looked at.
const MAX_FILES: usize = 4096;

/// Which folder it is: a mount that went away leaves another one under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FolderId {
    device: u64,
    inode: u64,
}

/// A plugin file.
pub(crate) struct WasmFile {
    /// SHA-256 of all of it, lower-case hex.
    pub(crate) digest: String,
    /// The bytes; absent when there are too many.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Texts of the signatures beside it, or why they cannot be read.
    pub(crate) signatures: Vec<Result<String, String>>,
    /// How many there are.
    pub(crate) size: u64,
    /// Last change, in seconds since 1970-01-01 UTC.
    pub(crate) changed: i64,
}

/// What there is.
pub(crate) struct Listing {
    pub(crate) id: FolderId,
    /// By file name; an error is a file that is there and cannot be read.
    pub(crate) wasm: BTreeMap<String, io::Result<WasmFile>>,
    /// Texts of `*.toml` by file stem; one that cannot be read is text no parser accepts, saying why.
    pub(crate) toml: BTreeMap<String, String>,
    /// Names that a plugin could have, of links, folders and other things that are no plain files.
    pub(crate) odd: BTreeSet<String>,
}

/// The folder's identity, without looking into it.
pub(crate) fn identify(dir: &Path) -> io::Result<FolderId> {
    let meta = fs::metadata(dir)?;
    if !meta.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "is not a directory"));
    }
    Ok(FolderId { device: meta.dev(), inode: meta.ino() })
}

/// Reads the folder. Files named in `skip` are not opened and not listed.
pub(crate) fn list(dir: &Path, skip: &[String]) -> io::Result<Listing> {
    let id = identify(dir)?;
    let mut listing = Listing { id, wasm: BTreeMap::new(), toml: BTreeMap::new(), odd: BTreeSet::new() };
    for entry in fs::read_dir(dir)?.take(MAX_FILES) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_ignored(&name) || skip.contains(&name) {
            continue;
        }
        if !entry.file_type()?.is_file() {
            listing.odd.insert(name);
            continue;
        }
        if name.ends_with(".wasm") {
            match read_wasm(&entry.path()) {
                // Gone between listing and opening: as if it had never been listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                read => {
                    let signatures = signatures(&entry.path());
                    listing.wasm.insert(name, read.map(|file| WasmFile { signatures, ..file }));
                }
            }
        } else if let Some(stem) = name.strip_suffix(".toml") {
            let text =
                read_text(&entry.path(), MAX_TOML_BYTES).unwrap_or_else(|error| format!("= cannot be read: {error}"));
            listing.toml.insert(stem.to_owned(), text);
        }
    }
    Ok(listing)
}

/// Names that are nobody's plugin: hidden, temporary, or of another kind.
pub(crate) fn is_ignored(name: &str) -> bool {
    let subject = subject(name);
    name.starts_with('.') || name.ends_with('~') || !(subject.ends_with(".wasm") || name.ends_with(".toml"))
}

/// Endings of a signature's file, behind the whole name of what it signs.
pub(crate) const SIGNATURES: [&str; 2] = [".minisig", ".sig"];

/// The file that `name` says something about: a signature belongs to its plugin's file, and they settle together.
pub(crate) fn subject(name: &str) -> &str {
    let signed = SIGNATURES.iter().find_map(|ending| name.strip_suffix(ending));
    signed.filter(|signed| signed.ends_with(".wasm")).unwrap_or(name)
}

/// What lies beside `path` to say who made it.
pub(crate) fn signatures(path: &Path) -> Vec<Result<String, String>> {
    let found = SIGNATURES.iter().filter_map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match read_text(Path::new(&name), minisign::MAX_SIGNATURE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.map_err(|error| error.to_string())),
        }
    });
    found.collect()
}

/// Opens without following a link or waiting on a pipe that took the file's place meanwhile.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file")),
    }
}

fn read_wasm(path: &Path) -> io::Result<WasmFile> {
    let mut file = open(path)?;
    let changed = file.metadata()?.mtime();
    let mut bytes = Vec::new();
    (&mut file).take(MAX_WASM_BYTES + 1).read_to_end(&mut bytes)?;
    let mut hash = Sha256::new_with_prefix(&bytes);
    let mut size = bytes.len() as u64;
    if size <= MAX_WASM_BYTES {
        return Ok(WasmFile {
            digest: HEXLOWER.encode(&hash.finalize()),
            bytes: Some(bytes),
            signatures: Vec::new(),
            size,
            changed,
        });
    }
    let mut rest = file.take(MAX_HASHED);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match rest.read(&mut chunk)? {
            0 => break,
            read => {
                hash.update(&chunk[..read]);
                size += read as u64;
            }
        }
    }
    Ok(WasmFile { digest: HEXLOWER.encode(&hash.finalize()), bytes: None, signatures: Vec::new(), size, changed })
}

fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.take(most + 1).read_to_string(&mut text)?;
    match text.len() as u64 <= most {
        true => Ok(text),
        false => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is larger than {} KiB", most / 1024))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_files_of_the_two_kinds_are_listed() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in ["a.wasm", "a.toml", ".b.wasm", "c.wasm~", "d.wasm.tmp", "e.wasm.part", "readme.md"] {
            fs::write(dir.path().join(name), name).expect("write");
        }
        fs::create_dir(dir.path().join("f.wasm")).expect("make");
        symlink(dir.path().join("a.wasm"), dir.path().join("g.wasm")).expect("link");
        nix::unistd::mkfifo(&dir.path().join("h.wasm"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
        let listing = list(dir.path(), &[]).expect("listed");
        assert_eq!(listing.wasm.keys().collect::<Vec<_>>(), ["a.wasm"]);
        assert_eq!(listing.odd.iter().collect::<Vec<_>>(), ["f.wasm", "g.wasm", "h.wasm"]);
        assert_eq!(listing.toml.get("a").map(String::as_str), Some("a.toml"));
        assert!(list(dir.path(), &["a.wasm".into()]).expect("listed").wasm.is_empty());
    }

    #[test]
    fn a_signature_belongs_to_its_file_and_is_no_file_of_its_own() {
        assert_eq!([subject("a.wasm.minisig"), subject("a.wasm.sig"), subject("a.sig")], ["a.wasm", "a.wasm", "a.sig"]);
        assert!(!is_ignored("a.wasm.sig") && is_ignored("a.sig") && is_ignored(".a.wasm.sig"));
        let dir = tempfile::tempdir().expect("temp dir");
        for name in ["a.wasm", "a.wasm.minisig", "a.wasm.sig", "b.wasm"] {
            fs::write(dir.path().join(name), name).expect("write");
        }
        symlink(dir.path().join("a.wasm.sig"), dir.path().join("b.wasm.sig")).expect("link");
        let listing = list(dir.path(), &[]).expect("listed");
        let signatures = |name: &str| listing.wasm[name].as_ref().expect("readable").signatures.clone();
        assert_eq!(listing.wasm.len(), 2);
        assert_eq!(signatures("a.wasm"), [Ok("a.wasm.minisig".to_owned()), Ok("a.wasm.sig".to_owned())]);
        assert!(signatures("b.wasm")[0].is_err(), "a link is not followed");
    }

    #[test]
    fn a_file_too_large_to_keep_is_still_known_by_its_digest() {
        let dir = tempfile::tempdir().expect("temp dir");
        let bytes = vec![7; usize::try_from(MAX_WASM_BYTES).expect("fits") + 70_000];
        fs::write(dir.path().join("big.wasm"), &bytes).expect("write");
        let listing = list(dir.path(), &[]).expect("listed");
        let file = listing.wasm["big.wasm"].as_ref().expect("readable");
        assert_eq!((file.size, file.bytes.is_some()), (bytes.len() as u64, false));
        assert_eq!(file.digest, crate::compile::digest(&bytes));
    }
}
