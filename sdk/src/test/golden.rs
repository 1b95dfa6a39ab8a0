//! Golden cases played natively. `viworks plugin test` plays the same files in the sandbox and holds both
//! answers together.

use std::io::Write as _;
use std::path::Path;

use plan::golden::{self, Case, Ended, Played, Recorded};
use plan::rule::Course;

use super::{course, interpret_entry, plan_entry};
use crate::context::{Context, Profile};
use crate::json::json;
use crate::manifest::Plugin;
use crate::outputs::{End, Outputs};
use crate::verb::Entry;

/// Plays every case in `tests/golden/*.json` of the project in `folder` and holds what comes out against
/// what is recorded there. `viworks plugin test --bless` records it. The cases of a rule are courses of events.
///
/// ```no_run
/// # use viworks_sdk::prelude::*;
/// # #[derive(Args)]
/// # struct Uptime;
/// # #[verb(name = "host.uptime", effect = Read, summary = "Since when", example = json!({}))]
/// # impl Verb for Uptime {
/// #     type Output = ();
/// #     fn plan(&self, _: &Context) -> Result<Plan> { program("uptime").plan() }
/// #     fn interpret(&self, _: &Outputs) -> Result<()> { Ok(()) }
/// # }
/// plugin!(summary = "Hosts", verbs: [Uptime], grants: [allow("uptime")]);
///
/// // In a test of the plugin's crate:
/// viworks_sdk::test::golden(&PLUGIN, env!("CARGO_MANIFEST_DIR"));
/// ```
///
/// # Panics
/// When there is no case, when a file is no case, and with all differences when there are any.
pub fn golden(plugin: &Plugin, folder: impl AsRef<Path>) {
    let folder = folder.as_ref().join(golden::FOLDER);
    let (mut told, mut all) = (String::new(), Vec::new());
    for (file, text) in read(&folder) {
        let shown = folder.join(&file);
        let (played, differences) = match &plugin.rule {
            None => {
                let case = golden::parse(&text);
                let case = case.unwrap_or_else(|error| panic!("`{}` is no golden case: {error}", shown.display()));
                let played = play(plugin, &file, &case);
                let differences = case.differences(&played);
                (played, differences)
            }
            Some(rule) => {
                let case: Result<Course, _> = serde_json::from_str(&text);
                let case = case.unwrap_or_else(|error| panic!("`{}` is no course: {error}", shown.display()));
                let played = course::played(&file, &course::play(rule, &case));
                let differences = case.differences(&played);
                (played, differences)
            }
        };
        for line in differences {
            told.push_str(&format!("\n  {file}: {line}"));
        }
        all.push(played);
    }
    if let Some(report) = std::env::var_os(golden::REPORT) {
        return append(Path::new(&report), &all);
    }
    assert!(told.is_empty(), "golden cases differ; `viworks plugin test --bless` records what comes out now:{told}");
}

/// The cases' files and what is in them.
fn read(folder: &Path) -> Vec<(String, String)> {
    let shown = folder.display();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("`{shown}` cannot be read: {error}"));
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("`{shown}` cannot be read: {error}")).path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "`{shown}` holds no golden case: a file such as first.json");
    let case = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("`{}` cannot be read: {error}", path.display()));
        (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text)
    };
    files.iter().map(case).collect()
}

fn play(plugin: &Plugin, file: &str, case: &Case) -> Played {
    let verb = plugin.verb(&case.verb).unwrap_or_else(|failure| panic!("{file}: {}", failure.message));
    let context = Context {
        profile: Profile {
            os: case.profile.os.clone(),
            arch: case.profile.arch.clone(),
            container_engine: case.profile.container_engine.clone(),
            compose: case.profile.compose.clone(),
        },
        config: default_config(plugin),
    };
    let mut played = Played { file: file.to_owned(), ..Played::default() };
    match plan_entry(verb, &context, case.args.clone()) {
        Ok(plan) => {
            played.plan = Some(serde_json::to_value(plan).expect("a plan has text keys only"));
            played.result = case.outputs.as_ref().map(|outputs| meaning(verb, case, outputs));
        }
        Err(failure) => played.refused = Some(failure.to_string()),
    }
    played
}

/// The configuration a plugin gets when its operator says nothing.
fn default_config(plugin: &Plugin) -> crate::json::Value {
    let mut config = json!({});
    let schema = plugin.config_schema.map(|schema| schema()).unwrap_or_default();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(default) = property.get("default") {
            config[name] = default.clone();
        }
    }
    config
}

fn meaning(verb: &Entry, case: &Case, recorded: &Recorded) -> crate::json::Value {
    if recorded.steps.is_empty() {
        return golden::unread("no process was started");
    }
    let outputs = Outputs {
        end: match recorded.end {
            Ended::Exited => End::Exited,
            Ended::TimedOut => End::TimedOut,
            Ended::Cancelled => End::Cancelled,
            Ended::Interrupted => End::Interrupted,
        },
        steps: recorded.steps(),
        stdout: recorded.stdout.clone().into_bytes(),
        stderr: recorded.stderr.clone().into_bytes(),
        stdout_truncated: recorded.stdout_truncated,
        stderr_truncated: recorded.stderr_truncated,
    };
    match interpret_entry(verb, case.args.clone(), &outputs) {
        Ok(answer) => golden::read(answer.succeeded, &answer.summary, &answer.result),
        Err(failure) => golden::unread(&failure.to_string()),
    }
}

/// One line for each case; `viworks plugin test` reads them back.
fn append(report: &Path, played: &[Played]) {
    let lines: String =
        played.iter().map(|played| serde_json::to_string(played).expect("it has text keys only") + "\n").collect();
    let open = std::fs::OpenOptions::new().create(true).append(true).open(report);
    let written = open.and_then(|mut file| file.write_all(lines.as_bytes()));
    written.unwrap_or_else(|error| panic!("`{}` cannot be written: {error}", report.display()));
}
