//! The verb's arguments: JSON first, flags laid over it, then what follows `--`.

use std::io::Read;

use api::verb::Verb;
use clap::ArgMatches;
use serde_json::Value;

use super::{Arguments, RunOptions};
use crate::failure::Failure;
use crate::schema::{Flag, Shape, properties};

/// What the command line says the arguments are.
///
/// # Errors
/// When JSON is malformed, a word does not fit its flag, or program and arguments do not belong here.
pub(super) fn collect(
    options: &RunOptions,
    flags: &[Flag],
    matches: &ArgMatches,
    verb: &Verb,
) -> Result<Value, Failure> {
    let mut args = match &options.args {
        Some(given) => object(given)?,
        None => Arguments::new(),
    };
    for flag in flags {
        flag.collect(matches, &mut args).map_err(Failure::usage)?;
    }
    if let [program, rest @ ..] = options.program.as_slice() {
        if !takes_program(verb) {
            let name = &verb.name;
            return Err(Failure::usage(format!(
                "`{name}` takes no program after `--`; see `viworks run {name} --help` for its arguments"
            )));
        }
        args.insert("program".to_owned(), Value::String(program.clone()));
        args.insert("args".to_owned(), rest.iter().cloned().map(Value::String).collect());
    }
    Ok(Value::Object(args))
}

/// Whether a verb runs a program that the caller names, as `exec.run` does.
pub(super) fn takes_program(verb: &Verb) -> bool {
    let has = |name: &str, shape: &Shape| {
        properties(&verb.args_schema).iter().any(|property| property.name == name && property.shape == *shape)
    };
    has("program", &Shape::Text) && has("args", &Shape::List(Box::new(Shape::Text)))
}

/// `--args`: JSON, `@FILE` or `-`.
fn object(given: &str) -> Result<Arguments, Failure> {
    let (source, text) = if given == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(format!("cannot read --args from standard input: {error}")))?;
        ("standard input".to_owned(), text)
    } else if let Some(path) = given.strip_prefix('@') {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read --args from {path}: {error}")))?;
        (path.to_owned(), text)
    } else {
        ("--args".to_owned(), given.to_owned())
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => {
            Err(Failure::usage(format!("{source} holds JSON, but no object: arguments are {{\"name\": value, …}}")))
        }
        Err(error) => Err(Failure::usage(format!("{source} holds no JSON: {error}"))),
    }
}

/// The names most like `name`, at most three, none that is mostly different.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let limit = (name.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &str)> = known
        .map(|candidate| {
            // `ps` for `docker.ps`: the end of a name is how people remember it.
            let ends_so = candidate.rsplit('.').next() == Some(name);
            (if ends_so { 0 } else { distance(name, candidate) }, candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// How many letters have to be typed, deleted or exchanged to get from one word to another.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (left, b) in to.iter().enumerate() {
            let next = (row[left] + 1).min(row[left + 1] + 1).min(diagonal + usize::from(a != *b));
            diagonal = std::mem::replace(&mut row[left + 1], next);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_far_ones_are_not() {
        let known = ["docker.ps", "docker.pull", "exec.run", "compose.ps"];
        assert_eq!(nearest("docker.p", known.into_iter()), ["docker.ps"]);
        assert_eq!(nearest("ps", known.into_iter()), ["compose.ps", "docker.ps"]);
        assert_eq!(nearest("exec.rnu", known.into_iter()), ["exec.run"]);
        assert!(nearest("uptime", known.into_iter()).is_empty());
    }

    #[test]
    fn arguments_must_be_an_object() {
        assert_eq!(object("{\"a\": 1}").unwrap()["a"], 1);
        for (given, part) in [("[1]", "no object"), ("{", "no JSON"), ("@/nonexistent.json", "cannot read")] {
            let message = object(given).unwrap_err().message;
            assert!(message.contains(part), "{message}");
        }
    }
}
