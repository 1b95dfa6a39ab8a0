//! `viworks plugin run`: the plan a verb makes of arguments, or what a rule finds in a course of events. Nothing but
//! the plugin's own code is run, in the host's sandbox.

use std::path::PathBuf;

use clap::Args;
use domain::verb::{Profile, VerbName};
use plan::rule::Course;
use ports::plugins::PlanError;
use runtime::tool::{self, Loaded, ToolError};
use serde_json::{Value, json};

use super::check;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Which verb, with what, for which machine.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// One of its verbs; none for a rule
    #[arg(value_name = "VERB")]
    pub verb: Option<String>,
    /// The verb's arguments: JSON, @FILE with JSON, or - for standard input
    #[arg(long, value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    pub args: String,
    /// The machine to plan for: os=…,arch=…,container_engine=…,compose=… (nothing behind = for none)
    #[arg(long, value_name = "PROFILE", default_value = "")]
    pub profile: String,
    /// What a rule is to judge, a course of events: JSON, @FILE with JSON, or - for standard input [default: its first example]
    #[arg(long, value_name = "JSON", conflicts_with = "verb")]
    pub course: Option<String>,
}

pub(super) fn command(options: &RunOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let Some(verb) = &options.verb else { return rule(&bytes, options.course.as_deref(), sink) };
    let verb = VerbName::parse(verb)
        .ok_or_else(|| Failure::usage(format!("`{}` is no verb's name; one is e.g. docker.ps", escape::line(verb))))?;
    let args = arguments("--args", &options.args)?;
    let profile = profile(&options.profile)?;
    let planned = tool::plan_once(&bytes, &verb, &profile, &args, None).map_err(no_answer)?;
    for line in &planned.log {
        sink.say(&escape::line(&format!("{}: {}", line.level, line.message)))?;
    }
    let plan = planned.answer.map_err(refused)?;
    sink.document(&plan)?;
    Ok(Exit::Ok)
}

/// What stands after each turn of a course.
fn rule(bytes: &[u8], course: Option<&str>, sink: &Sink) -> Result<Exit, Failure> {
    let loaded = Loaded::open(bytes, "plugin.wasm").map_err(no_answer)?;
    let Some(rule) = &loaded.manifest().rule else {
        return Err(Failure::usage("name one of the plugin's verbs; `viworks plugin inspect` lists them"));
    };
    let course: Course = match course {
        Some(text) => serde_json::from_value(arguments("--course", text)?).map_err(|error| {
            Failure::usage(format!("--course is no course of events: {}", escape::line(&error.to_string())))
        })?,
        None => {
            rule.examples.first().cloned().ok_or_else(|| Failure::usage("the rule shows no example; give --course"))?
        }
    };
    let stands = loaded.play(&course).map_err(no_answer)?;
    let turns: Vec<Value> = course
        .turns
        .iter()
        .zip(stands)
        .map(|(turn, found)| json!({ "at_s": turn.at_s, "status": turn.status, "found": found }))
        .collect();
    sink.document(&json!({ "turns": turns }))?;
    Ok(Exit::Ok)
}

/// Why a plugin was not even asked.
fn no_answer(error: ToolError) -> Failure {
    match error {
        ToolError::Refused(refusal) => Failure::new(Exit::Error, check::page(&refusal).trim_end().to_owned()),
        error @ ToolError::NoVerb { .. } => Failure::usage(escape::line(&error.to_string())),
        error @ (ToolError::Folder { .. } | ToolError::Engine(_) | ToolError::Thread(_)) => {
            Failure::new(Exit::Error, escape::line(&error.to_string()))
        }
    }
}

/// JSON given as it is, in a file behind `@`, or on standard input.
fn arguments(option: &str, text: &str) -> Result<Value, Failure> {
    let read = match text.strip_prefix('@') {
        None if text == "-" => {
            let unreadable = |error| Failure::usage(format!("cannot read {option} from standard input: {error}"));
            &std::io::read_to_string(std::io::stdin()).map_err(unreadable)?
        }
        Some(file) => {
            let unreadable = |error| Failure::usage(format!("cannot read `{}`: {error}", escape::line(file)));
            &std::fs::read_to_string(file).map_err(unreadable)?
        }
        None => text,
    };
    serde_json::from_str(read).map_err(|error| Failure::usage(format!("{option} is not JSON: {error}")))
}

/// A Linux machine with Docker and compose v2, changed by `key=value` pairs with commas between.
pub(super) fn profile(text: &str) -> Result<Profile, Failure> {
    let mut profile = Profile {
        os: "linux".into(),
        arch: "x86_64".into(),
        container_engine: Some("docker".into()),
        compose: Some("v2".into()),
    };
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let some = (!value.is_empty()).then(|| value.to_owned());
        match (key, some) {
            ("os", Some(os)) => profile.os = os,
            ("arch", Some(arch)) => profile.arch = arch,
            ("container_engine", engine) => profile.container_engine = engine,
            ("compose", compose) => profile.compose = compose,
            _ => {
                let pair = escape::line(pair);
                let keys = "os=…, arch=…, container_engine=…, compose=…";
                return Err(Failure::usage(format!("--profile does not know `{pair}`; it knows {keys}")));
            }
        }
    }
    Ok(profile)
}

/// Why there is no plan, and whose turn it is: 2 is for the caller's arguments.
fn refused(error: PlanError) -> Failure {
    match error {
        PlanError::Invalid(violations) => {
            let mut message = String::from("arguments refused");
            for violation in &violations {
                let place = if violation.pointer.is_empty() { "/" } else { &violation.pointer };
                message.push_str(&format!("\n  {}", escape::line(&format!("{place}: {}", violation.message))));
            }
            Failure::usage(message)
        }
        error @ (PlanError::Denied { .. } | PlanError::Failed { .. } | PlanError::Overloaded) => {
            Failure::new(Exit::Error, escape::line(&error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use ports::plugins::Violation;

    use super::*;

    #[test]
    fn a_profile_is_changed_key_by_key() {
        let changed = profile("os=windows,compose=,container_engine=podman").expect("known keys");
        let expected = Profile {
            os: "windows".into(),
            arch: "x86_64".into(),
            container_engine: Some("podman".into()),
            compose: None,
        };
        assert_eq!(changed, expected);
        for bad in ["os=", "os", "colour=red", "linux"] {
            assert_eq!(profile(bad).expect_err(bad).exit, Exit::Usage);
        }
    }

    #[test]
    fn arguments_come_as_they_are_or_from_a_file() {
        assert_eq!(arguments("--args", "{\"a\":1}").expect("JSON")["a"], 1);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "{\"b\":2}").expect("written");
        assert_eq!(arguments("--args", &format!("@{}", file.path().display())).expect("JSON")["b"], 2);
        for bad in ["", "{", "@/does/not/exist"] {
            assert_eq!(arguments("--args", bad).expect_err(bad).exit, Exit::Usage);
        }
    }

    #[test]
    fn refused_arguments_are_the_callers_turn_and_all_else_is_not() {
        let violation = Violation { pointer: "/limit".into(), message: "is 0".into(), keyword: "minimum".into() };
        let failure = refused(PlanError::Invalid(vec![violation]));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Usage, "arguments refused\n  /limit: is 0"));
        let denied = PlanError::Denied { pointer: "/steps/0/program".into(), message: "not granted".into() };
        assert_eq!(refused(denied).exit, Exit::Error);
    }
}
