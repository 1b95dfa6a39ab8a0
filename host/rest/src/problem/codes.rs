//! Every problem there is: its kind, its status, its stable code and its title. The documentation of
//! errors is this table printed.

use axum::http::StatusCode;

/// The fourteen kinds of error; closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The host is set up wrongly.
    Configuration,
    /// The store is away, full or damaged.
    Database,
    /// The message bus or cache is away.
    Redis,
    /// A socket that did not keep to the protocol.
    WebSocket,
    /// Who is asking is not known.
    Authentication,
    /// Who is asking may not.
    Authorization,
    /// A verb or its plugin could not make a command of it.
    CommandExecution,
    /// The request is well formed and means something impossible.
    Validation,
    /// Nobody and nothing by that name is in sight.
    AgentNotFound,
    /// The two ends do not agree on how to talk.
    Connection,
    /// Bytes that cannot be read.
    Serialization,
    /// The host made a mistake.
    Internal,
    /// Too much at once.
    RateLimit,
    /// It took too long.
    Timeout,
}

/// One kind, and the code that stands for it when nothing more exact is known.
#[derive(Clone, Copy, Debug)]
pub struct KindRow {
    /// The kind.
    pub kind: Kind,
    /// Its name in documentation.
    pub name: &'static str,
    /// The code, and through it the status.
    pub code: Code,
}

/// The kinds, in the order they are documented.
pub const KINDS: [KindRow; 14] = [
    KindRow { kind: Kind::Configuration, name: "configuration", code: Code::Misconfigured },
    KindRow { kind: Kind::Database, name: "database", code: Code::StoreUnavailable },
    KindRow { kind: Kind::Redis, name: "redis", code: Code::BusUnavailable },
    KindRow { kind: Kind::WebSocket, name: "websocket", code: Code::UpgradeRefused },
    KindRow { kind: Kind::Authentication, name: "authentication", code: Code::Unauthenticated },
    KindRow { kind: Kind::Authorization, name: "authorization", code: Code::Forbidden },
    KindRow { kind: Kind::CommandExecution, name: "command execution", code: Code::PluginFailed },
    KindRow { kind: Kind::Validation, name: "validation", code: Code::InvalidBody },
    KindRow { kind: Kind::AgentNotFound, name: "agent not found", code: Code::NotFound },
    KindRow { kind: Kind::Connection, name: "connection", code: Code::UnsupportedMediaType },
    KindRow { kind: Kind::Serialization, name: "serialization", code: Code::InvalidJson },
    KindRow { kind: Kind::Internal, name: "internal", code: Code::Internal },
    KindRow { kind: Kind::RateLimit, name: "rate limit", code: Code::RateLimited },
    KindRow { kind: Kind::Timeout, name: "timeout", code: Code::Timeout },
];

/// One row of the table of problems.
#[derive(Clone, Copy, Debug)]
pub struct CodeRow {
    /// The code.
    pub code: Code,
    /// Its kind.
    pub kind: Kind,
    /// The HTTP status.
    pub status: u16,
    /// Stable, lower snake case.
    pub name: &'static str,
    /// What kind of problem this is, the same for every occurrence.
    pub title: &'static str,
}

/// Declares codes and their rows together, so that neither can be without the other.
macro_rules! codes {
    ($($code:ident = $status:literal $name:literal $kind:ident $title:literal;)*) => {
        /// Every problem there is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $code,)*
        }

        /// The table of problems, by status.
        pub const CODES: &[CodeRow] = &[
            $(CodeRow { code: Code::$code, kind: Kind::$kind, status: $status, name: $name, title: $title },)*
        ];
    };
}

codes! {
    InvalidJson = 400 "invalid_json" Serialization "The body is not JSON";
    DuplicateKey = 400 "duplicate_key" Serialization "An object of the body has a key twice";
    JsonDepth = 400 "json_depth" Serialization "The body is nested too deeply";
    BigInteger = 400 "big_integer" Serialization "A number of the body is beyond 2^53 - 1";
    NulByte = 400 "nul_byte" Serialization "A text holds a NUL";
    UnknownParameter = 400 "unknown_parameter" Validation "The query has a parameter that is not known here";
    InvalidParameter = 400 "invalid_parameter" Validation "A query parameter has a value it cannot have";
    InvalidCursor = 400 "invalid_cursor" Validation "The cursor is not one of this list";
    InvalidHeader = 400 "invalid_header" Connection "A header has a value it cannot have";
    UpgradeRefused = 400 "upgrade_refused" WebSocket "The socket cannot be opened";
    Unauthenticated = 401 "unauthenticated" Authentication "A bearer token is needed";
    InvalidToken = 401 "invalid_token" Authentication "The token is not good";
    TokenExpired = 401 "token_expired" Authentication "The token is over";
    LoginRefused = 401 "login_refused" Authentication "Logging in failed";
    Forbidden = 403 "forbidden" Authorization "Your role, or the way you came in, does not allow this";
    EffectNotGranted = 403 "effect_not_granted" Authorization "No grant of yours covers this";
    HostNotAllowed = 403 "host_not_allowed" Connection "The request is addressed to another host";
    OriginNotAllowed = 403 "origin_not_allowed" Connection "The request comes from a page that is not trusted";
    NotFound = 404 "not_found" AgentNotFound "Not found";
    MethodNotAllowed = 405 "method_not_allowed" Connection "The method is not allowed here";
    BodyTimeout = 408 "body_timeout" Timeout "The body took too long";
    Conflict = 409 "conflict" Validation "Somebody else was faster";
    NameTaken = 409 "name_taken" Validation "The name is taken";
    GroupInUse = 409 "group_in_use" Validation "Other groups name this group";
    LastAdmin = 409 "last_admin" Validation "The last admin cannot go";
    TooManyKeys = 409 "too_many_keys" Validation "You have as many API keys as you may";
    RequestUnderWay = 409 "request_under_way" Validation "The same request is being answered at this moment";
    SecretShown = 409 "secret_shown" Validation "It was made, and its secret is shown only once";
    VerbUnavailable = 409 "verb_unavailable" CommandExecution "The verb's plugin is not active";
    PluginState = 409 "plugin_state" Validation "The order makes no sense as the plugin stands";
    AlertState = 409 "alert_state" Validation "The answer makes no sense as the alert stands";
    PreconditionFailed = 412 "precondition_failed" Validation "It has been changed since you read it";
    BodyTooLarge = 413 "body_too_large" Connection "The body is too large";
    UnsupportedMediaType = 415 "unsupported_media_type" Connection "The body is of another type than application/json";
    UnknownField = 422 "unknown_field" Validation "The body has a field that is not known here";
    JsonSize = 422 "json_size" Serialization "A string, list or object of the body is too large";
    InvalidBody = 422 "invalid_body" Validation "The body is not what it should be";
    KeyReused = 422 "idempotency_key_reused" Validation "The idempotency key stands for another request";
    NothingToRetry = 422 "nothing_to_retry" Validation "No invocation ended like that";
    WrongPassword = 422 "wrong_password" Validation "The current password is wrong";
    UnknownVerb = 422 "unknown_verb" Validation "No such verb is loaded";
    InvalidArgs = 422 "invalid_args" Validation "The verb's argument schema refuses the arguments";
    UnknownGroup = 422 "unknown_group" Validation "There is no saved group of this name";
    GroupCircle = 422 "group_circle" Validation "Groups name each other in a circle";
    NoTarget = 422 "no_target" Validation "The target matches no agent that could run this";
    PlanDenied = 422 "plan_denied" CommandExecution "The operator's grant does not allow the plan";
    PluginFailed = 422 "plugin_failed" CommandExecution "The plugin failed to make a plan";
    PreconditionRequired = 428 "precondition_required" Validation "Say which state it is that you change";
    RateLimited = 429 "rate_limited" RateLimit "Too many requests";
    QueueFull = 429 "queue_full" RateLimit "Too many commands wait already";
    Internal = 500 "internal" Internal "The host made a mistake";
    Misconfigured = 500 "misconfigured" Configuration "The host is set up wrongly";
    StoreUnavailable = 503 "store_unavailable" Database "The store does not answer";
    BusUnavailable = 503 "bus_unavailable" Redis "The message bus does not answer";
    PluginOverloaded = 503 "plugin_overloaded" RateLimit "Too many plugin calls wait";
    PluginQuarantined = 503 "plugin_quarantined" CommandExecution "The verb's plugin failed too often";
    Busy = 503 "busy" RateLimit "The host is busy";
    Timeout = 504 "timeout" Timeout "It took too long";
}

impl Code {
    /// Its row.
    pub fn row(self) -> &'static CodeRow {
        &CODES[self as usize]
    }

    /// Its status.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().status).expect("every row holds a status")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_row() {
        for (index, row) in CODES.iter().enumerate() {
            assert_eq!((row.code as usize, row.code.status().as_u16()), (index, row.status));
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
        }
        let names: HashSet<&str> = CODES.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), CODES.len());
        assert!(CODES.is_sorted_by_key(|row| row.status));
    }

    #[test]
    fn the_page_of_errors_is_this_table() {
        let page = include_str!("../../../../docs/errors.md");
        let cells = |line: &str| line.matches(" | ").count();
        let table = |head: &str| {
            let lines = page.lines().skip_while(|line| *line != head).skip(2);
            lines.take_while(|line| line.starts_with('|')).map(str::to_owned).collect::<Vec<_>>()
        };
        let name = |kind: Kind| KINDS.iter().find(|row| row.kind == kind).map_or("", |row| row.name);
        let codes: Vec<String> = CODES
            .iter()
            .map(|CodeRow { status, name: code, kind, title, .. }| {
                format!("| {status} | <a id=\"{code}\"></a>`{code}` | {} | {title} |", name(*kind))
            })
            .collect();
        assert_eq!(table("| status | code | kind | title |"), codes);
        let kinds = table("| kind | means | the code that stands for it | status |");
        assert_eq!(kinds.len(), KINDS.len());
        for (line, row) in kinds.iter().zip(KINDS) {
            let (code, status) = (row.code.row().name, row.code.row().status);
            assert!(line.starts_with(&format!("| {} | ", row.name)) && cells(line) == 3, "{line}");
            assert!(line.ends_with(&format!(" | `{code}` | {status} |")), "{line}");
        }
    }

    #[test]
    fn every_kind_has_a_code_of_its_kind() {
        let kinds: HashSet<Kind> = KINDS.iter().map(|row| row.kind).collect();
        assert_eq!(kinds.len(), KINDS.len());
        for row in KINDS {
            assert_eq!(row.code.row().kind, row.kind, "{}", row.name);
        }
        assert!(CODES.iter().all(|row| kinds.contains(&row.kind)));
    }
}
