//! `[tls]`: the certificate of both listeners.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, Wrong, wrong};
use crate::key_pair::Files;

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM: the host's certificate, then what leads to its authority.
    pub certificate: Option<PathBuf>,
    /// PEM: its private key.
    pub key: Option<PathBuf>,
    /// Make key and certificate here, for clients that pin the key.
    pub self_signed: bool,
    /// Whether agents show certificates: `off`, `offered` or `required`.
    pub agent_certificates: AgentCertificates,
    /// How long such a certificate is good; the last third of it is for renewing.
    pub agent_certificate_life_s: u64,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            certificate: None,
            key: None,
            self_signed: false,
            agent_certificates: AgentCertificates::Off,
            agent_certificate_life_s: 90 * 24 * 3600,
        }
    }
}

/// Whether agents show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentCertificates {
    /// None are made and none are asked for.
    Off,
    /// Agents get them; who shows none that counts is admitted all the same, and gets one.
    Offered,
    /// Who shows none has no session; machines still join without.
    Required,
}

/// An hour to a year.
const LIFE_S: std::ops::RangeInclusive<u64> = 3600..=365 * 24 * 3600;

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
    let Tls { certificate, key, self_signed, agent_certificates, agent_certificate_life_s } = &config.tls;
    if *agent_certificates != AgentCertificates::Off && !config.tls.is_on() {
        return wrong("tls.agent_certificates", "needs TLS: tls.certificate and tls.key, or tls.self_signed");
    }
    if !LIFE_S.contains(agent_certificate_life_s) {
        return wrong("tls.agent_certificate_life_s", "3600 to 31536000: an hour to a year");
    }
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
