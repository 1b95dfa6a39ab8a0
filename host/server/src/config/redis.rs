//! `[redis]`: the wire by which hosts call each other.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use super::database::Store;
use super::secret::Secret;
use super::{Wrong, wrong};

/// Absent: hosts find each other's work by looking at the store.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://USER:PASSWORD@HOST:PORT/DB`; `rediss://…` for TLS.
    pub url: Option<Secret>,
    /// First part of every name used there.
    pub prefix: String,
    /// Who signed the server's certificate, a PEM file; the public ones when absent.
    pub root_certificate: Option<PathBuf>,
}

impl Default for Redis {
    fn default() -> Redis {
        Redis { url: None, prefix: "viworks".to_owned(), root_certificate: None }
    }
}

impl Redis {
    pub(super) fn check(&self, store: &Store) -> Result<(), Wrong> {
        if self.prefix.is_empty() || self.prefix.chars().any(|c| !c.is_ascii_alphanumeric() && !"-_.:".contains(c)) {
            return wrong("redis.prefix", "letters, digits and any of -_.:");
        }
        let is_tls = self.url.as_ref().is_some_and(|url| url.reveal().starts_with("rediss://"));
        if self.root_certificate.is_some() && !is_tls {
            return wrong("redis.root_certificate", "nothing while redis.url does not say rediss://…");
        }
        match (&self.url, store) {
            (Some(_), Store::Sqlite { .. }) => {
                wrong("redis.url", "nothing while the store is an SQLite file, which one host has for itself")
            }
            (Some(url), Store::Postgres { .. })
                if !["redis://", "rediss://"].iter().any(|s| url.reveal().starts_with(s)) =>
            {
                wrong("redis.url", "redis://USER:PASSWORD@HOST:PORT/DB, or rediss://… for TLS")
            }
            (None | Some(_), _) => Ok(()),
        }
    }
    /// Text of the file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn root_certificate(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(file) = &self.root_certificate else { return Ok(None) };
        let text = std::fs::read(file);
        text.map(Some).with_context(|| format!("redis.root_certificate: {} cannot be read", file.display()))
    }
}
