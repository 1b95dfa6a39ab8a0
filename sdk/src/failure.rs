//! Why a plugin refuses: arguments that cannot work, machines it does not know, output it cannot read.

use std::fmt;

/// A plugin's answer or its refusal.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// fn whole(text: &str) -> Result<u32> {
///     // Any error becomes a refusal.
///     Ok(text.parse()?)
/// }
/// assert!(whole("x").is_err());
/// ```
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// A refusal. Any error converts into one with `?`.
///
/// It is deliberately not a `std::error::Error` itself, so that `?` can convert every error there is.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// let failure: Failure = "x".parse::<u32>().unwrap_err().into();
/// assert_eq!(failure.to_string(), "parse_failed: invalid digit found in string");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of refusal.
    pub code: Code,
    /// One line: what is wrong and, where it can be said, how to mend it.
    pub message: String,
    /// With [`Code::InvalidArgs`]: what is wrong with which argument.
    pub issues: Vec<Issue>,
}

/// What kind of refusal.
///
/// ```
/// use viworks_sdk::Failure;
/// use viworks_sdk::failure::Code;
///
/// assert_eq!(Failure::unsupported("only on linux").code, Code::Unsupported);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The caller must change the arguments.
    InvalidArgs,
    /// This machine, or this combination, is not something the plugin can work with.
    Unsupported,
    /// The output is not what the program is known to print.
    ParseFailed,
    /// The program did not succeed, so there is no typed result to read. Not a fault of the plugin:
    /// the invocation is reported as failed with the message as its summary.
    NotSucceeded,
}

impl Code {
    /// The word the ABI uses.
    ///
    /// ```
    /// assert_eq!(viworks_sdk::failure::Code::InvalidArgs.as_str(), "invalid_args");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidArgs => "invalid_args",
            Code::Unsupported => "unsupported",
            Code::ParseFailed => "parse_failed",
            Code::NotSucceeded => "not_succeeded",
        }
    }
}

/// One thing wrong with the arguments.
///
/// ```
/// use viworks_sdk::Issue;
///
/// let issue = Issue { pointer: "/env/A=B".into(), keyword: "name".into(), message: "a name has no `=`".into() };
/// assert_eq!(issue.to_string(), "/env/A=B: a name has no `=`");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// JSON Pointer from the arguments' root, e.g. `/env/PATH`; empty for the whole.
    pub pointer: String,
    /// A short stable word, e.g. `conflict`.
    pub keyword: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Failure {
    /// This machine, or this combination, cannot be served.
    ///
    /// ```
    /// let failure = viworks_sdk::Failure::unsupported("this machine has no compose");
    /// assert_eq!(failure.to_string(), "unsupported: this machine has no compose");
    /// ```
    pub fn unsupported(message: impl Into<String>) -> Failure {
        Failure { code: Code::Unsupported, message: message.into(), issues: Vec::new() }
    }

    /// The program printed something else than it should have.
    ///
    /// ```
    /// let failure = viworks_sdk::Failure::parse("a row has two columns");
    /// assert_eq!(failure.to_string(), "parse_failed: a row has two columns");
    /// ```
    pub fn parse(message: impl Into<String>) -> Failure {
        Failure { code: Code::ParseFailed, message: message.into(), issues: Vec::new() }
    }

    /// One argument is wrong in a way the schema cannot say.
    ///
    /// ```
    /// use viworks_sdk::Failure;
    ///
    /// let failure = Failure::issue("/until", "conflict", "`until` lies before `since`");
    /// assert_eq!(failure.issues[0].pointer, "/until");
    /// ```
    pub fn issue(pointer: impl Into<String>, keyword: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure::issues(vec![Issue { pointer: pointer.into(), keyword: keyword.into(), message: message.into() }])
    }

    /// Several arguments are wrong.
    ///
    /// ```
    /// use viworks_sdk::{Failure, Issue};
    ///
    /// let issue = |pointer: &str| Issue { pointer: pointer.into(), keyword: "conflict".into(), message: "not both".into() };
    /// let failure = Failure::issues(vec![issue("/rm"), issue("/restart")]);
    /// assert_eq!(failure.message, "2 arguments refused");
    /// ```
    pub fn issues(issues: Vec<Issue>) -> Failure {
        let message = match issues.as_slice() {
            [one] => one.to_string(),
            many => format!("{} arguments refused", many.len()),
        };
        Failure { code: Code::InvalidArgs, message, issues }
    }

    /// The program did not do what it was asked to, said in better words than [`crate::Outputs::ending`]
    /// has. From `interpret` only.
    ///
    /// ```
    /// use viworks_sdk::Failure;
    /// use viworks_sdk::failure::Code;
    ///
    /// let failure = Failure::not_succeeded("there is no container `web` on this machine");
    /// assert_eq!(failure.code, Code::NotSucceeded);
    /// ```
    pub fn not_succeeded(message: impl Into<String>) -> Failure {
        Failure { code: Code::NotSucceeded, message: message.into(), issues: Vec::new() }
    }
}

/// Gathers what is wrong with arguments, so that the caller hears of it all at once.
///
/// ```
/// use viworks_sdk::failure::{Issues, pointer};
///
/// let mut issues = Issues::default();
/// issues.add("/rm", "conflict", "`rm` and `restart` exclude each other");
/// issues.add(pointer(&["labels", "a/b"]), "name", "a label's name has no `/`");
/// let failure = issues.finish().unwrap_err();
/// assert_eq!(failure.issues[1].pointer, "/labels/a~1b");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues {
    found: Vec<Issue>,
}

impl Issues {
    /// Adds one.
    ///
    /// ```
    /// let mut issues = viworks_sdk::Issues::default();
    /// issues.add("/rm", "conflict", "`rm` and `restart` exclude each other");
    /// assert!(issues.finish().is_err());
    /// ```
    pub fn add(&mut self, pointer: impl Into<String>, keyword: &str, message: impl Into<String>) {
        self.found.push(Issue { pointer: pointer.into(), keyword: keyword.to_owned(), message: message.into() });
    }

    /// The value, or `None` with its fault added: for reading one argument after the other.
    ///
    /// ```
    /// let mut issues = viworks_sdk::Issues::default();
    /// let read = |text: &str| text.parse::<u16>().map_err(|error| error.to_string());
    /// assert_eq!(issues.note("/ports/0", "port", read("80")), Some(80));
    /// assert_eq!(issues.note("/ports/1", "port", read("http")), None);
    /// assert_eq!(issues.finish().unwrap_err().issues[0].pointer, "/ports/1");
    /// ```
    pub fn note<T>(&mut self, pointer: impl Into<String>, keyword: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.add(pointer, keyword, message)).ok()
    }

    /// # Errors
    /// All that were added, if any.
    ///
    /// ```
    /// assert_eq!(viworks_sdk::Issues::default().finish(), Ok(()));
    /// ```
    pub fn finish(self) -> Result<()> {
        match self.found.is_empty() {
            true => Ok(()),
            false => Err(Failure::issues(self.found)),
        }
    }
}

/// The JSON Pointer through `keys`, each escaped.
///
/// ```
/// assert_eq!(viworks_sdk::failure::pointer(&["labels", "a/b"]), "/labels/a~1b");
/// ```
pub fn pointer(keys: &[&str]) -> String {
    let mut pointer = String::new();
    keys.iter().for_each(|key| push_key(&mut pointer, key));
    pointer
}

/// Makes `pointer`, a JSON Pointer, lead one level deeper.
pub(crate) fn push_key(pointer: &mut String, key: &str) {
    pointer.push('/');
    if !key.bytes().any(|byte| matches!(byte, b'~' | b'/')) {
        return pointer.push_str(key);
    }
    for letter in key.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// Makes it lead to an item of a list. Digit by digit: the standard library's way costs a call more than reading
/// the item does.
pub(crate) fn push_index(pointer: &mut String, index: usize) {
    fn digits(pointer: &mut String, number: usize) {
        if number > 9 {
            digits(pointer, number / 10);
        }
        pointer.push(char::from(b'0' + (number % 10) as u8));
    }
    pointer.push('/');
    digits(pointer, index);
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => f.write_str(&self.message),
            pointer => write!(f, "{pointer}: {}", self.message),
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    /// An error met while reading output. In `plan` it counts as unsupported.
    fn from(error: E) -> Failure {
        Failure::parse(error.to_string())
    }
}
