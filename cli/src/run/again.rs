//! The command line that runs the same thing once more where it did not succeed.

use api::verb::Verb;
use clap::Command;
use serde_json::Value;

use super::scan::{Token, tokens};
use crate::schema::{Flag, command_line, quote};

/// Options that say who, which the failed agents replace, or that were for this one time.
const REPLACED: [&str; 10] =
    ["sites", "labels", "agents", "all", "capabilities", "os", "container_engine", "status", "detach", "dry_run"];

/// Everything but the agents.
#[derive(Clone, Debug)]
pub(super) struct Again {
    before: String,
    after: String,
}

impl Again {
    /// The whole line for these agents; `None` when there are none.
    pub(super) fn on(&self, agents: &[String]) -> Option<String> {
        if agents.is_empty() {
            return None;
        }
        Some(format!("{} -a {}{}", self.before, quote(&agents.join(",")), self.after))
    }
}

/// Keeps the words as they were typed, without those that say who. What came from standard input is
/// spelt out, because it will not come again. `context` was named before the word `run`.
pub(super) fn line(
    full: &Command,
    words: &[String],
    context: Option<&str>,
    verb: &Verb,
    flags: &[Flag],
    args: &Value,
) -> Again {
    let all = tokens(full, words);
    let from_stdin =
        all.iter().any(|token| matches!(token, Token::Option(id, Some(value), _) if id == "args" && value == "-"));
    let mut kept = Vec::new();
    let mut program = Vec::new();
    let mut named = false;
    for token in all {
        match token {
            Token::Option(id, _, _) if REPLACED.contains(&id.as_str()) => {}
            Token::Option(id, _, _) if from_stdin && (id == "args" || id.starts_with("verb:")) => {}
            Token::Option(_, _, at) => kept.extend(words[at].iter().map(|word| quote(word))),
            // The verb leads; a second word would have been refused.
            Token::Word(_) if !named => named = true,
            Token::Word(at) => kept.push(quote(&words[at])),
            Token::Rest(_) if from_stdin => {}
            Token::Rest(at) => program.extend(words[at].iter().map(|word| quote(word))),
        }
    }
    if from_stdin {
        kept.extend(command_line(flags, args).iter().map(|word| quote(word)));
    }
    kept.extend(program);
    let after = kept.iter().map(|word| format!(" {word}")).collect();
    let context = context.map(|name| format!(" --context {}", quote(name))).unwrap_or_default();
    Again { before: format!("viworks{context} run {}", quote(&verb.name)), after }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::options::{base_command, reserved, with_flags};
    use super::*;
    use crate::schema::flags;

    fn again(words: &[&str], args: Value) -> String {
        let verb = Verb {
            name: "exec.run".into(),
            summary: "runs".into(),
            effect: "host".into(),
            idempotent: false,
            cancel: "clean".into(),
            default_timeout_ms: 1,
            needs: None,
            plugin: "exec".into(),
            plugin_version: "1".into(),
            plugin_digest: "d".into(),
            args_schema: json!({"properties": {
                "program": {"type": "string"}, "args": {"type": "array", "items": {"type": "string"}},
                "cwd": {"type": "string"}, "all": {"type": "boolean"},
            }}),
            result_schema: json!({}),
            examples: Vec::new(),
        };
        let base = base_command();
        let flags = flags(&verb.args_schema, &reserved(&base));
        let full = with_flags(base, &verb, &flags);
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        line(&full, &words, Some("prod"), &verb, &flags, &args).on(&["web-01".into(), "db-02".into()]).unwrap()
    }

    #[test]
    fn the_line_keeps_everything_but_who() {
        for (words, line) in [
            (
                &["exec.run", "--all", "--", "ls", "-l", "a b"][..],
                "viworks --context prod run exec.run -a web-01,db-02 -- ls -l 'a b'",
            ),
            (
                &[
                    "-l",
                    "env=prod",
                    "-s",
                    "eu",
                    "exec.run",
                    "--timeout",
                    "5s",
                    "--cwd=/a b",
                    "--priority=high",
                    "--",
                    "x",
                ],
                "viworks --context prod run exec.run -a web-01,db-02 --timeout 5s '--cwd=/a b' --priority=high -- x",
            ),
            (
                &["exec.run", "-aold", "--yes", "--arg-all", "--program", "p"],
                "viworks --context prod run exec.run -a web-01,db-02 --yes --arg-all --program p",
            ),
        ] {
            assert_eq!(again(words, json!({})), line, "{words:?}");
        }
    }

    #[test]
    fn what_came_from_standard_input_is_spelt_out() {
        let args = json!({"program": "p", "args": ["a"], "all": true});
        assert_eq!(
            again(&["exec.run", "--all", "--args", "-", "--arg-all"], args),
            "viworks --context prod run exec.run -a web-01,db-02 --arg-all --arg-args a --program p"
        );
    }

    #[test]
    fn without_failures_there_is_no_line() {
        assert_eq!(Again { before: String::new(), after: String::new() }.on(&[]), None);
    }
}
