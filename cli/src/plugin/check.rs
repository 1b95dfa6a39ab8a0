//! `viworks plugin check`: the host's own gates, without a host.

use std::path::PathBuf;

use clap::Args;
use plan::manifest::{Kind, Manifest};
use ports::plugins::Refusal;
use runtime::Tier;
use runtime::tool::{self, ToolError};
use serde_json::json;

use super::explain::page_of;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Which file.
#[derive(Clone, Debug, Args)]
pub struct CheckOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Let it be of the compat tier, as an operator may
    #[arg(long)]
    pub compat: bool,
}

pub(super) fn command(options: &CheckOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let name = super::file_name(&options.file);
    let check = if options.compat { tool::check_consented } else { tool::check };
    match check(&bytes, &name) {
        Ok(checked) => {
            let manifest = &checked.manifest;
            let verbs: Vec<&str> = manifest.verbs.iter().map(|verb| verb.name.as_str()).collect();
            let kind = manifest.kind();
            let answer = json!({
                "ok": true, "name": manifest.name, "version": manifest.version, "kind": kind.as_str(), "verbs": verbs,
                "size_bytes": checked.size, "digest": checked.digest, "tier": checked.tier.as_str(),
            });
            sink.one(&answer, &manifest.name, || {
                let provides = provides(manifest);
                let tier = if checked.tier == Tier::Compat { ", in the compat tier" } else { "" };
                let line = format!("ok: {} {} passes gates 1 to 8 ({provides}){tier}", manifest.name, manifest.version);
                escape::line(&line) + "\n"
            })?;
            Ok(Exit::Ok)
        }
        Err(ToolError::Refused(refusal)) => {
            sink.one(&answer(&refusal), &refusal.code, || page(&refusal))?;
            Ok(Exit::Error)
        }
        Err(
            error @ (ToolError::NoVerb { .. } | ToolError::Folder { .. } | ToolError::Engine(_) | ToolError::Thread(_)),
        ) => Err(Failure::new(Exit::Error, escape::line(&error.to_string()))),
    }
}

/// What a plugin provides, in a line.
pub(super) fn provides(manifest: &Manifest) -> String {
    let verbs: Vec<&str> = manifest.verbs.iter().map(|verb| verb.name.as_str()).collect();
    match manifest.kind() {
        Kind::Verb => verbs.join(", "),
        Kind::Rule => "a rule".to_owned(),
    }
}

/// A refusal as a script reads it.
pub(super) fn answer(refusal: &Refusal) -> serde_json::Value {
    let Refusal { gate, code, cause, cure, digest } = refusal;
    json!({
        "ok": false, "gate": gate, "code": code, "cause": cause, "cure": cure, "page": page_of(code), "digest": digest,
    })
}

/// A refusal as a person reads it: which gate, what to do, and where there is more to read.
pub(super) fn page(refusal: &Refusal) -> String {
    let Refusal { gate, code, cause, cure, digest: _ } = refusal;
    let lines = [
        format!("refused at gate {gate}: {code}"),
        format!("  cause: {cause}"),
        format!("  cure:  {cure}"),
        format!("  page:  {}, or `viworks plugin explain {code}`", page_of(code)),
    ];
    lines.iter().map(|line| escape::line(line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_gate_code_cause_and_cure() {
        let refusal = Refusal {
            gate: 2,
            code: "forbidden_import".into(),
            cause: "imports `wasi:cli/run`\u{1b}[2J".into(),
            cure: "build for wasm32-unknown-unknown".into(),
            digest: "00".into(),
        };
        insta::assert_snapshot!(page(&refusal), @r"
        refused at gate 2: forbidden_import
          cause: imports `wasi:cli/run`\x1b[2J
          cure:  build for wasm32-unknown-unknown
          page:  docs/plugins/forbidden_import.md, or `viworks plugin explain forbidden_import`
        ");
    }
}
