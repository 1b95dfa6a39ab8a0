//! A pin: which key, whatever the certificate around it says of names and authorities.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use sha2::{Digest as _, Sha256};

use crate::TlsError;

/// SHA-256 of a certificate's public key (its SubjectPublicKeyInfo), written as 64 hexadecimal digits. A
/// certificate made anew for the same key keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// Not a pin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is 64 hexadecimal digits, as the host logs it at start")]
pub struct NoPin;

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Pin {
    type Err = NoPin;

    fn from_str(text: &str) -> Result<Pin, NoPin> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NoPin);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = text.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(NoPin)?;
        }
        Ok(Pin(bytes))
    }
}

/// The pin of a certificate's key.
///
/// # Errors
/// It is no certificate.
pub fn pin_of(certificate: &CertificateDer<'_>) -> Result<Pin, TlsError> {
    Ok(pin(&ParsedCertificate::try_from(certificate)?))
}

pub(crate) fn pin(certificate: &ParsedCertificate<'_>) -> Pin {
    Pin(Sha256::digest(certificate.subject_public_key_info()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_written_and_nothing_else_is_one() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<Pin>().map(|pin| pin.to_string()), Ok(text.clone()));
        assert_eq!(text.to_uppercase().parse::<Pin>().map(|pin| pin.to_string()), Ok(text.clone()));
        for bad in ["", &text[1..], &format!("{text}0"), &text.replace('f', "g"), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Pin>(), Err(NoPin), "{bad}");
        }
    }
}
