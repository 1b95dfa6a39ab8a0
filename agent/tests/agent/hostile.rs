//! A hostile host with a valid key: whatever plan it signs, nothing runs that the policy does not name. The judge
//! is a model of its own, made of the policy's words and of nothing the agent uses.
//!
//! `VIWORKS_PLANS` is the number of plans, `VIWORKS_SEED` the seed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use agent::policy::Policy;
use plan::effect::Effect;
use plan::step::{Plan, Step};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

const PLANS_OF_A_POLICY: usize = 500;
const FILES: [&str; 4] = ["/bin/true", "/bin/false", "/bin/sh", "/usr/bin/env"];
/// In the order in which a policy lists them.
const NAMES: [&str; 5] = ["env", "sh", "t", "tool", "tool2"];
const WORDS: [&str; 12] = ["", "a", "ab", "abab", "-a", "--tail=5", "--tail=", "ps", "**", "*", "a*b", "/srv/../etc"];
const PATTERNS: [&str; 12] = ["", "*", "a*", "*b", "a*b*", "--tail=*", "ps", "**", "ab", "-a", "*-*", "***"];
const VARIABLES: [&str; 7] = ["LANG", "LC_ALL", "LC_", "LD_PRELOAD", "PATH", "L", "LANGUAGE"];
const ALLOWED_VARIABLES: [&str; 5] = ["LANG", "LC_*", "L*", "PATH", "*"];
const FOLDERS: [&str; 9] = ["/", "/srv", "/srv/app", "/srvx", "/srv/app/x", "/etc", "/s", "/srv/..app", "/tmp"];

/// One program as the policy file says it.
struct Line {
    name: &'static str,
    path: &'static str,
    args: Option<Vec<Vec<&'static str>>>,
    env: Vec<&'static str>,
    cwd: Vec<&'static str>,
    stdin: bool,
    max_timeout_ms: Option<u64>,
}

/// A policy file, in the order its programs are listed.
struct Model {
    effects: Vec<Effect>,
    lines: Vec<Line>,
}

fn some<T: Copy>(rng: &mut StdRng, of: &[T], most: usize) -> Vec<T> {
    (0..rng.random_range(0..=most)).map(|_| *of.choose(rng).expect("some")).collect()
}

impl Model {
    fn new(rng: &mut StdRng) -> Model {
        let effects = Effect::ALL.into_iter().filter(|_| rng.random_bool(0.6)).collect();
        let names = NAMES.into_iter().filter(|_| rng.random_bool(0.6)).collect::<Vec<_>>();
        let line = |name| Line {
            name,
            path: FILES.choose(rng).expect("some"),
            args: rng.random_bool(0.8).then(|| {
                let lists = rng.random_range(0..4);
                (0..lists).map(|_| some(rng, &PATTERNS, 3)).collect()
            }),
            env: some(rng, &ALLOWED_VARIABLES, 2),
            cwd: some(rng, &FOLDERS, 2),
            stdin: rng.random_bool(0.5),
            max_timeout_ms: rng.random_bool(0.5).then(|| rng.random_range(1..4)),
        };
        Model { effects, lines: names.into_iter().map(line).collect() }
    }

    fn text(&self) -> String {
        let effects: Vec<&str> = self.effects.iter().map(|effect| effect.as_str()).collect();
        let mut text = format!("effects = {effects:?}\n");
        for Line { name, path, args, env, cwd, stdin, max_timeout_ms } in &self.lines {
            write!(text, "[programs.{name}]\npath = {path:?}\nenv = {env:?}\ncwd = {cwd:?}\nstdin = {stdin}\n")
                .expect("grows");
            if let Some(args) = args {
                writeln!(text, "args = {args:?}").expect("grows");
            }
            if let Some(limit) = max_timeout_ms {
                writeln!(text, "max_timeout_ms = {limit}").expect("grows");
            }
        }
        text
    }

    /// Whether the words of the file allow the plan.
    fn allows(&self, plan: &Plan) -> bool {
        let fits = |step: &Step| self.lines.iter().any(|line| line.fits(step));
        self.effects.contains(&plan.effect) && plan.steps.iter().all(fits)
    }
}

impl Line {
    fn fits(&self, step: &Step) -> bool {
        let named = step.program == self.name || step.program == self.path;
        let args: Vec<&str> = step.args.iter().map(String::as_str).collect();
        let args = self.args.as_ref().is_none_or(|lists| lists.iter().any(|list| list_fits(list, &args)));
        let variable = |name: &String| {
            self.env.iter().any(|allowed| match allowed.split_once('*') {
                Some((start, _)) => name.starts_with(start),
                None => name == allowed,
            })
        };
        let folder = |path: &String| {
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            let below = |root: &&str| {
                let root: Vec<&str> = root.split('/').filter(|part| !part.is_empty()).collect();
                parts.starts_with(&root)
            };
            self.cwd.iter().any(below)
        };
        let stdin = self.stdin || step.stdin.is_none();
        named && args && step.env.keys().all(variable) && step.cwd.iter().all(folder) && stdin
    }
}

/// Item by item; `**` at the end stands for any rest.
fn list_fits(list: &[&str], args: &[&str]) -> bool {
    match (list, args) {
        (["**"], _) | ([], []) => true,
        ([item, list @ ..], [arg, args @ ..]) => {
            word_fits(&item.chars().collect::<Vec<_>>(), &arg.chars().collect::<Vec<_>>()) && list_fits(list, args)
        }
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

/// Letter by letter; `*` stands for none or more.
fn word_fits(pattern: &[char], word: &[char]) -> bool {
    match (pattern, word) {
        ([], []) => true,
        (['*', rest @ ..], _) => word_fits(rest, word) || (!word.is_empty() && word_fits(pattern, &word[1..])),
        ([letter, pattern @ ..], [other, word @ ..]) => letter == other && word_fits(pattern, word),
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

fn plan(rng: &mut StdRng) -> Plan {
    let step = |rng: &mut StdRng| Step {
        program: (*NAMES.iter().chain(&FILES).chain(&["/tmp/tool"]).collect::<Vec<_>>().choose(rng).expect("some"))
            .to_string(),
        args: some(rng, &WORDS, 3).into_iter().map(str::to_owned).collect(),
        env: some(rng, &VARIABLES, 1)
            .into_iter()
            .map(|name| (name.to_owned(), "x".to_owned()))
            .collect::<BTreeMap<_, _>>(),
        cwd: rng.random_bool(0.3).then(|| (*FOLDERS.choose(rng).expect("some")).to_owned()),
        stdin: rng.random_bool(0.2).then(String::new),
        timeout_ms: rng.random_bool(0.3).then(|| rng.random_range(1..6)),
    };
    let effect = *Effect::ALL.choose(rng).expect("some");
    let steps = (0..rng.random_range(1..3)).map(|_| step(rng)).collect();
    Plan { steps, effect, locks: Vec::new(), summary: String::new() }
}

#[test]
fn a_hostile_host_with_a_valid_key_gets_nothing_outside_the_policy() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let plans = number("VIWORKS_PLANS").unwrap_or(100_000) as usize;
    let seed = number("VIWORKS_SEED").unwrap_or_else(rand::random);
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("policy.toml");
    let (mut allowed, mut tried) = (0, 0);
    while tried < plans {
        let model = Model::new(&mut rng);
        std::fs::write(&file, model.text()).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("private");
        let policy = Policy::load(&file).unwrap_or_else(|error| panic!("{error}\n{}", model.text()));
        for _ in 0..PLANS_OF_A_POLICY {
            let plan = plan(&mut rng);
            let said = policy.resolve(&plan);
            assert_eq!(said.is_ok(), model.allows(&plan), "seed {seed}: {said:?} to {plan:#?}\n{}", model.text());
            let steps = said.unwrap_or_default();
            for (step, asked) in steps.iter().zip(&plan.steps) {
                let line = model.lines.iter().find(|line| line.fits(asked)).expect("one fits");
                let file = std::fs::canonicalize(line.path).expect("there");
                assert_eq!((step.name.as_str(), step.program.as_str()), (line.path, file.to_str().expect("text")));
                assert_eq!((&step.args, &step.env, &step.cwd), (&asked.args, &asked.env, &asked.cwd));
                let longest = asked.timeout_ms.into_iter().chain(line.max_timeout_ms).min();
                assert_eq!(step.timeout_ms, longest, "it runs for as long as it wants to and may");
            }
            allowed += usize::from(!steps.is_empty());
            tried += 1;
        }
    }
    assert!(allowed > plans / 200, "{allowed} of {tried} plans were allowed: the test is too hostile to see anything");
    println!("{tried} plans (seed {seed}), {allowed} within the policy, outside 0");
}
