//! `viworks plugin verify`: who signed a file, and whether that counts for whoever trusts these keys.

use std::path::{Path, PathBuf};

use clap::Args;
use ports::plugins::Signature;
use runtime::Trust;
use runtime::minisign::{self, PublicKey};
use runtime::tool::{self, SIGNATURES};
use serde_json::json;

use super::check;
use super::sign::named;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Which file, and whom to trust.
#[derive(Clone, Debug, Args)]
pub struct VerifyOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A public key: a `.pub` file, or its second line
    #[arg(long, value_name = "PUB", conflicts_with = "trust", required_unless_present = "trust")]
    pub key: Option<String>,
    /// A host's trust file
    #[arg(long, value_name = "TRUST")]
    pub trust: Option<PathBuf>,
    /// The signature's file [default: FILE.minisig and FILE.sig]
    #[arg(long, value_name = "SIGNATURE")]
    pub signature: Option<PathBuf>,
}

pub(super) fn command(options: &VerifyOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let trust = match (&options.trust, &options.key) {
        (Some(file), _) => trust(file)?,
        (None, Some(key)) => Trust::only("the key given", public(key)?),
        (None, None) => return Err(Failure::usage("say whom to trust: --key PUB or --trust TRUST")),
    };
    let texts: Vec<String> = match &options.signature {
        Some(file) => vec![read(file)?],
        None => beside(&options.file)?.into_iter().map(|(_, text)| text).collect(),
    };
    let (signature, judged) = tool::signature(&bytes, &texts, &trust);
    match judged {
        Ok(()) => {
            let Some(Signature { key_id, signer, comment, .. }) = signature else {
                return Err(Failure::new(Exit::Error, "a signature that counts is one that was read"));
            };
            let said = |text: Option<String>| text.unwrap_or_default();
            let answer = json!({ "ok": true, "key_id": key_id, "signer": signer, "comment": comment });
            let (id, signer, comment) = (said(key_id), said(signer), said(comment));
            sink.one(&answer, &id, || {
                let line = format!("good: signed by `{signer}` ({id}): {comment}");
                escape::line(&line) + "\n"
            })?;
            Ok(Exit::Ok)
        }
        Err(refusal) => {
            sink.one(&check::answer(&refusal), &refusal.code, || check::page(&refusal))?;
            Ok(Exit::Error)
        }
    }
}

/// The trust file of a host.
pub(super) fn trust(file: &Path) -> Result<Trust, Failure> {
    Trust::load(file).map_err(|error| Failure::usage(escape::line(&error.to_string())))
}

fn public(key: &str) -> Result<PublicKey, Failure> {
    let text = if Path::new(key).is_file() { read(Path::new(key))? } else { key.to_owned() };
    PublicKey::parse(&text).map_err(|error| Failure::usage(escape::line(&format!("`{key}`: {error}"))))
}

/// Signatures beside `file`, with the files they stand in.
pub(super) fn beside(file: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    let files = SIGNATURES.iter().map(|ending| named(file, ending)).filter(|file| file.exists());
    files.map(|file| read(&file).map(|text| (file, text))).collect()
}

fn read(file: &Path) -> Result<String, Failure> {
    let shown = escape::line(&file.display().to_string());
    let unreadable = |error: String| Failure::usage(format!("cannot read `{shown}`: {error}"));
    let large = std::fs::metadata(file).is_ok_and(|meta| meta.len() > minisign::MAX_SIGNATURE_BYTES);
    if large {
        return Err(unreadable(format!("it has more than {} bytes", minisign::MAX_SIGNATURE_BYTES)));
    }
    std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))
}
