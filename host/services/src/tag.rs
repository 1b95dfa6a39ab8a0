//! The tag of a state: who has read one can say so when they change it.

use std::fmt::Debug;

use crate::digest::sha256_hex;

/// Characters of a tag.
const LENGTH: usize = 32;

/// A short digest of everything in `state`; another state has another.
pub fn of(state: &impl Debug) -> String {
    let mut digest = sha256_hex(format!("{state:?}").as_bytes());
    digest.truncate(LENGTH);
    digest
}
