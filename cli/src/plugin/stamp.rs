//! `viworks plugin stamp`: asks a component what it is and writes the answer into it.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use runtime::Tier;
use runtime::tool::{self, ToolError};
use serde_json::json;

use super::component::{digest, stamp, unstamped};
use super::{build, check};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Which file.
#[derive(Clone, Debug, Args)]
pub struct StampOptions {
    /// The component; a stamp that it has is replaced
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to put the result [default: FILE itself]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

pub(super) fn command(options: &StampOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let name = super::file_name(&options.file);
    let refused = |error: ToolError| match error {
        ToolError::Refused(refusal) => Failure::new(Exit::Error, check::page(&refusal).trim_end().to_owned()),
        error => Failure::new(Exit::Error, escape::line(&error.to_string())),
    };
    // What cannot be taken apart is refused below, by the gate that says why.
    let bare = unstamped(&bytes).unwrap_or(bytes);
    let manifest = tool::describe(&bare).map_err(refused)?;
    let stamped = stamp(&bare, &manifest);
    let began = Instant::now();
    let checked = tool::check_consented(&stamped, &name).map_err(refused)?;
    let out = options.out.as_ref().unwrap_or(&options.file);
    build::write(out, &stamped).map_err(|error| Failure::new(Exit::Error, escape::line(&format!("{error:#}"))))?;
    let (name, version) = (&checked.manifest.name, &checked.manifest.version);
    let file = out.display().to_string();
    let tier = checked.tier.as_str();
    let answer = json!({ "name": name, "version": version, "digest": digest(&stamped), "file": file, "tier": tier });
    sink.one(&answer, &file, || {
        let mut said = escape::line(&format!("stamped {name} {version} into {file}")) + "\n";
        if checked.tier == Tier::Compat {
            let mib = stamped.len().div_ceil(1024 * 1024);
            let (took, toml) = (began.elapsed().as_secs_f32(), format!("{name}.toml"));
            let cost = format!("compat tier: {mib} MiB, {took:.1} s from bytes to a first plan on this machine; a host loads it when `{toml}` says tier = \"compat\"");
            said += &(escape::line(&cost) + "\n");
        }
        said
    })?;
    Ok(Exit::Ok)
}
