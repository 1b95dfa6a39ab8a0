//! The tag of a state: who has read one can say so when they change it.

use std::fmt::{self, Debug, Write as _};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// Bytes of the digest that a tag tells.
const LENGTH: usize = 16;

/// A short digest of everything in `state`; another state has another.
pub fn of(state: &impl Debug) -> String {
    let mut digest = Written(Sha256::new());
    write!(digest, "{state:?}").expect("a digest takes whatever is written");
    HEXLOWER.encode(&digest.0.finalize()[..LENGTH])
}

/// A digest of a text as it is written, which need not be in memory for it.
struct Written(Sha256);

impl fmt::Write for Written {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256_hex;

    #[test]
    fn a_tag_is_the_first_half_of_the_digest_of_all_that_is_told() {
        let state = ("a", [1, 2], Some("\n"));
        assert_eq!(of(&state), sha256_hex(format!("{state:?}").as_bytes())[..32]);
        assert_ne!(of(&state), of(&("a", [1, 3], Some("\n"))));
    }
}
