//! What every service's errors become. Exhaustive: a new case somewhere below does not build until
//! it is decided here.

use domain::access::Forbidden;
use domain::group::{Refused, Undrawable};
use ports::error::StoreError;
use ports::passwords::PasswordError;
use ports::plugins::{PlanError, ResolveError};
use services::accounts::AccountError;
use services::alerts::AlertError;
use services::api_keys::KeyError;
use services::backtest::BacktestError;
use services::browse::BrowseError;
use services::cancel::CancelError;
use services::channels::ChannelError;
use services::enrol::EnrolError;
use services::follow_up::FollowUpError;
use services::groups::{DrawError, GroupError};
use services::history::ManyError;
use services::plugins::PluginOrderError;
use services::release::ReleaseError;
use services::replays::ReplayError;
use services::statistics::StatisticsError;
use services::submit::SubmitError;

use super::{Code, Problem};

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let cause = error.to_string();
        let (code, detail, retry_after) = match error {
            StoreError::Unavailable(_) => {
                // What broke off in the middle of a commit may be stored all the same.
                let detail = "the store does not answer; look whether a change was made before it is tried again";
                (Code::StoreUnavailable, detail, Some(1))
            }
            StoreError::Conflict(_) => (Code::Conflict, "somebody else changed this first; read it again", None),
            StoreError::Stale(_) => {
                (Code::PreconditionFailed, "it has been changed since you read it; read it again", None)
            }
            StoreError::Corrupt { .. } => return Problem::internal(cause),
        };
        Problem { retry_after, cause: Some(cause), ..Problem::new(code, detail) }
    }
}

impl From<Forbidden> for Problem {
    fn from(error: Forbidden) -> Problem {
        let code = match &error {
            Forbidden::Role { .. } | Forbidden::Login { .. } | Forbidden::Key { .. } | Forbidden::Sites { .. } => {
                Code::Forbidden
            }
            Forbidden::Effect { .. } => Code::EffectNotGranted,
        };
        Problem::new(code, error.to_string())
    }
}

impl From<ManyError> for Problem {
    fn from(error: ManyError) -> Problem {
        let said = error.to_string();
        let (pointer, less) = match error {
            ManyError::TooManyMachines(_) => ("?site", "name `site` or `label`, and ask once for each of them"),
            ManyError::TooWide { .. } => ("?step", "take a shorter one, or name `site` or `label`"),
            ManyError::TooManySteps(_) => ("?step", "take a coarser one, or a shorter span"),
            ManyError::TooMany => ("?metrics", "name fewer series, a smaller `limit`, or `site` or `label`"),
            ManyError::Busy => return Problem { retry_after: Some(1), ..Problem::new(Code::Busy, said) },
            ManyError::Store(error) => return error.into(),
        };
        Problem::at(Code::InvalidParameter, pointer, format!("{said}: {less}"))
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Problem {
        match error {
            PasswordError::Busy => {
                let problem = Problem::new(Code::Busy, "too many people are logging in; try again");
                Problem { retry_after: Some(1), ..problem }
            }
            PasswordError::Unusable(cause) => Problem::internal(cause),
        }
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Problem {
        let detail = error.to_string();
        match error {
            AccountError::Refused => Problem::new(Code::LoginRefused, detail),
            AccountError::Invalid { pointer, message } => Problem::at(Code::InvalidBody, pointer, message),
            AccountError::WrongPassword => Problem::at(Code::WrongPassword, "/current", detail),
            AccountError::NameTaken(_) => Problem::at(Code::NameTaken, "/name", detail),
            AccountError::LastAdmin(_) => Problem::new(Code::LastAdmin, detail),
            AccountError::Changed(_) => Problem::new(Code::PreconditionFailed, format!("{detail}; read it again")),
            AccountError::NotFound(_) => Problem::not_found("user"),
            AccountError::Forbidden(error) => error.into(),
            AccountError::Password(error) => error.into(),
            AccountError::Store(error) => error.into(),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Problem {
        let detail = error.to_string();
        match error {
            KeyError::Invalid { pointer, message } => Problem::at(Code::InvalidBody, pointer, message),
            KeyError::Full => Problem::new(Code::TooManyKeys, detail),
            KeyError::NotFound => Problem::not_found("API key"),
            KeyError::Forbidden(error) => error.into(),
            KeyError::Store(error) => error.into(),
        }
    }
}

impl From<StatisticsError> for Problem {
    fn from(error: StatisticsError) -> Problem {
        match error {
            StatisticsError::Forbidden(error) => error.into(),
            StatisticsError::Store(error) => error.into(),
        }
    }
}

impl From<BrowseError> for Problem {
    fn from(error: BrowseError) -> Problem {
        match error {
            BrowseError::NotFound => Problem::not_found("command or agent"),
            BrowseError::Store(error) => error.into(),
        }
    }
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Problem {
        match error {
            CancelError::NotFound => Problem::not_found("command"),
            CancelError::Forbidden(error) => error.into(),
            CancelError::Store(error) => error.into(),
        }
    }
}

impl From<AlertError> for Problem {
    fn from(error: AlertError) -> Problem {
        let detail = error.to_string();
        match error {
            AlertError::NotFound(what) => Problem::not_found(what),
            AlertError::NotNow(_) => Problem::new(Code::AlertState, detail),
            AlertError::Invalid { pointer, message } => Problem::at(Code::InvalidBody, pointer, message),
            AlertError::Forbidden(error) => error.into(),
            AlertError::Store(error) => error.into(),
        }
    }
}

impl From<ChannelError> for Problem {
    fn from(error: ChannelError) -> Problem {
        let detail = error.to_string();
        match error {
            ChannelError::Changed => Problem::new(Code::PreconditionFailed, format!("{detail}; read it again")),
            ChannelError::NotFound => Problem::not_found("channel"),
            ChannelError::NameTaken => Problem::at(Code::NameTaken, "/name", detail),
            ChannelError::Invalid { pointer, message } => Problem::at(Code::InvalidBody, pointer, message),
            ChannelError::Forbidden(error) => error.into(),
            ChannelError::Store(error) => error.into(),
        }
    }
}

impl From<BacktestError> for Problem {
    fn from(error: BacktestError) -> Problem {
        let detail = error.to_string();
        match error {
            BacktestError::Alert(error) => error.into(),
            BacktestError::Config(violations) => {
                violations.into_iter().fold(Problem::new(Code::InvalidBody, detail), |problem, violation| {
                    problem.with(format!("/config{}", violation.pointer), violation.message, &violation.keyword)
                })
            }
            BacktestError::Busy => Problem { retry_after: Some(5), ..Problem::new(Code::Busy, detail) },
            BacktestError::Failed(_) => {
                Problem { cause: Some(detail), ..Problem::new(Code::PluginFailed, "the rule failed") }
            }
        }
    }
}

impl From<ReleaseError> for Problem {
    fn from(error: ReleaseError) -> Problem {
        match error {
            ReleaseError::NotFound => Problem::not_found("command"),
            ReleaseError::Forbidden(error) => error.into(),
            ReleaseError::Store(error) => error.into(),
        }
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Problem {
        let said = error.to_string();
        match error {
            ReplayError::Reused => Problem::new(Code::KeyReused, format!("{said}; give this one a key of its own")),
            ReplayError::UnderWay => {
                Problem { retry_after: Some(1), ..Problem::new(Code::RequestUnderWay, format!("{said}; ask again")) }
            }
            ReplayError::Store(error) => error.into(),
        }
    }
}

impl From<FollowUpError> for Problem {
    fn from(error: FollowUpError) -> Problem {
        let said = error.to_string();
        match error {
            FollowUpError::NotFound => Problem::not_found("command"),
            FollowUpError::Nothing => Problem::new(Code::NothingToRetry, said),
            FollowUpError::Submit(error) => error.into(),
            FollowUpError::Store(error) => error.into(),
        }
    }
}

impl From<PluginOrderError> for Problem {
    fn from(error: PluginOrderError) -> Problem {
        let said = error.to_string();
        match error {
            PluginOrderError::NotFound => Problem::not_found("plugin"),
            PluginOrderError::NotNow(_) => Problem::new(Code::PluginState, said),
            PluginOrderError::Stopped => Problem { retry_after: Some(1), ..Problem::new(Code::Busy, said) },
            PluginOrderError::Forbidden(error) => error.into(),
            PluginOrderError::Store(error) => error.into(),
        }
    }
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Problem {
        let detail = error.to_string();
        match error {
            EnrolError::Forbidden(error) => error.into(),
            EnrolError::Invalid { pointer, message } => Problem::at(Code::InvalidBody, pointer, message),
            EnrolError::NotFound => Problem::not_found("agent or join token"),
            EnrolError::Revoked(_) => Problem::new(Code::Conflict, detail),
            EnrolError::TokenRefused | EnrolError::ProofRefused | EnrolError::KeyRetired => {
                Problem::new(Code::InvalidToken, detail)
            }
            EnrolError::NameTaken(_) => Problem::at(Code::NameTaken, "/name", detail),
            EnrolError::Store(error) => error.into(),
        }
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Problem {
        match error {
            GroupError::NotFound => Problem::not_found("group"),
            GroupError::Invalid { pointer, message } => Problem::at(Code::InvalidBody, pointer, message),
            GroupError::Refused(refused) => refused_group(refused),
            GroupError::Forbidden(error) => error.into(),
            GroupError::Store(error) => error.into(),
        }
    }
}

impl From<DrawError> for Problem {
    fn from(error: DrawError) -> Problem {
        match error {
            DrawError::Undrawable(error) => undrawable(error, ""),
            DrawError::Store(error) => error.into(),
        }
    }
}

fn refused_group(refused: Refused) -> Problem {
    let said = refused.to_string();
    match refused {
        Refused::NameTaken(_) => Problem::at(Code::NameTaken, "/name", said),
        Refused::NotFound(_) => Problem::not_found("group"),
        Refused::Changed(_) => Problem::new(Code::PreconditionFailed, format!("{said}; read it again")),
        Refused::InUse { .. } => Problem::new(Code::GroupInUse, said),
        Refused::Undrawable(error) => undrawable(error, "/expr"),
        Refused::TooManyFor { .. } => Problem::at(Code::InvalidBody, "/expr", said),
        Refused::Full => Problem::new(Code::InvalidBody, said),
    }
}

/// What an expression at `pointer` names.
fn undrawable(error: Undrawable, pointer: &str) -> Problem {
    let said = error.to_string();
    match error {
        Undrawable::Unknown { nearest, .. } if nearest.is_empty() => Problem::at(Code::UnknownGroup, pointer, said),
        Undrawable::Unknown { nearest, .. } => {
            Problem::at(Code::UnknownGroup, pointer, format!("{said}; did you mean {}?", nearest.join(", ")))
        }
        Undrawable::Circle(_) => Problem::at(Code::GroupCircle, pointer, said),
        Undrawable::TooMany => Problem::at(Code::InvalidBody, pointer, said),
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Problem {
        let said = error.to_string();
        match error {
            ResolveError::Unknown { nearest, .. } if nearest.is_empty() => {
                Problem::at(Code::UnknownVerb, "/verb", said)
            }
            ResolveError::Unknown { nearest, .. } => {
                Problem::at(Code::UnknownVerb, "/verb", format!("{said}; did you mean {}?", nearest.join(", ")))
            }
            ResolveError::Unavailable { .. } => Problem::at(Code::VerbUnavailable, "/verb", said),
            ResolveError::Quarantined { .. } => Problem::at(Code::PluginQuarantined, "/verb", said),
        }
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Problem {
        let said = error.to_string();
        match error {
            PlanError::Invalid(violations) => {
                let count = violations.len();
                let first = violations.first().map(|first| format!("/args{}: {}", first.pointer, first.message));
                let rest = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
                let detail = format!("{}{rest}", first.unwrap_or_else(|| said.clone()));
                violations.into_iter().fold(Problem::new(Code::InvalidArgs, detail), |problem, violation| {
                    problem.with(format!("/args{}", violation.pointer), violation.message, &violation.keyword)
                })
            }
            // The pointer is into the plan, which the caller did not write: it is told, not pointed at.
            PlanError::Denied { .. } => Problem::new(Code::PlanDenied, said),
            PlanError::Failed { plugin, .. } => {
                let detail = format!("plugin `{plugin}` failed to make a plan; the host's log has the reason");
                Problem { cause: Some(said), ..Problem::new(Code::PluginFailed, detail) }
            }
            PlanError::Overloaded => {
                Problem { retry_after: Some(1), ..Problem::new(Code::PluginOverloaded, format!("{said}; try again")) }
            }
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Problem {
        let said = error.to_string();
        match error {
            SubmitError::Verb(error) => error.into(),
            SubmitError::Forbidden(error) => error.into(),
            SubmitError::Plan(error) => error.into(),
            SubmitError::Deadline { field, error } => Problem::at(Code::InvalidBody, field, error.to_string()),
            SubmitError::Terms(error) => Problem::at(Code::InvalidBody, error.pointer, error.message),
            SubmitError::Full(_) => {
                Problem { retry_after: Some(5), ..Problem::new(Code::QueueFull, format!("{said}; try again later")) }
            }
            SubmitError::Groups(error) => undrawable(error, "/target/expr"),
            SubmitError::NoTarget { unknown, excluded, empty } => {
                let mut problem = Problem::new(Code::NoTarget, &said);
                for name in unknown {
                    problem = problem.with("/target/agents", format!("there is no agent `{name}`"), "unknown_agent");
                }
                for (name, why) in excluded {
                    problem = problem.with("/target", format!("`{name}` is out: {why}"), "excluded");
                }
                for name in empty {
                    let message = format!("nobody in your sight is in group `{name}` now");
                    problem = problem.with("/target/expr", message, "empty_group");
                }
                if problem.errors.is_empty() { problem.with("/target", said, "no_target") } else { problem }
            }
            SubmitError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ports::plugins::Violation;

    use super::*;

    #[track_caller]
    fn check(problem: impl Into<Problem>, code: Code, pointers: &[&str]) {
        let problem = problem.into();
        let found: Vec<&str> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!((problem.code, found.as_slice()), (code, pointers), "{}", problem.detail);
    }

    #[test]
    fn pointers_start_at_the_bodys_root() {
        let violation =
            |pointer: &str| Violation { pointer: pointer.into(), message: "no".into(), keyword: "type".into() };
        let both = PlanError::Invalid(vec![violation("/limit"), violation("")]);
        check(SubmitError::Plan(both), Code::InvalidArgs, &["/args/limit", "/args"]);
        let unknown = ResolveError::Unknown { name: "docker.p".into(), nearest: vec!["docker.ps".into()] };
        check(unknown, Code::UnknownVerb, &["/verb"]);
        let unknown = Undrawable::Unknown { name: "wbe".into(), nearest: vec!["web".into()] };
        check(SubmitError::Groups(unknown), Code::UnknownGroup, &["/target/expr"]);
        let nobody = SubmitError::NoTarget {
            unknown: vec!["ghost".into()],
            excluded: vec![("db-1".into(), "in maintenance".into())],
            empty: vec!["web".into()],
        };
        check(nobody, Code::NoTarget, &["/target/agents", "/target", "/target/expr"]);
        check(SubmitError::NoTarget { unknown: vec![], excluded: vec![], empty: vec![] }, Code::NoTarget, &["/target"]);
    }

    #[test]
    fn what_the_store_says_is_for_the_log() {
        let corrupt = StoreError::Corrupt { table: "users", key: "ada".into(), what: "role `root`".into() };
        for error in [StoreError::Unavailable("secret.db is locked".into()), corrupt] {
            let problem = Problem::from(error.clone());
            assert!(problem.code.row().status >= 500);
            assert_eq!(problem.cause, Some(error.to_string()));
            let shown = serde_json::to_string(&problem.render("r")).expect("renders");
            assert!(!shown.contains("secret") && !shown.contains("ada"), "{shown}");
        }
    }
}
