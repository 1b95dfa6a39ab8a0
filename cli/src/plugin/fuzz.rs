//! `viworks plugin fuzz`: a plugin is asked for plans of whatever its schema takes, and what it should not; a rule, for
//! what it makes of samples nobody has seen yet.
//!
//! It must not trap, must answer equal questions with equal bytes, and must plan nothing its manifest does
//! not ask for. What a machine could have answered is made up too, and must be read as calmly.

mod arguments;
mod rule;
mod samples;

use std::path::PathBuf;

use clap::Args;
use domain::verb::{Profile, VerbName};
use plan::manifest::VerbManifest;
use plan::outcome::{End, Outcome, StepEnd, StreamEnd};
use plan::rule::RuleManifest;
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
    /// Only this verb; a rule has none
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// Where chance begins; the next case has the next number [default: another each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Cases of each verb, or of the rule
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub count: u64,
}

/// What came of one verb.
#[derive(Debug, Default)]
struct Tally {
    planned: u64,
    refused: u64,
}

/// What came of all cases.
enum Came {
    Verbs(Vec<(String, Tally)>),
    Rule(String, rule::Tally),
}

/// A case that went wrong.
#[derive(Debug)]
struct Finding {
    /// None of a rule.
    verb: Option<String>,
    seed: u64,
    args: Value,
    what: String,
}

pub(super) fn command(options: &FuzzOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let loaded =
        Loaded::open(&bytes, &super::file_name(&options.file)).map_err(|error| failed(&options.file, error))?;
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let (came, findings) = match &loaded.manifest().rule {
        Some(rule) => samples_of(options, &loaded, rule, seed)?,
        None => verbs_of(options, &loaded, seed)?,
    };
    report(options, seed, &came, &findings, sink)?;
    Ok(if findings.is_empty() { Exit::Ok } else { Exit::Error })
}

fn verbs_of(options: &FuzzOptions, loaded: &Loaded, seed: u64) -> Result<(Came, Vec<Finding>), Failure> {
    let wanted = |verb: &&VerbManifest| options.verb.as_ref().is_none_or(|name| *name == verb.name);
    let verbs: Vec<&VerbManifest> = loaded.manifest().verbs.iter().filter(wanted).collect();
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
            let case = Case { loaded, machine: &machine, verb, seed: seed.wrapping_add(number) };
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
    Ok((Came::Verbs(rows), findings))
}

fn samples_of(
    options: &FuzzOptions,
    loaded: &Loaded,
    rule: &RuleManifest,
    seed: u64,
) -> Result<(Came, Vec<Finding>), Failure> {
    if options.verb.is_some() {
        return Err(Failure::usage("a rule has no verbs; leave `--verb` out"));
    }
    let mut tally = rule::Tally::default();
    let mut findings = Vec::new();
    for seed in (0..options.count).map(|number| seed.wrapping_add(number)) {
        if let Some(rule::Trouble { asked, what }) = rule::play(loaded, rule, seed, &mut tally)? {
            findings.push(Finding { verb: None, seed, args: asked, what });
            break;
        }
    }
    Ok((Came::Rule(loaded.manifest().name.clone(), tally), findings))
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
        let found =
            |what: String| Finding { verb: Some(self.verb.name.clone()), seed: self.seed, args: args.clone(), what };
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

fn report(options: &FuzzOptions, seed: u64, came: &Came, findings: &[Finding], sink: &Sink) -> Result<(), Failure> {
    let file = quote(&options.file.display().to_string());
    let again = |finding: &Finding| {
        let Finding { verb, seed, .. } = finding;
        let verb = verb.as_ref().map_or_else(String::new, |verb| format!(" --verb {verb}"));
        format!("viworks plugin fuzz {file}{verb} --seed {seed} --count 1")
    };
    let found: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let Finding { verb, seed, args, what } = finding;
            json!({ "verb": verb, "seed": seed, "args": args, "what": what, "again": again(finding) })
        })
        .collect();
    let mut answer = json!({ "ok": findings.is_empty(), "seed": seed, "findings": found });
    match came {
        Came::Verbs(rows) => {
            let row = |(verb, tally): &(String, Tally)| json!({ "verb": verb, "planned": tally.planned, "refused": tally.refused });
            answer["verbs"] = rows.iter().map(row).collect();
        }
        Came::Rule(_, tally) => answer["rule"] = tally.answer(),
    }
    sink.one(&answer, "", || {
        let mut page = String::new();
        let mut tell = |line: String| page.push_str(&(escape::line(&line) + "\n"));
        let word = |failed: bool| if failed { "FAILED" } else { "ok" };
        match came {
            Came::Verbs(rows) => {
                for (verb, Tally { planned, refused }) in rows {
                    let failed = findings.iter().any(|finding| finding.verb.as_ref() == Some(verb));
                    tell(format!("{:<7} {verb}: {planned} planned, {refused} refused", word(failed)));
                }
            }
            Came::Rule(name, tally) => tell(format!("{:<7} {name}: {}", word(!findings.is_empty()), tally.line())),
        }
        for finding in findings {
            let Finding { verb, args, what, .. } = finding;
            tell(format!("{}: {what}", verb.as_deref().unwrap_or("the rule")));
            tell(format!("  with {args}"));
            tell(format!("  again: {}", again(finding)));
        }
        page + &format!("seed {seed}\n")
    })?;
    Ok(())
}
