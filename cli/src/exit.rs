//! Exit codes: what a script learns without reading a word.

use api::problem::Problem;

/// How the program ends. The numbers are public and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It went as asked; an empty list too.
    Ok,
    /// Something went wrong that is none of the below.
    Error,
    /// The command line is wrong, or the verb's schema refuses the arguments.
    Usage,
    /// Cancelled, declined, or waiting timed out.
    NotDone,
    /// Not logged in, or not allowed.
    NotAllowed,
    /// It ran, and at least one target did not succeed.
    TargetsFailed,
    /// The target is nobody.
    NoTarget,
    /// Interrupted from the keyboard.
    Interrupted,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Error => 1,
            Exit::Usage => 2,
            Exit::NotDone => 3,
            Exit::NotAllowed => 4,
            Exit::TargetsFailed => 5,
            Exit::NoTarget => 6,
            Exit::Interrupted => 130,
        }
    }

    /// What a command's final status means.
    pub fn of_command(status: &str) -> Exit {
        match status {
            "succeeded" => Exit::Ok,
            "cancelled" => Exit::NotDone,
            // A status this version does not know is not a success.
            _ => Exit::TargetsFailed,
        }
    }

    /// What a refused request means.
    pub fn of_problem(problem: &Problem) -> Exit {
        match (problem.code.as_str(), problem.status) {
            ("no_target", _) => Exit::NoTarget,
            ("plugin_failed", _) => Exit::Error,
            ("plan_denied", _) | (_, 401 | 403) => Exit::NotAllowed,
            (_, 400 | 422) => Exit::Usage,
            _ => Exit::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_success_ends_with_zero() {
        for (status, code) in [
            ("succeeded", 0),
            ("cancelled", 3),
            ("partial", 5),
            ("failed", 5),
            ("unknown", 5),
            ("expired", 5),
            ("halted", 5),
            ("of a later version", 5),
        ] {
            assert_eq!(Exit::of_command(status).code(), code, "{status}");
        }
    }

    #[test]
    fn problems_end_with_the_code_of_their_kind() {
        for (code, status, exit) in [
            ("invalid_args", 422, 2),
            ("unknown_field", 422, 2),
            ("unknown_verb", 422, 2),
            ("malformed", 400, 2),
            ("no_target", 422, 6),
            ("plan_denied", 422, 4),
            ("plugin_failed", 422, 1),
            ("unauthenticated", 401, 4),
            ("forbidden", 403, 4),
            ("not_found", 404, 1),
            ("conflict", 409, 1),
            ("rate_limited", 429, 1),
            ("plugin_overloaded", 503, 1),
        ] {
            let problem = Problem {
                r#type: String::new(),
                title: String::new(),
                status,
                detail: String::new(),
                instance: String::new(),
                code: code.to_owned(),
                errors: Vec::new(),
            };
            assert_eq!(Exit::of_problem(&problem).code(), exit, "{code}");
        }
    }
}
