//! Why a call did not give what was asked for.

use api::problem::Problem;

use crate::vault::VaultError;

/// Why a call failed.
///
/// ```
/// # use viworks_client::ClientError;
/// fn say(error: &ClientError) -> String {
///     match error.code() {
///         Some("no_target") => "nobody matched".to_owned(),
///         _ if error.is_passing() => format!("later, perhaps: {error}"),
///         _ => error.to_string(),
///     }
/// }
/// let away = ClientError::Unreachable { server: "https://h".to_owned(), cause: "connection refused".to_owned() };
/// assert_eq!(say(&away), "later, perhaps: cannot reach https://h: connection refused");
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer at all: name, network, TLS or nobody listening.
    #[error("cannot reach {server}: {cause}")]
    Unreachable {
        /// The host's address.
        server: String,
        /// The innermost cause.
        cause: String,
    },
    /// The host refused and said why.
    #[error("{}", .problem.detail)]
    Problem {
        /// What it said.
        problem: Box<Problem>,
        /// Seconds after which it wants to be asked again.
        retry_after: Option<u64>,
    },
    /// Something answered that does not speak this API.
    #[error("{url} answered {status}, which is not an answer of this API: {detail}")]
    NotTheApi {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it looked like.
        detail: String,
    },
    /// There is no login, or it is over.
    #[error("not logged in to {server}: {why}")]
    NotLoggedIn {
        /// The host's address.
        server: String,
        /// What is missing.
        why: String,
    },
    /// The place where tokens live failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl ClientError {
    /// The innermost cause of a transport error, in words.
    pub(crate) fn transport(server: &impl ToString, error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: server.to_string(), cause: innermost(error) }
    }

    /// Nobody can be believed to be the host.
    pub(crate) fn untrusted(server: &impl ToString, error: &tls::TlsError) -> ClientError {
        ClientError::Unreachable { server: server.to_string(), cause: error.to_string() }
    }

    /// The HTTP client itself could not be made.
    pub(crate) fn setup(error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: "any host".to_owned(), cause: innermost(error) }
    }

    /// What went wrong, without saying at whom.
    pub fn cause(&self) -> String {
        match self {
            ClientError::Unreachable { cause, .. } => cause.clone(),
            ClientError::Problem { .. }
            | ClientError::NotTheApi { .. }
            | ClientError::NotLoggedIn { .. }
            | ClientError::Vault(_) => self.to_string(),
        }
    }

    /// Seconds after which the host wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            ClientError::Problem { retry_after, .. } => *retry_after,
            ClientError::Unreachable { .. }
            | ClientError::NotTheApi { .. }
            | ClientError::NotLoggedIn { .. }
            | ClientError::Vault(_) => None,
        }
    }

    /// The problem's code, if the host gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Problem { problem, .. } => Some(&problem.code),
            ClientError::Unreachable { .. }
            | ClientError::NotTheApi { .. }
            | ClientError::NotLoggedIn { .. }
            | ClientError::Vault(_) => None,
        }
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Problem { problem, .. } => Some(problem.status),
            ClientError::NotTheApi { status, .. } => Some(*status),
            ClientError::Unreachable { .. } | ClientError::NotLoggedIn { .. } | ClientError::Vault(_) => None,
        }
    }

    /// Whether the same call may work later without anybody changing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } => true,
            ClientError::Problem { problem, .. } => problem.status == 429 || problem.status >= 500,
            // A proxy in front of a host that is being restarted.
            ClientError::NotTheApi { status, .. } => matches!(status, 502..=504),
            ClientError::NotLoggedIn { .. } | ClientError::Vault(_) => false,
        }
    }
}

/// The end of an error's chain: `connection refused` says more than `error sending request`.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
