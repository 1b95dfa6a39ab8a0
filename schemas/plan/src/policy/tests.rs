//! What rules allow, and that it is no more.

use super::*;

fn step(program: &str, args: &[&str]) -> Step {
    Step { args: args.iter().map(|a| (*a).to_owned()).collect(), ..Step::new(program) }
}

fn rule(program: &str, args: &[&[&str]]) -> ProgramRule {
    let args = args.iter().map(|list| list.iter().map(|a| (*a).to_owned()).collect()).collect();
    ProgramRule { args, ..ProgramRule::any_args(program) }
}

#[track_caller]
fn check(rules: &[ProgramRule], step: Step, denied_at: Option<&str>) {
    let rules = Rules { effects: vec![Effect::Read], programs: rules.to_vec() };
    let plan = Plan { steps: vec![step], effect: Effect::Read, locks: Vec::new(), summary: String::new() };
    let found = rules.permit(&plan).err().map(|denied| denied.pointer);
    assert_eq!(found.as_deref(), denied_at);
}

#[test]
fn empty_rules_allow_nothing() {
    let plan = Plan { steps: vec![Step::new("true")], effect: Effect::Read, locks: Vec::new(), summary: String::new() };
    assert_eq!(Rules::default().permit(&plan).err().map(|d| d.pointer), Some("/effect".into()));
    check(&[], Step::new("true"), Some("/steps/0/program"));
    check(&[rule("true", &[])], Step::new("true"), Some("/steps/0/args"));
}

#[test]
fn argument_patterns_match_item_by_item() {
    let docker = [rule("docker", &[&["ps", "**"], &["logs", "--tail=*", "*"]])];
    check(&docker, step("docker", &["ps"]), None);
    check(&docker, step("docker", &["ps", "-a", "--no-trunc"]), None);
    check(&docker, step("docker", &["logs", "--tail=5", "web"]), None);
    check(&docker, step("docker", &["logs", "web"]), Some("/steps/0/args"));
    check(&docker, step("docker", &["rm", "ps"]), Some("/steps/0/args"));
    check(&docker, step("dockerd", &["ps"]), Some("/steps/0/program"));
}

#[test]
fn a_path_is_meant_by_the_rule_that_maps_to_it_and_by_no_other() {
    let uname = ProgramRule { path: Some("/usr/bin/uname".into()), ..ProgramRule::any_args("uname") };
    check(std::slice::from_ref(&uname), step("/usr/bin/uname", &["-a"]), None);
    check(&[uname], step("/tmp/uname", &[]), Some("/steps/0/program"));
}

#[test]
fn env_cwd_stdin_and_time_are_denied_unless_named() {
    let mut rule = ProgramRule::any_args("env");
    let mut step = Step::new("env");
    step.env.insert("LANG".into(), "C".into());
    check(&[rule.clone()], step.clone(), Some("/steps/0/env"));
    rule.env = vec!["LA*".into()];
    step.cwd = Some("/srv/app".into());
    check(&[rule.clone()], step.clone(), Some("/steps/0/cwd"));
    rule.cwd = vec!["/srv".into()];
    step.stdin = Some("x".into());
    check(&[rule.clone()], step.clone(), Some("/steps/0/stdin"));
    rule.stdin = true;
    rule.max_timeout_ms = Some(10);
    step.timeout_ms = Some(11);
    check(&[rule.clone()], step.clone(), Some("/steps/0/timeout_ms"));
    step.timeout_ms = Some(10);
    check(&[rule.clone()], step.clone(), None);
    step.cwd = Some("/srvother".into());
    check(&[rule], step, Some("/steps/0/cwd"));
}

#[test]
fn a_step_that_names_no_longest_run_gets_that_of_the_first_rule_that_allows_all_of_it() {
    let limited = |limit, env: &[&str]| ProgramRule {
        max_timeout_ms: limit,
        env: env.iter().map(|name| (*name).to_owned()).collect(),
        ..ProgramRule::any_args("env")
    };
    let rules =
        Rules { effects: vec![Effect::Read], programs: vec![limited(Some(10), &[]), limited(Some(20), &["LANG"])] };
    let plan = |steps| Plan { steps, effect: Effect::Read, locks: Vec::new(), summary: String::new() };
    let mut other = Step::new("env");
    other.env.insert("LANG".into(), "C".into());
    let short = Step { timeout_ms: Some(3), ..other.clone() };
    let bound = rules.bound(plan(vec![Step::new("env"), other.clone(), short])).expect("allowed");
    let longest: Vec<_> = bound.steps.iter().map(|step| step.timeout_ms).collect();
    assert_eq!(longest, [Some(10), Some(20), Some(3)]);
    assert_eq!(rules.cover(&bound, 1_000), Ok(()));
    // Made when there was no limit: whoever runs it bounds it, whoever sends it looks at the whole command's.
    let loose = plan(vec![other]);
    assert_eq!(rules.permit(&loose), Ok(()));
    assert_eq!(rules.cover(&loose, 20), Ok(()));
    assert_eq!(
        rules.cover(&loose, 21).expect_err("too long").to_string(),
        "/steps/0/timeout_ms: it would run 21 ms, and `env` may run 20 ms"
    );
    let long = plan(vec![Step { timeout_ms: Some(21), ..Step::new("env") }]);
    for denied in [rules.permit(&long).err(), rules.bound(long.clone()).err(), rules.cover(&long, 1_000).err()] {
        assert_eq!(denied.expect("too long").pointer, "/steps/0/timeout_ms");
    }
}

#[test]
fn rules_go_beyond_others_by_what_they_allow_and_no_line_less() {
    let rules =
        |effects: &[Effect], programs: &[ProgramRule]| Rules { effects: effects.to_vec(), programs: programs.to_vec() };
    let (read, change) = (Effect::Read, Effect::Change);
    let ps = rule("docker", &[&["ps", "**"]]);
    let held = rules(&[read], std::slice::from_ref(&ps));
    for (asked, wider) in [
        (held.clone(), vec![]),
        (rules(&[], &[]), vec![]),
        (rules(&[read], &[rule("docker", &[&["ps", "-a"]])]), vec![]),
        (rules(&[read], &[rule("docker", &[&["ps", "*", "**"]])]), vec![]),
        (rules(&[read, change], std::slice::from_ref(&ps)), vec!["effect `change`"]),
        (rules(&[read], &[ps.clone(), rule("rm", &[])]), vec!["program `rm`"]),
        (rules(&[read], &[rule("docker", &[&["**"]])]), vec!["program `docker` with other arguments"]),
        (rules(&[read], &[rule("docker", &[&["p*"]])]), vec!["program `docker` with other arguments"]),
        (rules(&[read], &[ProgramRule::any_args("*")]), vec!["program `*`"]),
        (
            rules(&[read], &[ProgramRule { env: vec!["A".into()], stdin: true, ..ps.clone() }]),
            vec!["program `docker` with more variables, standard input"],
        ),
        (
            rules(&[read], &[ProgramRule { cwd: vec!["/srv".into()], max_timeout_ms: Some(5), ..ps.clone() }]),
            vec!["program `docker` with more directories"],
        ),
    ] {
        assert_eq!(asked.beyond(&held), wider);
    }
    let limited = ProgramRule { max_timeout_ms: Some(5), cwd: vec!["/srv".into()], env: vec!["L*".into()], ..ps };
    let held = rules(&[read], std::slice::from_ref(&limited));
    let narrower = ProgramRule {
        max_timeout_ms: Some(4),
        cwd: vec!["/srv/app".into()],
        env: vec!["LANG".into(), "LC_*".into()],
        ..limited.clone()
    };
    assert_eq!(rules(&[read], &[narrower]).beyond(&held), Vec::<String>::new());
    let longer = ProgramRule { max_timeout_ms: None, ..limited };
    assert_eq!(rules(&[read], &[longer]).beyond(&held), ["program `docker` with a longer run"]);
    assert_eq!(rules(&[read], &[ProgramRule::any_args("*")]).beyond(&Rules::default()).len(), 2);
}

#[test]
fn a_denial_says_which_rule_said_no() {
    let read = ProgramRule { cwd: vec!["/srv".into()], ..rule("docker", &[&["ps", "**"]]) };
    let slow = ProgramRule { max_timeout_ms: Some(100), env: vec!["LANG".into()], ..rule("*-compose", &[&["up"]]) };
    let rules = Rules { effects: vec![Effect::Read], programs: vec![rule("uname", &[]), read, slow] };
    let at = |change: fn(&mut Step), program: &str, args: &[&str]| {
        let mut step = step(program, args);
        change(&mut step);
        let plan = Plan { steps: vec![step], effect: Effect::Read, locks: Vec::new(), summary: String::new() };
        rules.permit(&plan).err().map(|denied| denied.to_string()).unwrap_or_default()
    };
    for (change, program, args, told) in [
        ((|_| ()) as fn(&mut Step), "docker", ["ps"].as_slice(), ""),
        (
            |_| (),
            "docker",
            &["rm", "-f"],
            "/steps/0/args: these arguments are not among those allowed for `docker` (rule 2 of 3)",
        ),
        (
            |s| s.cwd = Some("/etc".into()),
            "docker",
            &["ps"],
            "/steps/0/cwd: directory `/etc` is not allowed for `docker` (rule 2 of 3)",
        ),
        (
            |s| s.cwd = Some("/srv/../etc".into()),
            "docker",
            &["rm"],
            "/steps/0/args: these arguments are not among those allowed for `docker` (rule 2 of 3)",
        ),
        (
            |s| s.stdin = Some(String::new()),
            "docker",
            &["ps"],
            "/steps/0/stdin: standard input is not allowed for `docker` (rule 2 of 3)",
        ),
        (|s| _ = s.env.insert("LANG".into(), "C".into()), "x-compose", &["up"], ""),
        (
            |s| _ = s.env.insert("LD_PRELOAD".into(), "x".into()),
            "x-compose",
            &["up"],
            "/steps/0/env: variable `LD_PRELOAD` is not allowed for `*-compose` (rule 3 of 3)",
        ),
        (
            |s| s.timeout_ms = Some(101),
            "x-compose",
            &["up"],
            "/steps/0/timeout_ms: 101 ms is over the 100 ms allowed for `*-compose` (rule 3 of 3)",
        ),
        (
            |_| (),
            "uname",
            &["-a"],
            "/steps/0/args: these arguments are not among those allowed for `uname` (rule 1 of 3)",
        ),
        (|_| (), "rm", &["-rf", "/"], "/steps/0/program: program `rm` is not in the list of allowed programs"),
    ] {
        assert_eq!(at(change, program, args), told, "{program} {args:?}");
    }
}

#[test]
fn every_step_and_the_effect_of_the_whole_are_judged() {
    let rules = Rules { effects: vec![Effect::Read, Effect::Destroy], programs: vec![rule("uname", &[&["**"]])] };
    let denied = |effect, programs: &[&str]| {
        let steps = programs.iter().map(|program| Step::new(*program)).collect();
        let plan = Plan { steps, effect, locks: Vec::new(), summary: String::new() };
        rules.permit(&plan).err().map(|denied| denied.to_string()).unwrap_or_default()
    };
    assert_eq!(denied(Effect::Destroy, &["uname", "uname"]), "");
    assert!(denied(Effect::Read, &["uname", "sh"]).starts_with("/steps/1/program: program `sh`"));
    for effect in [Effect::Change, Effect::Host] {
        let told = format!("/effect: effect `{effect}` is not allowed (allowed: read, destroy)");
        assert_eq!(denied(effect, &["uname"]), told);
    }
}

#[test]
fn stars_match_any_run_and_nothing_else() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("*", "anything", true),
        ("a*c", "abbc", true),
        ("a*c", "ac", true),
        ("a*c", "acd", false),
        ("**", "x", true),
        ("a**b", "ab", true),
        ("", "", true),
        ("", "x", false),
        ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaa", false),
    ] {
        assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
    }
}
