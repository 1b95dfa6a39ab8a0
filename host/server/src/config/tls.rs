//! `[tls]`: the certificate of both listeners.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, Wrong, wrong};
use crate::key_pair::Files;

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM: the host's certificate, then what leads to its authority.
    pub certificate: Option<PathBuf>,
    /// PEM: its private key.
    pub key: Option<PathBuf>,
    /// Make key and certificate here, for clients that pin the key.
    pub self_signed: bool,
}

impl Tls {
    /// Whether the listeners speak TLS.
    pub fn is_on(&self) -> bool {
        self.self_signed || self.certificate.is_some()
    }

    /// The operator's own files, if there are any.
    pub(crate) fn files(&self) -> Option<Files> {
        Some(Files { certificate: self.certificate.clone()?, key: self.key.clone()? })
    }
}

/// Says what could never work.
pub(super) fn check(config: &Config) -> Result<(), Wrong> {
    let Tls { certificate, key, self_signed } = &config.tls;
    match (certificate, key) {
        (Some(_), None) => return wrong("tls.certificate", "needs tls.key, the file of its private key"),
        (None, Some(_)) => return wrong("tls.key", "needs tls.certificate, the file of its certificate"),
        (Some(_), Some(_)) if *self_signed => {
            return wrong("tls.self_signed", "is for a host without tls.certificate; say one of them");
        }
        _ => {}
    }
    let Some(files) = config.tls.files() else { return Ok(()) };
    files
        .read()
        .and_then(|pair| pair.certified())
        .map(drop)
        .or_else(|error| wrong("tls.certificate", format!("{error:#}")))
}
