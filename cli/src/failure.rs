//! Why the program ends without having done what was asked: an exit code and words for a person.

use std::borrow::Cow;
use std::fmt::Write as _;

use api::problem::{FieldError, Problem};
use viworks_client::ClientError;

use crate::exit::Exit;
use crate::output::escape;

/// The end of an attempt to do something.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What to say on standard error, without a final line feed; empty for nothing.
    pub message: String,
    /// Pointers the host complained about, for callers who can name them better.
    pub problem: Option<Box<Problem>>,
}

impl Failure {
    /// A failure in words.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), problem: None }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Whoever reads our output has gone: nothing is left to say to them.
    fn pipe_closed() -> Failure {
        Failure::new(Exit::Error, "")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::pipe_closed(),
            _ => Failure::new(Exit::Error, format!("cannot write the output: {error}")),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let text = error.to_string();
        match error {
            ClientError::Unreachable { .. } => Failure::new(
                Exit::Error,
                format!(
                    "{text}\n  check that the host runs there, that the address is the API's, and that no proxy or firewall is between\n  `viworks context show` says where the address comes from"
                ),
            ),
            ClientError::Problem { problem, retry_after } => {
                let message = describe(&problem, retry_after, |_| None);
                Failure { exit: Exit::of_problem(&problem), message, problem: Some(problem) }
            }
            ClientError::NotTheApi { .. } => Failure::new(Exit::Error, escape::line(&text)),
            ClientError::NotLoggedIn { server, .. } => {
                Failure::new(Exit::NotAllowed, format!("{text}; run `viworks login {server}`"))
            }
            ClientError::Vault(_) => Failure::new(Exit::Error, text),
        }
    }
}

/// A problem in words: what, each fault with its place, the code, the request. `name` may know a
/// better name for a pointer, e.g. the flag that set it.
pub fn describe(problem: &Problem, retry_after: Option<u64>, name: impl Fn(&str) -> Option<String>) -> String {
    let what = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let said = |fault: &FieldError| {
        let named = name(&fault.pointer).map(|name| format!(" ({name})")).unwrap_or_default();
        format!("{}{named}: {}", escape::line(&place(&fault.pointer)), escape::line(&fault.message))
    };
    let mut text = match problem.errors.as_slice() {
        // The detail of a single fault is the fault itself.
        [fault] if what.strip_prefix(&format!("{}: ", fault.pointer)).unwrap_or(what) == fault.message => said(fault),
        faults => faults.iter().fold(escape::line(what), |text, fault| format!("{text}\n  {}", said(fault))),
    };
    if let Some(seconds) = retry_after {
        let _ = write!(text, "\n  try again in {seconds} s");
    }
    let _ = write!(text, "\n  code {}", escape::line(&problem.code));
    if !problem.instance.is_empty() {
        let _ = write!(text, ", request {}", escape::line(&problem.instance));
    }
    text
}

/// Where a fault is: a pointer into the body, or the option that became the parameter of a query.
fn place(pointer: &str) -> Cow<'_, str> {
    match pointer.strip_prefix('?') {
        None if pointer.is_empty() => "/".into(),
        None => pointer.into(),
        Some("q") => "--query".into(),
        Some("from") => "--since".into(),
        Some("to") => "--until".into(),
        Some(name) => format!("--{name}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_fault_is_said_once_and_by_the_option_that_has_it() {
        let refused = |pointer: &str, message: &str| Problem {
            r#type: "about:blank".into(),
            title: "Refused".into(),
            status: 400,
            detail: format!("{pointer}: {message}"),
            instance: String::new(),
            code: "invalid".into(),
            errors: vec![FieldError { pointer: pointer.into(), message: message.into(), keyword: String::new() }],
        };
        for (pointer, place) in [("?status", "--status"), ("?from", "--since"), ("/ttl_s", "/ttl_s")] {
            let text = describe(&refused(pointer, "no such"), None, |_| None);
            assert_eq!(text, format!("{place}: no such\n  code invalid"));
        }
        let named = describe(&refused("/target/expr", "bad"), None, |_| Some("--target".to_owned()));
        assert_eq!(named, "/target/expr (--target): bad\n  code invalid");
    }

    #[test]
    fn a_problem_names_every_fault_its_code_and_the_request() {
        let problem = Problem {
            r#type: "about:blank".into(),
            title: "Arguments refused".into(),
            status: 422,
            detail: "the arguments do not fit `docker.ps`".into(),
            instance: "0193-req".into(),
            code: "invalid_args".into(),
            errors: vec![
                FieldError {
                    pointer: "/args/limit".into(),
                    message: "500 is more than 100".into(),
                    keyword: "maximum".into(),
                },
                FieldError { pointer: "/args/\u{1b}[2J".into(), message: "unknown".into(), keyword: "x".into() },
            ],
        };
        let name = |pointer: &str| (pointer == "/args/limit").then(|| "--limit".to_owned());
        insta::assert_snapshot!(describe(&problem, Some(3), name), @r"
        the arguments do not fit `docker.ps`
          /args/limit (--limit): 500 is more than 100
          /args/\x1b[2J: unknown
          try again in 3 s
          code invalid_args, request 0193-req
        ");
    }
}
