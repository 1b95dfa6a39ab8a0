//! `viworks plugin fuzz`: a plugin is asked for plans of whatever its schema takes, and what it should not.
//!
//! It must not trap, must answer equal questions with equal bytes, and must plan nothing its manifest does
//! not ask for. What a machine could have answered is made up too, and must be read as calmly.

mod arguments;

use std::path::PathBuf;

use clap::Args;
use domain::verb::{Profile, VerbName};
use plan::manifest::{Kind, VerbManifest};
use plan::outcome::{End, Outcome, StepEnd, StreamEnd};
use ports::plugins::{Outputs, PlanError};
use runtime::tool::Loaded;
use serde_json::{Value, json};

use super::diff::failed;
use super::run::profile;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};
use crate::schema::quote;

pub use arguments::{Chance, arguments};

/// Which file, how often, and from where chance begins.
#[derive(Clone, Debug, Args)]
pub struct FuzzOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only this verb
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// Where chance begins; the next case has the next number [default: another each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Cases of each verb
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub count: u64,
}

/// What came of one verb.
#[derive(Debug, Default)]
struct Tally {
    planned: u64,
    refused: u64,
}

/// A case that went wrong.
#[derive(Debug)]
struct Finding {
    verb: String,
    seed: u64,
    args: Value,
    what: String,
}

pub(super) fn command(options: &FuzzOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let loaded =
        Loaded::open(&bytes, &super::file_name(&options.file)).map_err(|error| failed(&options.file, error))?;
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let wanted = |verb: &&VerbManifest| options.verb.as_ref().is_none_or(|name| *name == verb.name);
    let verbs: Vec<&VerbManifest> = loaded.manifest().verbs.iter().filter(wanted).collect();
    if loaded.manifest().kind() == Kind::Rule {
        return Err(Failure::usage("a rule takes no arguments to make up; `viworks plugin test` plays its courses"));
    }
    if verbs.is_empty() {
        let name = options.verb.as_deref().unwrap_or_default();
        return Err(Failure::usage(escape::line(&format!("the plugin has no verb `{name}`"))));
    }
    let machine = profile("")?;
    let mut rows = Vec::new();
    let mut findings = Vec::new();
    for verb in verbs {
        let mut tally = Tally::default();
        for number in 0..options.count {
            let case = Case { loaded: &loaded, machine: &machine, verb, seed: seed.wrapping_add(number) };
            match case.play(&mut tally)? {
                None => {}
                // One is enough to mend; the rest of this verb would mostly say the same.
                Some(finding) => {
                    findings.push(finding);
                    break;
                }
            }
        }
        rows.push((verb.name.clone(), tally));
    }
    report(options, seed, &rows, &findings, sink)?;
    Ok(if findings.is_empty() { Exit::Ok } else { Exit::Error })
}

struct Case<'a> {
    loaded: &'a Loaded,
    machine: &'a Profile,
    verb: &'a VerbManifest,
    seed: u64,
}

impl Case<'_> {
    /// Plays one case twice. What is wrong with it, if anything is.
    fn play(&self, tally: &mut Tally) -> Result<Option<Finding>, Failure> {
        let mut chance = Chance::new(self.seed);
        let examples: Vec<Value> = self.verb.examples.iter().map(|example| example.args.clone()).collect();
        let args = arguments(&self.verb.args_schema, &examples, &mut chance);
        let found = |what: String| Finding { verb: self.verb.name.clone(), seed: self.seed, args: args.clone(), what };
        let name = VerbName::parse(&self.verb.name)
            .ok_or_else(|| Failure::new(Exit::Error, "a verb that passed the gates has a name"))?;
        let asked = || {
            let planned = self.loaded.plan(&name, self.machine, &args, None);
            planned.map_err(|error| Failure::new(Exit::Error, escape::line(&error.to_string())))
        };
        let (first, second) = (asked()?.answer, asked()?.answer);
        if first != second {
            return Ok(Some(found("two plans for equal arguments differ".to_owned())));
        }
        let plan = match first {
            Err(PlanError::Invalid(_)) => {
                tally.refused += 1;
                return Ok(None);
            }
            Err(error @ (PlanError::Denied { .. } | PlanError::Failed { .. } | PlanError::Overloaded)) => {
                return Ok(Some(found(error.to_string())));
            }
            Ok(plan) => plan,
        };
        tally.planned += 1;
        let outputs = outputs(self.verb, plan.steps.len(), &mut chance);
        let read = || {
            let meant = self.loaded.interpret(&name, self.machine, &args, outputs.clone());
            meant.map_err(|error| Failure::new(Exit::Error, escape::line(&error.to_string())))
        };
        let (first, second) = (read()?, read()?);
        if first.answer != second.answer {
            return Ok(Some(found("two interpretations of equal output differ".to_owned())));
        }
        let faulty = first.faulty.then(|| first.answer.parse_fault.unwrap_or_default());
        Ok(faulty.map(|fault| found(format!("`interpret` of made-up output: {fault}"))))
    }
}

/// What a machine might have printed: what an example recorded, whole, cut or scrambled, or nothing like it.
fn outputs(verb: &VerbManifest, steps: usize, chance: &mut Chance) -> Outputs {
    let recorded: Vec<&str> = verb
        .examples
        .iter()
        .filter_map(|example| example.golden.as_ref())
        .map(|golden| golden.stdout.as_str())
        .collect();
    let mut stdout = match recorded.as_slice() {
        [] => Vec::new(),
        all => all[chance.below(all.len())].as_bytes().to_vec(),
    };
    match chance.below(5) {
        0 => stdout.clear(),
        1 => stdout.truncate(chance.below(stdout.len() + 1)),
        2 => {
            for _ in 0..4 {
                if !stdout.is_empty() {
                    let at = chance.below(stdout.len());
                    stdout[at] = u8::try_from(chance.below(256)).unwrap_or_default();
                }
            }
        }
        3 => stdout = b"{\"\xff\xfe]\n\x00\x1b[31m,,,\n".repeat(1 + chance.below(40)),
        _ => {}
    }
    let truncated = chance.below(4) == 0;
    let code = [0, 0, 0, 1, 125, 255][chance.below(6)];
    let kept = stdout.len() as u64;
    let stream = |bytes: u64| StreamEnd { bytes, head: kept.min(bytes), ..StreamEnd::default() };
    let mut ends = vec![StepEnd { exit_code: Some(0), ..StepEnd::default() }; steps.max(1)];
    if let Some(last) = ends.last_mut() {
        *last = StepEnd { exit_code: Some(code), stdout_bytes: kept, ..StepEnd::default() };
    }
    Outputs {
        outcome: Outcome {
            end: End::Exited,
            steps: ends,
            stdout: stream(kept + u64::from(truncated)),
            stderr: stream(0),
            duration_ms: 0,
        },
        stdout,
        stderr: Vec::new(),
    }
}

fn report(
    options: &FuzzOptions,
    seed: u64,
    rows: &[(String, Tally)],
    findings: &[Finding],
    sink: &Sink,
) -> Result<(), Failure> {
    let file = options.file.display().to_string();
    let again = |finding: &Finding| {
        let Finding { verb, seed, .. } = finding;
        format!("viworks plugin fuzz {} --verb {verb} --seed {seed} --count 1", quote(&file))
    };
    let verbs: Vec<Value> = rows
        .iter()
        .map(|(verb, tally)| json!({ "verb": verb, "planned": tally.planned, "refused": tally.refused }))
        .collect();
    let found: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let Finding { verb, seed, args, what } = finding;
            json!({ "verb": verb, "seed": seed, "args": args, "what": what, "again": again(finding) })
        })
        .collect();
    let answer = json!({ "ok": findings.is_empty(), "seed": seed, "verbs": verbs, "findings": found });
    sink.one(&answer, "", || {
        let mut page = String::new();
        for (verb, Tally { planned, refused }) in rows {
            let word = if findings.iter().any(|finding| finding.verb == *verb) { "FAILED" } else { "ok" };
            page.push_str(&(escape::line(&format!("{word:<7} {verb}: {planned} planned, {refused} refused")) + "\n"));
        }
        for finding in findings {
            let Finding { verb, args, what, .. } = finding;
            for line in [format!("{verb}: {what}"), format!("  with {args}"), format!("  again: {}", again(finding))] {
                page.push_str(&(escape::line(&line) + "\n"));
            }
        }
        page + &format!("seed {seed}\n")
    })?;
    Ok(())
}
