//! Closed sets of words that requests may use, for their schemas alone: bodies carry text, so that a
//! wrong word is refused with its place and with what it could have been.

use utoipa::ToSchema;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident: $($word:ident)*;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, ToSchema)]
            #[schema(rename_all = "snake_case")]
            #[expect(missing_docs, reason = "a word is its own description")]
            pub enum $name { $($word,)* }
        )*
    };
}

words! {
    /// What a user may do at all.
    Role: Viewer Operator Admin;
    /// What a verb does to its machine.
    Effect: Read Change Destroy Host;
    /// Which goes first.
    Priority: Critical High Normal Low;
    /// How an agent stands.
    AgentStatus: Online Degraded Offline Maintenance Pending;
    /// What happens when an agent loses its host.
    OnDisconnect: Continue KillAfter;
    /// Ends after which an attempt may be followed by another.
    RetryOn: Failed TimedOut Interrupted Lost;
    /// Which invocations are run again.
    RetryOnly: Failed NeverStarted;
    /// How a rollout grows.
    Ramp: Off Exponential;
    /// What happens to what runs when a rollout halts.
    OnHalt: Finish Cancel;
}
