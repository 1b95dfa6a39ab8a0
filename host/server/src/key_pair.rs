//! A certificate and its private key as an operator's files hold them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustls::sign::CertifiedKey;

/// An operator's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate and what leads to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What is in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// One is away, or everybody may read the key.
    pub fn read(&self) -> anyhow::Result<Pair> {
        let cannot = |path: &Path| format!("{} cannot be read", path.display());
        let certificate = fs::read(&self.certificate).with_context(|| cannot(&self.certificate))?;
        let mode = fs::metadata(&self.key).with_context(|| cannot(&self.key))?.mode();
        if mode & 0o007 != 0 {
            let path = self.key.display();
            bail!("{path} is open to everybody (mode {:o}); run: chmod o= {path}", mode & 0o777);
        }
        let key = fs::read(&self.key).with_context(|| cannot(&self.key))?;
        Ok(Pair { certificate, key })
    }
}

impl Pair {
    /// Whether they are a certificate and its key.
    ///
    /// # Errors
    /// They are not PEM, or belong to others.
    pub fn certified(&self) -> anyhow::Result<CertifiedKey> {
        let chain = tls::certificates(&self.certificate).context("the certificate's file")?;
        let key = tls::private_key(&self.key).context("the key's file")?;
        CertifiedKey::from_der(chain, key, &tls::provider()).context("certificate and key do not fit together")
    }
}
