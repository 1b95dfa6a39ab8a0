//! What a host gave this agent to show when it connects: certificates of its own keys.
//!
//! Invariant: a certificate is kept only beside the key that it is of, and chosen by it; so whatever was killed
//! between two files, what is shown fits the key that HELLO is signed with.

use std::path::{Path, PathBuf};

use ed25519_dalek::VerifyingKey;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::log::sync_parent;
use crate::private_file::{IdentityError, read_secret, write_secret};

fn path(data: &Path) -> PathBuf {
    data.join("agent.crt")
}

fn next_path(data: &Path) -> PathBuf {
    data.join("agent.next-crt")
}

/// Keeps a certificate of `key`, or of the one that is to take its place.
///
/// # Errors
/// It is of neither, or cannot be written.
pub fn keep(data: &Path, pem: &str, key: &VerifyingKey, next: Option<&VerifyingKey>) -> Result<(), IdentityError> {
    let chain = tls::certificates(pem.as_bytes());
    let is_of = |key: &VerifyingKey| chain.as_ref().is_ok_and(|chain| is_of(chain, key));
    let place = match next {
        _ if is_of(key) => path(data),
        Some(next) if is_of(next) => next_path(data),
        _ => {
            let message = "what the host sent for it is no certificate of a key of this agent".to_owned();
            return Err(IdentityError::Malformed { path: path(data), message });
        }
    };
    write_secret(&place, pem)
}

/// The certificate of `key`, if there is one.
///
/// # Errors
/// A file cannot be read, or others may.
pub fn of(data: &Path, key: &VerifyingKey) -> Result<Option<Vec<CertificateDer<'static>>>, IdentityError> {
    for place in [path(data), next_path(data)] {
        let Some(pem) = read_secret(&place)? else { continue };
        if let Some(chain) = tls::certificates(pem.as_bytes()).ok().filter(|chain| is_of(chain, key)) {
            return Ok(Some(chain));
        }
    }
    Ok(None)
}

/// The next key took the other's place: so does its certificate, if there is one.
///
/// # Errors
/// [`IdentityError::Io`].
pub fn adopt_next(data: &Path) -> Result<(), IdentityError> {
    let (from, to) = (next_path(data), path(data));
    let fail = |doing| {
        let path = from.clone();
        move |source| IdentityError::Io { doing, path, source }
    };
    match std::fs::rename(&from, &to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(fail("rename")(error)),
        Ok(()) => sync_parent(&to).map_err(fail("sync the directory of")),
    }
}

fn is_of(chain: &[CertificateDer<'static>], key: &VerifyingKey) -> bool {
    let named = chain.first().and_then(|certificate| tls::named(certificate).ok());
    named.and_then(|named| named.ed25519).is_some_and(|found| found == key.to_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    // Of the keys with seeds of 32 bytes 1 and 2; whoever signed them, and when, is nothing to an agent.
    const FIRST: &str = include_str!("../tests/agent/first.crt");
    const SECOND: &str = include_str!("../tests/agent/second.crt");

    #[test]
    fn a_certificate_is_kept_by_its_key_and_found_by_it_whatever_was_killed_between_two_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path();
        let [first, second, third] =
            [1, 2, 3].map(|seed| ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key());
        let has = |key| of(data, key).expect("read").is_some();
        keep(data, FIRST, &first, None).expect("kept");
        assert!(keep(data, SECOND, &first, None).is_err() && keep(data, SECOND, &first, Some(&third)).is_err());
        assert!(keep(data, "nonsense", &first, Some(&second)).is_err());
        assert_eq!([&first, &second, &third].map(has), [true, false, false]);
        keep(data, SECOND, &first, Some(&second)).expect("kept");
        assert_eq!([&first, &second].map(has), [true, true], "whichever key is in place");
        adopt_next(data).expect("renamed");
        adopt_next(data).expect("nothing to rename");
        assert_eq!([&first, &second].map(has), [false, true]);
        let open = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(path(data), open).expect("set");
        assert!(matches!(of(data, &second), Err(IdentityError::Exposed { .. })));
    }
}
