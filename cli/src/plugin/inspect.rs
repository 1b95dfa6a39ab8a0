//! `viworks plugin inspect`: what a file says of itself. Nothing in it is run.

use std::path::PathBuf;

use clap::Args;
use plan::manifest::{MAX_MANIFEST_BYTES, Manifest};
use plan::policy::{ProgramRule, Rules};
use plan::rule::RuleManifest;
use ports::plugins::Signature;
use runtime::tool;
use serde_json::json;

use super::component::{digest, stamped};
use super::verify;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, count, escape, table};
use crate::schema::properties;

/// Which file.
#[derive(Clone, Debug, Args)]
pub struct InspectOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A host's trust file, to say whether its signature counts there
    #[arg(long, value_name = "TRUST")]
    pub trust: Option<PathBuf>,
}

pub(super) fn command(options: &InspectOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let file = escape::line(&options.file.display().to_string());
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::new(Exit::Error, escape::line(&format!("`{file}`: {error}")));
    let section = stamped(&bytes).map_err(|error| unreadable(&error))?;
    let imports = runtime::tool::imports(&bytes).map_err(|error| unreadable(&error))?;
    let Some(section) = section else {
        return Err(unreadable(&"it carries no manifest; build it with `viworks plugin build`"));
    };
    if section.len() > MAX_MANIFEST_BYTES {
        return Err(unreadable(&format!("its manifest has {} bytes; at most {MAX_MANIFEST_BYTES}", section.len())));
    }
    let manifest: Manifest =
        serde_json::from_slice(&section).map_err(|error| unreadable(&format!("its manifest: {error}")))?;
    let digest = digest(&bytes);
    let trust = options.trust.as_deref().map(verify::trust).transpose()?;
    let texts: Vec<String> = verify::beside(&options.file)?.into_iter().map(|(_, text)| text).collect();
    let (signature, judged) = tool::signature(&bytes, &texts, &trust.clone().unwrap_or_default());
    let refused = judged.err().filter(|_| trust.is_some()).map(|refusal| refusal.cause);
    let answer = json!({
        "digest": digest, "size_bytes": bytes.len(), "imports": imports, "manifest": manifest,
        "signature": signature.as_ref().map(|signature| signature_of(signature, trust.is_some())),
    });
    let signed = signed(signature.as_ref(), trust.is_some(), refused.as_deref());
    sink.one(&answer, &manifest.name, || page(&manifest, &digest, bytes.len(), &imports, &signed))?;
    Ok(Exit::Ok)
}

/// A signature as a script reads it. Who made it is proved only to somebody who trusts somebody.
fn signature_of(signature: &Signature, asked: bool) -> serde_json::Value {
    let Signature { standing, key_id, signer, comment } = signature;
    let standing = if asked || *standing == "malformed" { standing } else { "unverified" };
    json!({ "standing": standing, "key_id": key_id, "signer": signer, "comment": comment })
}

/// A signature on one line.
fn signed(signature: Option<&Signature>, asked: bool, refused: Option<&str>) -> String {
    match (signature, refused) {
        (None, _) => "no".to_owned(),
        (Some(Signature { key_id: None, .. }), None) => "there is a file, and no signature in it".to_owned(),
        (Some(_), Some(why)) => format!("does not count: {why}"),
        (Some(Signature { key_id: Some(id), signer, comment, .. }), None) if asked => {
            let (signer, comment) = (signer.as_deref().unwrap_or_default(), comment.as_deref().unwrap_or_default());
            format!("by `{signer}` ({id}): {comment}")
        }
        (Some(Signature { key_id: Some(id), .. }), None) => {
            format!("says key {id}; `--trust TRUST` or `viworks plugin verify` proves it")
        }
    }
}

fn page(manifest: &Manifest, digest: &str, size: usize, imports: &[String], signed: &str) -> String {
    let or_none = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let Manifest { abi, name, version, summary, verbs, grants, config_schema, rule } = manifest;
    let mut page = table::card(&[
        ("plugin", format!("{name} {version}")),
        ("summary", summary.clone()),
        ("abi", abi.clone()),
        ("digest", digest.to_owned()),
        ("signed", signed.to_owned()),
        ("size", format!("{size} bytes")),
        ("imports", or_none(imports.to_vec())),
        ("configuration", if config_schema.is_some() { "yes, with a schema" } else { "none" }.to_owned()),
    ]);
    match rule {
        Some(RuleManifest { reads, state_version, examples }) => {
            let reads = if reads.is_empty() { "the agent's status alone".to_owned() } else { reads.join(", ") };
            let examples = count::of(examples.len(), "example", "examples");
            let line = format!("reads {reads}; {examples}; state of form {state_version}");
            page.push_str(&format!("\nRULE\n  {}\n", escape::line(&line)));
        }
        None => page.push_str("\nVERBS\n"),
    }
    for verb in verbs {
        let needs = verb.needs.as_ref().map_or_else(String::new, |needs| format!(", needs {needs}"));
        let line = format!("  {} ({}{needs}): {}", verb.name, verb.effect, verb.summary);
        page.push_str(&(escape::line(&line) + "\n"));
    }
    if let Some(schema) = config_schema {
        page.push_str("\nCONFIGURATION, in `[config]` of the operator's file\n");
        for key in properties(schema) {
            let line = format!("  {} <{}>: {}", key.name, key.shape, key.note());
            page.push_str(&(escape::line(line.trim_end_matches([':', ' '])) + "\n"));
        }
    }
    if rule.is_some() {
        return page;
    }
    page.push_str("\nGRANTS REQUESTED\n");
    for line in requested(grants) {
        page.push_str(&(escape::line(&format!("  {line}")) + "\n"));
    }
    page
}

/// What the plugin asks the operator to allow, one line each.
fn requested(grants: &Rules) -> Vec<String> {
    let Rules { effects, programs } = grants;
    let effects: Vec<&str> = effects.iter().map(|effect| effect.as_str()).collect();
    let mut lines = vec![format!("effects: {}", effects.join(", "))];
    for rule in programs {
        let ProgramRule { program, path, args, env, cwd, stdin, max_timeout_ms } = rule;
        let patterns: Vec<String> = args.iter().map(|pattern| format!("[{}]", pattern.join(" "))).collect();
        let mut line = format!("program `{program}` with {}", patterns.join(" or "));
        if let Some(path) = path {
            line.push_str(&format!(", at {path}"));
        }
        for (what, list) in [("variables", env), ("directories", cwd)] {
            if !list.is_empty() {
                line.push_str(&format!(", {what} {}", list.join(" ")));
            }
        }
        if *stdin {
            line.push_str(", standard input");
        }
        if let Some(limit) = max_timeout_ms {
            line.push_str(&format!(", at most {limit} ms"));
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use plan::effect::Effect;

    use super::*;

    #[test]
    fn a_page_shows_what_an_operator_decides_on() {
        let rule = ProgramRule { env: vec!["LANG".into()], stdin: true, ..ProgramRule::any_args("docker") };
        let manifest = Manifest {
            abi: "1.0".into(),
            name: "docker".into(),
            version: "1.2.0".into(),
            summary: "Containers".into(),
            verbs: Vec::new(),
            grants: Rules { effects: vec![Effect::Read, Effect::Change], programs: vec![rule] },
            config_schema: Some(json!({ "type": "object", "properties": {
                "socket": { "type": "string", "description": "Where the engine listens.", "pattern": "^/", "default": "/run/docker.sock" },
                "tries": { "type": "integer" },
            } })),
            rule: None,
        };
        insta::assert_snapshot!(page(&manifest, "ab12", 1000, &["viworks:plugin/log@1.0.0".into()], "no"), @r"
        plugin:         docker 1.2.0
        summary:        Containers
        abi:            1.0
        digest:         ab12
        signed:         no
        size:           1000 bytes
        imports:        viworks:plugin/log@1.0.0
        configuration:  yes, with a schema

        VERBS

        CONFIGURATION, in `[config]` of the operator's file
          socket <text>: Where the engine listens. [matches ^/] [default /run/docker.sock]
          tries <integer>

        GRANTS REQUESTED
          effects: read, change
          program `docker` with [**], variables LANG, standard input
        ");
    }
}
