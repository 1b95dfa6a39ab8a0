//! What changed between two manifests: verbs come and go, promise less, or ask for more.

use plan::manifest::{Manifest, VerbManifest};
use plan::policy::{ProgramRule, Rules};
use plan::rule::RuleManifest;
use serde_json::{Value, json};

use super::schema::{self, Direction};
use super::{Change, Step};

/// Everything that is not as it was.
pub fn changes(old: &Manifest, new: &Manifest) -> Vec<Change> {
    let mut found = Vec::new();
    if old.name != new.name {
        found.push(change(
            Step::Major,
            "name",
            format!("is {}, was {}: a host takes it for another plugin", new.name, old.name),
        ));
    }
    if old.abi != new.abi {
        found.push(change(Step::Minor, "abi", format!("is {}, was {}", new.abi, old.abi)));
    }
    if old.summary != new.summary {
        found.push(change(Step::Patch, "summary", "reads otherwise"));
    }
    for verb in &old.verbs {
        match new.verbs.iter().find(|other| other.name == verb.name) {
            None => found.push(change(Step::Major, &verb.name, "is gone")),
            Some(now) => found.extend(verb_changes(verb, now)),
        }
    }
    let had = |name: &str| old.verbs.iter().any(|verb| verb.name == name);
    found
        .extend(new.verbs.iter().filter(|verb| !had(&verb.name)).map(|verb| change(Step::Minor, &verb.name, "is new")));
    found.extend(configuration(old.config_schema.as_ref(), new.config_schema.as_ref()));
    found.extend(grants(&old.grants, &new.grants));
    found.extend(rules(old.rule.as_ref(), new.rule.as_ref()));
    found
}

fn change(step: Step, place: &str, what: impl Into<String>) -> Change {
    Change { step, place: place.to_owned(), what: what.into(), widens_grant: false }
}

fn verb_changes(old: &VerbManifest, new: &VerbManifest) -> Vec<Change> {
    let mut found = Vec::new();
    let place = |key: &str| format!("{} {key}", old.name);
    if old.summary != new.summary {
        found.push(change(Step::Patch, &place("summary"), "reads otherwise"));
    }
    if old.effect != new.effect {
        let step = if new.effect > old.effect { Step::Major } else { Step::Minor };
        found.push(change(step, &place("effect"), format!("is {}, was {}", new.effect, old.effect)));
    }
    match (old.idempotent, new.idempotent) {
        (true, false) => {
            found.push(change(Step::Major, &place("idempotent"), "is so no longer: it is not tried again by itself"))
        }
        (false, true) => found.push(change(Step::Minor, &place("idempotent"), "is so now")),
        (true, true) | (false, false) => {}
    }
    if old.cancel != new.cancel {
        found.push(change(Step::Major, &place("cancel"), format!("is {}, was {}", new.cancel, old.cancel)));
    }
    if old.default_timeout_ms != new.default_timeout_ms {
        let step = if new.default_timeout_ms < old.default_timeout_ms { Step::Major } else { Step::Minor };
        let what = format!("is {} ms, was {} ms", new.default_timeout_ms, old.default_timeout_ms);
        found.push(change(step, &place("default_timeout_ms"), what));
    }
    if old.needs != new.needs {
        let word = |needs: &Option<String>| needs.clone().unwrap_or_else(|| "nothing".into());
        let step = if new.needs.is_none() { Step::Minor } else { Step::Major };
        found.push(change(step, &place("needs"), format!("is {}, was {}", word(&new.needs), word(&old.needs))));
    }
    found.extend(schema::changes(&old.args_schema, &new.args_schema, Direction::In, &place("args")));
    found.extend(schema::changes(&old.result_schema, &new.result_schema, Direction::Out, &place("result")));
    found
}

fn configuration(old: Option<&Value>, new: Option<&Value>) -> Vec<Change> {
    let nothing = json!({ "type": "object", "additionalProperties": false });
    match (old, new) {
        (None, None) => Vec::new(),
        (old, new) => schema::changes(old.unwrap_or(&nothing), new.unwrap_or(&nothing), Direction::In, "configuration"),
    }
}

/// What a rule reads may change as it likes; what was kept for it is lost with its form.
fn rules(old: Option<&RuleManifest>, new: Option<&RuleManifest>) -> Vec<Change> {
    let mut found = Vec::new();
    match (old, new) {
        (None, None) => {}
        (Some(_), None) => found.push(change(Step::Major, "rule", "is none any more")),
        (None, Some(_)) => found.push(change(Step::Major, "rule", "is one now")),
        (Some(old), Some(new)) => {
            for metric in new.reads.iter().filter(|metric| !old.reads.contains(metric)) {
                found.push(change(Step::Minor, "rule", format!("reads {metric}")));
            }
            for metric in old.reads.iter().filter(|metric| !new.reads.contains(metric)) {
                found.push(change(Step::Minor, "rule", format!("reads {metric} no longer")));
            }
            if old.state_version != new.state_version {
                let what = format!("is {}, was {}: what it remembered is lost", new.state_version, old.state_version);
                found.push(change(Step::Minor, "state_version", what));
            }
            if old.examples != new.examples {
                found.push(change(Step::Patch, "rule examples", "are others"));
            }
        }
    }
    found
}

/// Operators agree to what is written: a rule that stood there before in the same words asks for nothing new.
fn grants(old: &Rules, new: &Rules) -> Vec<Change> {
    let mut found = Vec::new();
    let mut say = |what: String, widens_grant| {
        found.push(Change { step: Step::Minor, place: "grants".into(), what, widens_grant });
    };
    for effect in new.effects.iter().filter(|effect| !old.effects.contains(effect)) {
        say(format!("asks for effect `{effect}`"), true);
    }
    for effect in old.effects.iter().filter(|effect| !new.effects.contains(effect)) {
        say(format!("asks for effect `{effect}` no longer"), false);
    }
    let text = |rule: &ProgramRule| serde_json::to_string(rule).unwrap_or_default();
    for rule in new.programs.iter().filter(|rule| !old.programs.contains(rule)) {
        say(format!("asks for {}", text(rule)), true);
    }
    for rule in old.programs.iter().filter(|rule| !new.programs.contains(rule)) {
        say(format!("asks no longer for {}", text(rule)), false);
    }
    found
}

#[cfg(test)]
mod tests {
    use plan::effect::Effect;

    use super::*;

    fn manifest() -> Manifest {
        let verb = json!({ "name": "disk.free", "summary": "Space", "effect": "read", "idempotent": true,
            "default_timeout_ms": 1000, "args_schema": { "type": "object" }, "result_schema": {}, "examples": [] });
        let grants = Rules { effects: vec![Effect::Read], programs: vec![ProgramRule::any_args("df")] };
        let verbs = vec![serde_json::from_value(verb).expect("a verb")];
        let text = |text: &str| text.to_owned();
        Manifest {
            abi: text("1.0"),
            name: text("disk"),
            version: text("1.0.0"),
            summary: text("Disks"),
            verbs,
            grants,
            config_schema: None,
            rule: None,
        }
    }

    fn told(change: impl FnOnce(&mut Manifest)) -> Vec<String> {
        let mut new = manifest();
        change(&mut new);
        let flag = |change: &Change| if change.widens_grant { "!" } else { "" };
        let line = |change: Change| format!("{}{} {}: {}", change.step, flag(&change), change.place, change.what);
        changes(&manifest(), &new).into_iter().map(line).collect()
    }

    #[test]
    fn promises_that_are_taken_back_are_major() {
        assert!(told(|_| ()).is_empty());
        assert_eq!(told(|new| new.verbs.clear()), ["major disk.free: is gone"]);
        assert_eq!(told(|new| new.verbs[0].effect = Effect::Change), ["major disk.free effect: is change, was read"]);
        assert!(told(|new| new.verbs[0].idempotent = false)[0].starts_with("major disk.free idempotent"));
        assert_eq!(told(|new| new.verbs[0].needs = Some("zfs".into())), ["major disk.free needs: is zfs, was nothing"]);
        assert!(told(|new| new.verbs[0].default_timeout_ms = 2000)[0].starts_with("minor"));
        assert_eq!(told(|new| new.verbs[0].summary = "Room".into()), ["patch disk.free summary: reads otherwise"]);
        let keys = json!({ "type": "object", "additionalProperties": false, "properties": { "a": {} } });
        assert_eq!(told(|new| new.config_schema = Some(keys)), ["minor configuration `a`: is new"]);
    }

    #[test]
    fn whoever_asks_for_more_is_flagged() {
        assert_eq!(told(|new| new.grants.effects.push(Effect::Host)), ["minor! grants: asks for effect `host`"]);
        let more = told(|new| new.grants.programs.push(ProgramRule::any_args("rm")));
        assert!(more.len() == 1 && more[0].starts_with("minor! grants: asks for {\"program\":\"rm\""), "{more:?}");
        assert!(told(|new| new.grants.programs.clear())[0].starts_with("minor grants: asks no longer for"));
    }
}
