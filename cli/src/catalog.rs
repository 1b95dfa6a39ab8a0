//! `viworks verb …` and what the host says about its plugins.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use api::plugin::Plugin;
use api::verb::Verb;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::Value;

use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::{Sink, escape, moment, table};
use crate::schema::{Property, command_line, flags, properties, quote};

/// Levels of a result that the manual page shows.
const RESULT_DEPTH: usize = 3;

/// What to do with verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum VerbCommand {
    /// List the verbs that plugins provide
    List,
    /// Show a verb's manual page
    Show {
        /// Its name, e.g. docker.ps
        verb: String,
    },
}

impl Row for Verb {
    const COLUMNS: &'static [&'static str] = &["verb", "effect", "summary", "plugin", "version", "idempotent", "needs"];
    const NARROW: usize = 4;

    fn cells(&self, _now: DateTime<Utc>) -> Vec<String> {
        vec![
            self.name.clone(),
            self.effect.clone(),
            self.summary.clone(),
            self.plugin.clone(),
            self.plugin_version.clone(),
            if self.idempotent { "yes".into() } else { "no".into() },
            self.needs.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Row for Plugin {
    const COLUMNS: &'static [&'static str] =
        &["plugin", "state", "version", "verbs", "trouble", "file", "faults", "digest"];
    const NARROW: usize = 5;

    fn cells(&self, _now: DateTime<Utc>) -> Vec<String> {
        let trouble = self.refusal.as_ref().map(|refusal| format!("gate {}: {}", refusal.gate, refusal.cause));
        vec![
            self.name.clone(),
            self.state.clone(),
            self.version.clone().unwrap_or_default(),
            self.verbs.join(","),
            trouble.unwrap_or_default(),
            self.file.clone(),
            self.faults.to_string(),
            self.digest.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Lists or shows verbs. `reserved` are the long flags of `viworks run`.
///
/// # Errors
/// What the host refuses.
pub async fn verbs(
    command: VerbCommand,
    reserved: &BTreeSet<String>,
    client: &Client,
    sink: &Sink,
) -> Result<Exit, Failure> {
    match command {
        VerbCommand::List => {
            sink.list(&client.verbs().await?, "no verbs: no plugin is loaded; `viworks plugin list` says why")?;
        }
        VerbCommand::Show { verb } => {
            let verb = client.verb(&verb).await?;
            sink.one(&verb, &verb.name, || page(&verb, reserved))?;
        }
    }
    Ok(Exit::Ok)
}

/// Lists the host's plugins, and says how to mend those it refuses.
///
/// # Errors
/// What the host refuses.
pub async fn plugins(client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let page = client.plugins().await?;
    sink.list(&page, "no plugins: put a .wasm file into the host's plugin folder")?;
    for (plugin, refusal) in page.items.iter().filter_map(|plugin| plugin.refusal.as_ref().map(|why| (plugin, why))) {
        sink.say(&escape::line(&format!("{}: {} ({}): {}", plugin.file, refusal.cause, refusal.code, refusal.cure)))?;
    }
    Ok(Exit::Ok)
}

/// A verb's manual page.
fn page(verb: &Verb, reserved: &BTreeSet<String>) -> String {
    let flags = flags(&verb.args_schema, reserved);
    let mut text = format!("{} - {}\n\n", escape::line(&verb.name), escape::line(&verb.summary));
    let repeat = if verb.idempotent { "twice is the same as once" } else { "twice is not the same as once" };
    let cancel = match verb.cancel.as_str() {
        "clean" => "leaves nothing behind",
        "leaves_effects" => "may leave half of it done",
        "none" => "is not possible once it runs",
        other => other,
    };
    text.push_str(&table::card(&[
        ("effect", verb.effect.clone()),
        ("running it", repeat.to_owned()),
        ("cancelling it", cancel.to_owned()),
        (
            "timeout",
            format!(
                "{} unless --timeout says otherwise",
                moment::length(Duration::from_millis(verb.default_timeout_ms))
            ),
        ),
        ("needs", verb.needs.clone().unwrap_or_else(|| "nothing special".to_owned())),
        ("plugin", format!("{} {} ({})", verb.plugin, verb.plugin_version, verb.plugin_digest)),
    ]));

    text.push_str("\nARGUMENTS\n");
    let all = properties(&verb.args_schema);
    if all.is_empty() {
        text.push_str("  none\n");
    }
    for property in &all {
        let flag = flags.iter().find(|flag| flag.property.name == property.name);
        let how =
            flag.map_or_else(|| format!("--args {{\"{}\": …}}", property.name), |flag| format!("--{}", flag.long));
        entry(&mut text, 2, &how, property);
        for member in members(property, &verb.args_schema) {
            entry(&mut text, 6, &member.name, &member);
        }
    }

    let results = properties(&verb.result_schema);
    if !results.is_empty() {
        text.push_str("\nRESULT\n");
        tree(&mut text, &results, &verb.result_schema, 1);
    }

    if !verb.examples.is_empty() {
        text.push_str("\nEXAMPLES\n");
    }
    for example in &verb.examples {
        let words: String = command_line(&flags, example).iter().map(|word| format!(" {}", quote(word))).collect();
        let _ = writeln!(text, "  {}", escape::line(&format!("viworks run {} --all{words}", verb.name)));
    }
    text
}

fn tree(text: &mut String, level: &[Property], root: &Value, depth: usize) {
    for property in level {
        entry(text, depth * 2, &property.name, property);
        if depth < RESULT_DEPTH {
            tree(text, &members(property, root), root, depth + 1);
        }
    }
}

fn members(property: &Property, root: &Value) -> Vec<Property> {
    property.members(root)
}

/// `  --limit INTEGER      how many [1 to 100]`
fn entry(text: &mut String, indent: usize, name: &str, property: &Property) {
    let head = format!("{:indent$}{} <{}>", "", escape::line(name), property.shape);
    let note = escape::line(&property.note());
    let line = if note.is_empty() { head } else { format!("{head:<34}  {note}") };
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verb_has_a_manual_page() {
        let verb = Verb {
            name: "docker.ps".into(),
            summary: "Lists containers".into(),
            effect: "read".into(),
            idempotent: true,
            cancel: "clean".into(),
            default_timeout_ms: 30_000,
            needs: Some("docker".into()),
            plugin: "docker".into(),
            plugin_version: "1.2.0".into(),
            plugin_digest: "ab12".into(),
            args_schema: json!({"type": "object", "properties": {
                "all": {"type": "boolean", "description": "stopped ones too", "default": false},
                "limit": {"type": "integer", "minimum": 1, "maximum": 100},
                "filter": {"type": "object", "properties": {"name": {"type": "string", "description": "part of it"}}},
            }}),
            result_schema: json!({"type": "object", "properties": {
                "containers": {"type": "array", "items": {"$ref": "#/$defs/container"}},
            }, "$defs": {"container": {"type": "object", "properties": {"id": {"type": "string"}, "state": {"enum": ["running", "exited"]}}}}}),
            examples: vec![json!({}), json!({"all": true, "limit": 5}), json!({"filter": {"name": "web"}})],
        };
        let reserved = ["all".to_owned()].into();
        insta::assert_snapshot!(page(&verb, &reserved), @r#"
        docker.ps - Lists containers

        effect:         read
        running it:     twice is the same as once
        cancelling it:  leaves nothing behind
        timeout:        30.0 s unless --timeout says otherwise
        needs:          docker
        plugin:         docker 1.2.0 (ab12)

        ARGUMENTS
          --arg-all <true or false>         stopped ones too [default false]
          --filter <JSON>
              name <text>                   part of it
          --limit <integer>                 1 to 100

        RESULT
          containers <list of JSON>
            id <text>
            state <text>                    one of running, exited

        EXAMPLES
          viworks run docker.ps --all
          viworks run docker.ps --all --arg-all --limit 5
          viworks run docker.ps --all --filter '{"name":"web"}'
        "#);
    }
}
