//! `viworks plugin keygen` and `sign`: keys and signatures in the form of `minisign`, whose tool reads them
//! and makes them too.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::Args;
use runtime::minisign::{KeyId, SecretKey};
use runtime::tool::SIGNATURES;
use serde_json::json;

use super::build;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Where to put a new pair of keys.
#[derive(Clone, Debug, Args)]
pub struct KeygenOptions {
    /// The secret key's file, made with mode 0600; the public one goes beside it, as KEY.pub
    #[arg(default_value = "viworks.key", value_name = "KEY")]
    pub key: PathBuf,
}

/// What to sign, with which key.
#[derive(Clone, Debug, Args)]
pub struct SignOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The secret key's file, without a password; - for standard input
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub key: PathBuf,
    /// One line that is signed with it, behind the date
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Where to put the signature [default: FILE.minisig]
    #[arg(long, value_name = "SIGNATURE")]
    pub out: Option<PathBuf>,
}

pub(super) fn keygen(options: &KeygenOptions, sink: &Sink) -> Result<Exit, Failure> {
    let secret = SecretKey::new(KeyId(rand::random()), rand::random());
    let public = secret.public();
    let beside = named(&options.key, ".pub");
    // The public one first: a secret key without it would be in the way of the next try.
    new_file(&beside, public.file().as_bytes(), 0o644)?;
    new_file(&options.key, secret.file().as_bytes(), 0o600).inspect_err(|_| _ = std::fs::remove_file(&beside))?;
    let (key_file, public_file) = (options.key.display().to_string(), beside.display().to_string());
    let answer = json!({
        "key_id": public.id.to_string(), "public_key": public.line(), "secret_key_file": key_file,
        "public_key_file": public_file,
    });
    sink.one(&answer, &public_file, || {
        let head = escape::line(&format!("key {} in {key_file} (secret) and {public_file}", public.id));
        format!(
            "{head}\n\nfor the trust file of whoever is to trust it:\n\n[[keys]]\nname = \"…\"\nkey = \"{}\"\n",
            public.line()
        )
    })?;
    Ok(Exit::Ok)
}

pub(super) fn sign(options: &SignOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let secret = secret(&options.key, sink)?;
    let mut comment = comment(&super::file_name(&options.file), Utc::now());
    if let Some(text) = &options.comment {
        if text.chars().any(char::is_control) {
            return Err(Failure::usage("--comment is one line of text"));
        }
        comment.push('\t');
        comment.push_str(text);
    }
    let out = options.out.clone().unwrap_or_else(|| named(&options.file, SIGNATURES[0]));
    build::write(&out, secret.sign(&bytes, &comment).as_bytes())
        .map_err(|error| Failure::new(Exit::Error, escape::line(&format!("{error:#}"))))?;
    let (id, file) = (secret.public().id.to_string(), out.display().to_string());
    let answer = json!({
        "key_id": id, "digest": super::component::digest(&bytes), "comment": comment, "file": file,
    });
    sink.one(&answer, &file, || escape::line(&format!("signed with key {id}: {file}")) + "\n")?;
    Ok(Exit::Ok)
}

/// What is signed with a file: when, and what it was called, as `minisign` says it.
pub(super) fn comment(file: &str, now: DateTime<Utc>) -> String {
    format!("timestamp:{}\tfile:{file}", now.timestamp())
}

/// The secret key in `file`.
pub(super) fn secret(file: &Path, sink: &Sink) -> Result<SecretKey, Failure> {
    let shown = escape::line(&file.display().to_string());
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        let others = std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
        if others {
            sink.say(&format!("note: others than you can read `{shown}`; chmod 600 keeps them from signing"))?;
        }
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|error| Failure::usage(format!("cannot read the key `{shown}`: {error}")))?;
    SecretKey::parse(&text).map_err(|error| Failure::usage(format!("`{shown}`: {error}")))
}

/// Writes a file that was not there before.
fn new_file(file: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let put = || -> std::io::Result<()> {
        let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
        out.write_all(bytes)?;
        out.sync_all()
    };
    put().map_err(|error| {
        let shown = escape::line(&file.display().to_string());
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::usage(format!("`{shown}` is there already, and a key that is lost is lost: name another"))
            }
            _ => Failure::new(Exit::Error, format!("cannot write `{shown}`: {error}")),
        }
    })
}

/// `file` with `ending` behind its whole name.
pub(super) fn named(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
