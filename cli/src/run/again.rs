//! The command line that runs the same thing once more where it did not succeed.

use api::verb::Verb;
use clap::Command;
use plan::secret;
use serde_json::Value;

use super::scan::{Token, tokens};
use crate::schema::{Flag, command_line, quote};
use crate::watch::{Missed, Only};

/// Options that say who, which the failed agents replace, or that were for this one time.
const REPLACED: [&str; 13] = [
    "sites",
    "labels",
    "agents",
    "target",
    "all",
    "capabilities",
    "os",
    "container_engine",
    "status",
    "detach",
    "log_dir",
    "dry_run",
    "context",
];

/// How to run a command again.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    context: Option<String>,
    /// The words it was run with, around the agents; absent when it was no `run`.
    words: Option<(String, String)>,
}

impl Again {
    /// Of a command that was not typed here.
    pub(crate) fn of_retry(context: Option<&str>) -> Again {
        Again { context: context.map(str::to_owned), words: None }
    }

    /// The line to type; several when no single one means them all, none when there is nobody.
    pub(super) fn lines(&self, id: &str, missed: &[Missed]) -> Vec<String> {
        let Some(first) = missed.first() else { return Vec::new() };
        let alike = missed.iter().all(|one| one.only == first.only);
        match (first.only, &self.words) {
            // The host knows best who is meant, also those that were not heard of here.
            (Some(only), _) if alike => vec![self.retry(id, only)],
            (_, Some((before, after))) => {
                let agents: Vec<&str> = missed.iter().map(|one| one.agent.as_str()).collect();
                vec![format!("{before} -a {}{after}", quote(&agents.join(",")))]
            }
            (_, None) => Only::ALL
                .into_iter()
                .filter(|only| missed.iter().any(|one| one.only == Some(*only)))
                .map(|only| self.retry(id, only))
                .collect(),
        }
    }

    fn retry(&self, id: &str, only: Only) -> String {
        let context = spelt(self.context.as_deref());
        format!("viworks{context} command retry {} --only {}", quote(id), only.as_word())
    }
}

fn spelt(context: Option<&str>) -> String {
    context.map(|name| format!(" --context {}", quote(name))).unwrap_or_default()
}

/// Keeps the words as they were typed, without those that say who, and with `***` for what is secret. What came
/// from standard input is spelt out, because it will not come again. `context` was named before the word `run`.
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
            Token::Option(id, Some(value), at) => match shown(&id, &value, verb, flags) {
                Some(shown) => kept.push(shown),
                None => kept.extend(words[at].iter().map(|word| quote(word))),
            },
            Token::Option(_, None, at) => kept.extend(words[at].iter().map(|word| quote(word))),
            // The verb leads; a second word would have been refused.
            Token::Word(_) if !named => named = true,
            Token::Word(at) => kept.push(quote(&words[at])),
            Token::Rest(_) if from_stdin => {}
            Token::Rest(at) => program.extend(words[at].iter().map(|word| quote(word))),
        }
    }
    if from_stdin {
        let args = secret::masked(&verb.args_schema, args);
        kept.extend(command_line(flags, &args).iter().map(|word| quote(word)));
    }
    kept.extend(program);
    let after = kept.iter().map(|word| format!(" {word}")).collect();
    let before = format!("viworks{} run {}", spelt(context), quote(&verb.name));
    Again { context: context.map(str::to_owned), words: Some((before, after)) }
}

/// An option that gives a secret as it may be shown; `None` for another.
fn shown(id: &str, value: &str, verb: &Verb, flags: &[Flag]) -> Option<String> {
    if id == "args" {
        let args: Value = serde_json::from_str(value).ok()?;
        return Some(format!("--args {}", quote(&secret::masked(&verb.args_schema, &args).to_string())));
    }
    let name = id.strip_prefix("verb:")?;
    let flag = flags.iter().find(|flag| flag.property.name == name)?;
    secret::is_secret(&verb.args_schema, name).then(|| format!("--{} {}", flag.long, quote("***")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::options::{base_command, reserved, with_flags};
    use super::*;
    use crate::schema::flags;

    fn missed(agent: &str, only: Option<Only>) -> Missed {
        Missed { agent: agent.to_owned(), only }
    }

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
                "cwd": {"type": "string"}, "all": {"type": "boolean"}, "token": {"type": "string", "x-secret": true},
                "secret_env": {"type": "object", "additionalProperties": {"type": "string", "x-secret": true}},
            }}),
            result_schema: json!({}),
            examples: Vec::new(),
        };
        let base = base_command();
        let flags = flags(&verb.args_schema, &reserved(&base));
        let full = with_flags(base, &verb, &flags);
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let again = line(&full, &words, Some("prod"), &verb, &flags, &args);
        again.lines("c1", &[missed("web-01", Some(Only::Failed)), missed("db-02", None)]).join("\n")
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
    fn what_is_secret_is_not_said_again() {
        let secrets = r#"{"secret_env":{"A":"hunter2"},"token":"hunter2"}"#;
        for (words, said) in [
            (&["--token", "hunter2"][..], "--token '***'"),
            (&["--token=hunter2", "--secret-env", "A=hunter2"], "--token '***' --secret-env '***'"),
            (&["--args", secrets], r#"--args '{"secret_env":{"A":"***"},"token":"***"}'"#),
            (&["--args", "-"], "--secret-env 'A=***' --token '***'"),
        ] {
            let words: Vec<&str> = ["exec.run", "--all"].iter().chain(words).copied().collect();
            let line = again(&words, serde_json::from_str(secrets).expect("JSON"));
            assert_eq!(line, format!("viworks --context prod run exec.run -a web-01,db-02 {said}"), "{words:?}");
        }
    }

    #[test]
    fn those_who_ended_alike_are_retried_by_the_commands_id() {
        let (failed, never) = (missed("a", Some(Only::Failed)), missed("b", Some(Only::NeverStarted)));
        let again = Again::of_retry(Some("prod"));
        assert_eq!(again.lines("c1", &[]), Vec::<String>::new());
        assert_eq!(
            again.lines("c1", std::slice::from_ref(&failed)),
            ["viworks --context prod command retry c1 --only failed"]
        );
        let both = [
            "viworks --context prod command retry c1 --only failed",
            "viworks --context prod command retry c1 --only never-started",
        ];
        assert_eq!(again.lines("c1", &[failed, missed("x", None), never]), both);
        assert_eq!(again.lines("c1", &[missed("x", None)]), Vec::<String>::new());
    }
}
