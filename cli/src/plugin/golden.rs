//! `viworks plugin test`: golden cases natively, by the project's own tests, and in the host's sandbox;
//! both must agree with each other and with what is recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use clap::Args;
use domain::verb::{Profile, VerbName};
use plan::golden::{self, Case, Ended, Played, Recorded};
use plan::outcome::{End, Outcome, StreamEnd};
use plan::rule::Course;
use ports::plugins::{Outputs, PlanError};
use runtime::tool::{Loaded, ToolError};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::build::{self, Package};
use super::check;
use super::toolchain::own_cargo;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Which project, and whether to record.
#[derive(Clone, Debug, Args)]
pub struct TestOptions {
    /// The plugin's project
    #[arg(default_value = ".", value_name = "DIR")]
    pub directory: PathBuf,
    /// Record what comes out now as what must come out
    #[arg(long)]
    pub bless: bool,
}

/// A case and its file.
struct Stored {
    file: String,
    path: PathBuf,
    case: Kept,
}

/// What is in a case's file: of a verb, or of a rule.
enum Kept {
    Verb(Box<Case>),
    Rule(Course),
}

impl Kept {
    fn read(text: &str) -> serde_json::Result<Kept> {
        /// What only a course of events has.
        #[derive(Deserialize)]
        struct Head {
            turns: Option<IgnoredAny>,
        }
        match serde_json::from_str::<Head>(text)?.turns {
            Some(IgnoredAny) => serde_json::from_str(text).map(Kept::Rule),
            None => golden::parse(text).map(|case| Kept::Verb(Box::new(case))),
        }
    }

    fn differences(&self, played: &Played) -> Vec<String> {
        match self {
            Kept::Verb(case) => case.differences(played),
            Kept::Rule(course) => course.differences(played),
        }
    }

    /// The text of the file with what came out recorded.
    fn blessed(&self, played: &Played) -> String {
        match self {
            Kept::Verb(case) => case.blessed(played).text(),
            Kept::Rule(course) => course.blessed(played).text(),
        }
    }
}

/// How one case went.
#[derive(Debug)]
struct Verdict {
    file: String,
    /// Empty when all is as recorded.
    differences: Vec<String>,
    /// Natively and in the sandbox the same came out.
    agreed: bool,
    /// Its file was written anew.
    recorded: bool,
}

pub(super) fn command(options: &TestOptions, sink: &Sink) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| match error.downcast::<ToolError>() {
        Ok(ToolError::Refused(refusal)) => Failure::new(Exit::Error, check::page(&refusal).trim_end().to_owned()),
        Ok(error) => Failure::new(Exit::Error, escape::line(&error.to_string())),
        Err(error) => Failure::new(Exit::Error, escape::line(&format!("{error:#}"))),
    };
    let directory = &options.directory;
    let package = Package::at(directory).map_err(failed)?;
    let cases = cases(directory).map_err(failed)?;
    sink.say("natively: the project's own tests, by cargo")?;
    let (passed, native) = natively(&package).map_err(failed)?;
    sink.say("in the sandbox: the component, under a host's limits")?;
    let built = build::build(directory).map_err(failed)?;
    let loaded = Loaded::open(&built.bytes, &format!("{}.wasm", built.manifest.name));
    let loaded = loaded.map_err(|error| failed(error.into()))?;
    let mut verdicts = Vec::new();
    for stored in &cases {
        let (played, log) = play(&loaded, stored).map_err(failed)?;
        let mut verdict = judge(stored, native.get(&stored.file), &played);
        if verdict.agreed && options.bless && played.refused.is_none() && !verdict.differences.is_empty() {
            build::write(&stored.path, stored.case.blessed(&played).as_bytes()).map_err(failed)?;
            verdict.recorded = true;
        }
        if !verdict.differences.is_empty() && !verdict.recorded {
            for line in log {
                sink.say(&escape::line(&format!("{}: {line}", stored.file)))?;
            }
        }
        verdicts.push(verdict);
    }
    let answer: Vec<_> = verdicts.iter().map(json_of).collect();
    let good = verdicts.iter().all(Verdict::is_good);
    sink.one(&json!({ "ok": good && passed, "tests_passed": passed, "cases": answer }), "", || page(&verdicts))?;
    if !passed {
        sink.say("the project's own tests fail; their messages are above")?;
    }
    if !good && !options.bless {
        sink.say("`viworks plugin test --bless` records what comes out now, if that is what you want")?;
    }
    Ok(if good && passed { Exit::Ok } else { Exit::Error })
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.recorded || (self.agreed && self.differences.is_empty())
    }
}

fn json_of(verdict: &Verdict) -> serde_json::Value {
    let Verdict { file, differences, agreed, recorded } = verdict;
    json!({ "file": file, "ok": verdict.is_good(), "agreed": agreed, "recorded": recorded, "differences": differences })
}

fn page(verdicts: &[Verdict]) -> String {
    let mut page = String::new();
    for verdict in verdicts {
        let word = match verdict {
            Verdict { recorded: true, .. } => "recorded",
            Verdict { agreed: false, .. } => "FAILED",
            Verdict { differences, .. } if differences.is_empty() => "ok",
            Verdict { .. } => "FAILED",
        };
        page.push_str(&escape::line(&format!("{word:<9} {}", verdict.file)));
        page.push('\n');
        for line in &verdict.differences {
            page.push_str(&escape::line(&format!("  {line}")));
            page.push('\n');
        }
    }
    page
}

/// The project's cases, in order of their files' names.
fn cases(directory: &Path) -> anyhow::Result<Vec<Stored>> {
    let folder = directory.join(golden::FOLDER);
    let shown = folder.display().to_string();
    let entries = std::fs::read_dir(&folder).with_context(|| format!("`{shown}` cannot be read"))?;
    let mut cases = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("`{shown}` cannot be read"))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
        let case = Kept::read(&text).with_context(|| format!("`{}` is no golden case", path.display()))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        cases.push(Stored { file, path, case });
    }
    if cases.is_empty() {
        bail!("`{shown}` holds no golden case: a file such as first.json with a verb, its arguments and the outputs");
    }
    cases.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(cases)
}

/// Runs the project's tests. Whether they pass, and what its golden cases gave.
fn natively(package: &Package) -> anyhow::Result<(bool, BTreeMap<String, Played>)> {
    let folder = package.target.join("tmp");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let report = folder.join(format!("golden-{}", std::process::id()));
    let mut cargo = std::process::Command::new(own_cargo());
    cargo.args(["test", "--manifest-path"]).arg(&package.manifest).env(golden::REPORT, &report);
    cargo.current_dir(package.manifest.parent().unwrap_or(Path::new(".")));
    // What tests print is chatter here.
    let status = cargo.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    let status = status.context("cannot run cargo; is Rust installed?")?;
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    // Nobody reads it again; left behind it would only lie there.
    let _ = std::fs::remove_file(&report);
    let mut played = BTreeMap::new();
    for line in text.lines() {
        let one: Played = serde_json::from_str(line).context(
            "the project's SDK reports golden cases in another form; `viworks plugin sdk` writes the one that fits",
        )?;
        played.insert(one.file.clone(), one);
    }
    if played.is_empty() {
        let call = "viworks_sdk::test::golden(&PLUGIN, env!(\"CARGO_MANIFEST_DIR\"))";
        match status.success() {
            true => bail!("no test of `{}` calls `{call}`, so nothing was played natively: add one", package.name),
            false => bail!("the tests of `{}` fail before they play the golden cases; see above", package.name),
        }
    }
    Ok((status.success(), played))
}

/// Plays one case in the sandbox; also what the guest logged.
fn play(loaded: &Loaded, stored: &Stored) -> anyhow::Result<(Played, Vec<String>)> {
    let Stored { file, case, .. } = stored;
    let case = match case {
        Kept::Verb(case) => case,
        Kept::Rule(course) => {
            let found = loaded.play(course).with_context(|| format!("`{file}`"))?;
            let result = Some(serde_json::to_value(found).context("what is found is JSON")?);
            return Ok((Played { file: file.clone(), result, ..Played::default() }, Vec::new()));
        }
    };
    let verb = VerbName::parse(&case.verb)
        .with_context(|| format!("`{file}`: `{}` is no verb's name; one is e.g. docker.ps", case.verb))?;
    let profile = Profile {
        os: case.profile.os.clone(),
        arch: case.profile.arch.clone(),
        container_engine: case.profile.container_engine.clone(),
        compose: case.profile.compose.clone(),
    };
    let planned = loaded.plan(&verb, &profile, &case.args, None).with_context(|| format!("`{file}`"))?;
    let mut log: Vec<String> = planned.log.iter().map(|line| format!("{}: {}", line.level, line.message)).collect();
    let mut played = Played { file: file.clone(), ..Played::default() };
    match planned.answer {
        Err(error) => played.refused = Some(why(&error)),
        Ok(plan) => {
            played.plan = Some(serde_json::to_value(plan).context("a plan is JSON")?);
            if let Some(recorded) = &case.outputs {
                let meant = loaded.interpret(&verb, &profile, &case.args, outputs(recorded))?;
                log.extend(meant.log.iter().map(|line| format!("{}: {}", line.level, line.message)));
                let answer = meant.answer;
                played.result = Some(match answer.parse_fault {
                    Some(fault) => golden::unread(&fault),
                    None => golden::read(answer.succeeded, &answer.summary, &answer.result.unwrap_or_default()),
                });
            }
        }
    }
    Ok((played, log))
}

fn why(error: &PlanError) -> String {
    match error {
        PlanError::Invalid(violations) => {
            let told = violations.iter().map(|violation| match violation.pointer.as_str() {
                "" => violation.message.clone(),
                pointer => format!("{pointer}: {}", violation.message),
            });
            told.collect::<Vec<_>>().join("; ")
        }
        PlanError::Denied { .. } | PlanError::Failed { .. } | PlanError::Overloaded => error.to_string(),
    }
}

/// Recorded outputs as if an agent had just sent them.
fn outputs(recorded: &Recorded) -> Outputs {
    let stream = |text: &str, truncated: bool| {
        let kept = text.len() as u64;
        // One byte more than is kept says that something is missing.
        StreamEnd { bytes: kept + u64::from(truncated), head: kept, ..StreamEnd::default() }
    };
    let end = match recorded.end {
        Ended::Exited => End::Exited,
        Ended::TimedOut => End::TimedOut,
        Ended::Cancelled => End::Cancelled { started: !recorded.steps.is_empty() },
        Ended::Interrupted => End::Interrupted { message: "recorded".into() },
    };
    Outputs {
        outcome: Outcome {
            end,
            steps: recorded.steps(),
            stdout: stream(&recorded.stdout, recorded.stdout_truncated),
            stderr: stream(&recorded.stderr, recorded.stderr_truncated),
            duration_ms: 0,
        },
        stdout: recorded.stdout.clone().into_bytes(),
        stderr: recorded.stderr.clone().into_bytes(),
    }
}

/// Holds both answers against each other, then against what is recorded.
fn judge(stored: &Stored, native: Option<&Played>, played: &Played) -> Verdict {
    let verdict = |agreed, differences| Verdict { file: stored.file.clone(), differences, agreed, recorded: false };
    let Some(native) = native else {
        return verdict(false, vec!["no test of the project played it natively".to_owned()]);
    };
    let disagree = |lines: Vec<String>| {
        let head = "natively (-) and in the sandbox (+) another answer comes out:".to_owned();
        verdict(false, std::iter::once(head).chain(lines).collect())
    };
    match (&native.refused, &played.refused) {
        (Some(_), Some(_)) => return verdict(true, stored.case.differences(played)),
        (None, None) => {}
        (native, played) => {
            let said = |mark, why: &Option<String>| format!("{mark} {}", why.as_deref().unwrap_or("a plan"));
            return disagree(vec![said('-', native), said('+', played)]);
        }
    }
    let mut lines = Vec::new();
    for (what, native, played) in [("plan", &native.plan, &played.plan), ("result", &native.result, &played.result)] {
        let null = serde_json::Value::Null;
        lines.extend(golden::differences(what, native.as_ref().unwrap_or(&null), played.as_ref().unwrap_or(&null)));
    }
    if !lines.is_empty() {
        return disagree(lines);
    }
    verdict(true, stored.case.differences(played))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        let text = r#"{ "verb": "a.b", "args": {}, "plan": { "steps": 1 }, "outputs": { "steps": [] } }"#;
        Stored { file: "a.json".into(), path: "a.json".into(), case: Kept::read(text).expect("a case") }
    }

    fn played(steps: u8, refused: Option<&str>) -> Played {
        let plan = refused.is_none().then(|| json!({ "steps": steps }));
        Played { file: "a.json".into(), plan, result: None, refused: refused.map(str::to_owned) }
    }

    #[test]
    fn answers_must_agree_before_they_are_held_against_the_record() {
        let told = |native: Option<&Played>, wasm: &Played| {
            let verdict = judge(&stored(), native, wasm);
            (verdict.agreed, verdict.is_good(), verdict.differences.join("\n"))
        };
        assert_eq!(told(Some(&played(1, None)), &played(1, None)), (true, true, String::new()));
        assert_eq!(
            told(Some(&played(2, None)), &played(2, None)),
            (true, false, "- plan/steps: 1\n+ plan/steps: 2".to_owned())
        );
        let (agreed, good, lines) = told(Some(&played(1, None)), &played(2, None));
        assert!(!agreed && !good && lines.contains("natively (-) and in the sandbox (+)"), "{lines}");
        assert!(lines.ends_with("- plan/steps: 1\n+ plan/steps: 2"), "{lines}");
        let (agreed, _, lines) = told(Some(&played(1, None)), &played(1, Some("/x: no")));
        assert!(!agreed && lines.ends_with("- a plan\n+ /x: no"), "{lines}");
        let (agreed, good, lines) = told(Some(&played(1, Some("no"))), &played(1, Some("nope")));
        assert!(agreed && !good && lines.contains("make no plan: nope"), "{lines}");
        assert!(!told(None, &played(1, None)).1);
    }

    #[test]
    fn a_page_names_every_case_with_its_differences() {
        let verdict = |file: &str, differences: &[&str], agreed, recorded| Verdict {
            file: file.into(),
            differences: differences.iter().map(|line| (*line).to_owned()).collect(),
            agreed,
            recorded,
        };
        let verdicts = [
            verdict("a.json", &[], true, false),
            verdict("b.json", &["- plan/steps: 1", "+ plan/steps: \"\u{1b}[2J\""], true, false),
            verdict("c.json", &["no plan is recorded yet"], true, true),
        ];
        insta::assert_snapshot!(page(&verdicts), @r#"
        ok        a.json
        FAILED    b.json
          - plan/steps: 1
          + plan/steps: "\x1b[2J"
        recorded  c.json
          no plan is recorded yet
        "#);
    }
}
