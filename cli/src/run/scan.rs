//! The words after `run` before the verb is known: which of them is the verb, and which belong to
//! an option. The verb's flags can only be made once its schema has been fetched.

use std::ops::Range;

use clap::{Arg, Command};

use crate::failure::Failure;

/// What one or more words are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An option: its argument's id, its value, the words it takes up.
    Option(String, Option<String>, Range<usize>),
    /// A word of its own.
    Word(usize),
    /// `--` and everything after it.
    Rest(Range<usize>),
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanned {
    /// The verb; absent when there is none, or help is asked for before it.
    pub(super) verb: Option<String>,
    options: Vec<(String, String)>,
}

impl Scanned {
    /// The last value of an option of `run` itself.
    pub(super) fn value(&self, id: &str) -> Option<String> {
        self.options.iter().rev().find(|(known, _)| known == id).map(|(_, value)| value.clone())
    }
}

/// Finds the verb and the values of `run`'s own options.
///
/// # Errors
/// When an option before the verb is not one of `run`: whether it takes a value is not known yet.
pub(super) fn scan(base: &Command, words: &[String]) -> Result<Scanned, Failure> {
    let mut scanned = Scanned::default();
    for token in tokens(base, words) {
        match token {
            Token::Option(id, value, at) => {
                if scanned.verb.is_none() {
                    if id == "help" {
                        return Ok(Scanned::default());
                    }
                    if id.is_empty() {
                        return Err(Failure::usage(format!(
                            "`{}` is no option of `viworks run`; flags of the verb come after its name: viworks run VERB {0}",
                            words[at.start]
                        )));
                    }
                }
                scanned.options.extend(value.map(|value| (id, value)));
            }
            Token::Word(at) => {
                scanned.verb.get_or_insert_with(|| words[at].clone());
            }
            Token::Rest(_) => {}
        }
    }
    Ok(scanned)
}

/// Cuts words into options with their values, words and the rest. An option that `command` does not
/// know has an empty id and takes up one word.
pub(super) fn tokens(command: &Command, words: &[String]) -> Vec<Token> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let word = words[at].as_str();
        if word == "--" {
            found.push(Token::Rest(at..words.len()));
            break;
        }
        let (id, value, takes_next) = if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            match by_long(command, name) {
                Some(arg) => (arg.get_id().to_string(), value.clone(), value.is_none() && takes_word(arg)),
                None if name == "help" => ("help".to_owned(), None, false),
                None => (String::new(), value, false),
            }
        } else if word.len() > 1 && word.starts_with('-') {
            short(command, &word[1..])
        } else {
            found.push(Token::Word(at));
            at += 1;
            continue;
        };
        let end = (at + 1 + usize::from(takes_next)).min(words.len());
        let value = if takes_next { words.get(at + 1).cloned() } else { value };
        found.push(Token::Option(id, value, at..end));
        at = end;
    }
    found
}

/// `-a`, `-aVALUE`, or switches followed by one that takes a value: what the last of them is.
fn short(command: &Command, cluster: &str) -> (String, Option<String>, bool) {
    let mut id = String::new();
    for (place, letter) in cluster.char_indices() {
        let Some(arg) = command.get_arguments().find(|arg| arg.get_short() == Some(letter)) else {
            return (if letter == 'h' { "help".to_owned() } else { String::new() }, None, false);
        };
        id = arg.get_id().to_string();
        if takes_word(arg) {
            let rest = &cluster[place + letter.len_utf8()..];
            let value = rest.strip_prefix('=').unwrap_or(rest);
            return if rest.is_empty() { (id, None, true) } else { (id, Some(value.to_owned()), false) };
        }
    }
    (id, None, false)
}

fn by_long<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

/// Whether the next word belongs to it.
fn takes_word(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::super::options::base_command;
    use super::*;

    fn verb(words: &[&str]) -> Result<Option<String>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        scan(&base_command(), &words).map(|scanned| scanned.verb).map_err(|failure| failure.message)
    }

    #[test]
    fn the_verb_is_found_wherever_it_stands() {
        for words in [
            &["docker.ps"][..],
            &["-l", "env=prod", "docker.ps"],
            &["-lenv=prod", "docker.ps", "--all"],
            &["--site=eu", "docker.ps", "other"],
            &["--site", "eu", "docker.ps"],
            &["-y", "docker.ps"],
            &["-ya", "web", "docker.ps"],
            &["--dry-run", "--all", "docker.ps", "--unknown", "x"],
            &["docker.ps", "--help"],
            &["--args", "-", "docker.ps"],
        ] {
            assert_eq!(verb(words), Ok(Some("docker.ps".to_owned())), "{words:?}");
        }
    }

    #[test]
    fn without_a_verb_there_is_none() {
        for words in [&[][..], &["--help"], &["-h", "docker.ps"], &["--all"], &["--", "uptime"]] {
            assert_eq!(verb(words), Ok(None), "{words:?}");
        }
    }

    #[test]
    fn a_flag_of_the_verb_before_the_verb_is_refused() {
        let refused = verb(&["--limit", "3", "docker.ps"]).unwrap_err();
        assert!(refused.contains("viworks run VERB --limit"), "{refused}");
    }

    #[test]
    fn options_are_found_on_both_sides_of_the_verb() {
        let words: Vec<String> =
            ["--context", "a", "x", "--context=b", "--", "--context", "c"].map(str::to_owned).into();
        assert_eq!(scan(&base_command(), &words).unwrap().value("context"), Some("b".to_owned()));
    }
}
