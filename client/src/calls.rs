//! The routes of logins and commands, one method each.

use api::auth::{Login, Refresh, Tokens};
use api::bulk::{CancelMany, CancelledMany};
use api::command::{Accepted, CancelAnswer, Command, Invocation, NewCommand, ReleaseAnswer};
use api::delivery::{Attempts, GroupsBody, RetryCommand, RollupBody};
use api::page::Page;
use reqwest::Method;

use crate::Client;
use crate::error::ClientError;
use crate::list::Items;
use crate::request::{Ask, read};

/// Invocations carry the beginning of their output, so few of them make a page.
const INVOCATIONS_PER_PAGE: u32 = 50;

/// Which commands to list; absent = any.
#[derive(Clone, Debug, Default)]
pub struct CommandQuery {
    /// Statuses, any of them.
    pub status: Vec<String>,
    /// The verb.
    pub verb: Option<String>,
    /// Id or name of an agent it runs on.
    pub agent: Option<String>,
    /// A site it runs at.
    pub site: Option<String>,
    /// The priority.
    pub priority: Option<String>,
    /// RFC 3339: accepted at or after.
    pub since: Option<String>,
    /// RFC 3339: accepted before.
    pub until: Option<String>,
}

impl CommandQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let CommandQuery { status, verb, agent, site, priority, since, until } = self;
        let mut pairs = Vec::new();
        if !status.is_empty() {
            pairs.push(("status", status.join(",")));
        }
        for (name, value) in [
            ("verb", verb),
            ("agent", agent),
            ("site", site),
            ("priority", priority),
            ("since", since),
            ("until", until),
        ] {
            pairs.extend(value.clone().map(|value| (name, value)));
        }
        pairs
    }
}

/// A part of one stream of an invocation's latest attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPart {
    /// What is kept of it: where each piece stands in the stream, and its bytes.
    pub pieces: Vec<(u64, Vec<u8>)>,
    /// Where to go on reading; where this part was asked for when there is no more.
    pub next: u64,
}

impl Client {
    /// `POST /auth/login`.
    ///
    /// # Errors
    /// 401 when name or password is wrong.
    pub async fn login(&self, login: &Login) -> Result<Tokens, ClientError> {
        let ask = Ask::new(Method::POST, self.server.route(&["auth", "login"], &[])).json(login);
        read(self.send_openly(&ask).await?, self).await
    }

    /// `POST /auth/refresh`.
    pub(crate) async fn refresh(&self, refresh: &Refresh) -> Result<Tokens, ClientError> {
        let ask = Ask::new(Method::POST, self.server.route(&["auth", "refresh"], &[])).json(refresh);
        read(self.send_openly(&ask).await?, self).await
    }

    /// `POST /auth/logout`: the refresh token is worth nothing afterwards.
    ///
    /// # Errors
    /// As every call.
    pub async fn logout(&self, refresh_token: String) -> Result<(), ClientError> {
        let ask = Ask::new(Method::POST, self.server.route(&["auth", "logout"], &[])).json(&Refresh { refresh_token });
        self.send(&ask).await.map(drop)
    }

    /// `POST /commands`. `key` marks this one intent, so that it is accepted once however often it is sent.
    ///
    /// # Errors
    /// 422 when the arguments do not fit, nobody is meant, or the plan is not allowed.
    pub async fn submit(&self, command: &NewCommand, key: &str) -> Result<Accepted, ClientError> {
        let url = self.server.route(&["commands"], &[]);
        let ask = Ask::new(Method::POST, url).json(command).header("idempotency-key", key.to_owned());
        self.fetch(&ask).await
    }

    /// `GET /commands`, newest first, at most `limit`.
    ///
    /// # Errors
    /// 400 when a filter is no filter.
    pub async fn commands(&self, query: &CommandQuery, limit: usize) -> Result<Page<Command>, ClientError> {
        self.list(&["commands"], query.pairs(), limit).await
    }

    /// `GET /commands`, newest first, item by item.
    pub fn each_command(&self, query: &CommandQuery) -> Items<Command> {
        self.each(&["commands"], query.pairs())
    }

    /// `GET /commands/{id}`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn command(&self, id: &str) -> Result<Command, ClientError> {
        self.get(&["commands", id]).await
    }

    /// `GET /commands/{id}/invocations`, all of them.
    ///
    /// # Errors
    /// 404 when there is no such command.
    pub async fn invocations(&self, id: &str) -> Result<Page<Invocation>, ClientError> {
        self.pages(&["commands", id, "invocations"], &[], usize::MAX, INVOCATIONS_PER_PAGE).await
    }

    /// `GET /commands/{id}/invocations`, item by item.
    pub fn each_invocation(&self, id: &str) -> Items<Invocation> {
        self.each_by(&["commands", id, "invocations"], Vec::new(), INVOCATIONS_PER_PAGE)
    }

    /// `GET /commands/{id}/invocations/{agent}`.
    ///
    /// # Errors
    /// 404 when there is no such command, or it does not run there.
    pub async fn invocation(&self, id: &str, agent: &str) -> Result<Invocation, ClientError> {
        self.get(&["commands", id, "invocations", agent]).await
    }

    /// `GET /commands/{id}/invocations/{agent}/output` from `offset` on; `stream` is `stdout` or `stderr`.
    ///
    /// # Errors
    /// 404 when there is no such command, or it does not run there.
    pub async fn output(&self, id: &str, agent: &str, stream: &str, offset: u64) -> Result<OutputPart, ClientError> {
        let query = [("stream", stream.to_owned()), ("offset", offset.to_string())];
        let ask = Ask::new(Method::GET, self.server.route(&["commands", id, "invocations", agent, "output"], &query));
        let response = self.send(&ask).await?;
        let said = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let start = said("x-output-offset").and_then(|text| text.parse().ok()).unwrap_or(offset);
        let next = said("x-output-next-offset").and_then(|text| text.parse().ok());
        let gaps = said("x-output-gaps").unwrap_or_default();
        let bytes = response.bytes().await.map_err(|error| ClientError::transport(&self.server, &error))?;
        let next = next.unwrap_or(start + bytes.len() as u64);
        Ok(OutputPart { pieces: pieces(start, &bytes, &gaps), next })
    }

    /// `POST /commands/{id}/cancel`.
    ///
    /// # Errors
    /// 404 when there is none; one that has ended answers as it is.
    pub async fn cancel(&self, id: &str) -> Result<CancelAnswer, ClientError> {
        let ask = Ask::new(Method::POST, self.server.route(&["commands", id, "cancel"], &[]));
        self.fetch(&ask).await
    }

    /// `POST /commands/cancel`: all that the filter means and that is not over, as many as its limit.
    ///
    /// # Errors
    /// 400 when a filter is no filter; 422 when there is none at all.
    pub async fn cancel_many(&self, filter: &CancelMany) -> Result<CancelledMany, ClientError> {
        self.post(&["commands", "cancel"], filter).await
    }

    /// Lets go what is held since a restore.
    ///
    /// # Errors
    /// 404 when there is none; one of which nothing is held answers as it is.
    pub async fn release(&self, id: &str) -> Result<ReleaseAnswer, ClientError> {
        let ask = Ask::new(Method::POST, self.server.route(&["commands", id, "release"], &[]));
        self.fetch(&ask).await
    }

    /// `POST /commands/{id}/retry`; `only` is `failed` or `never_started`. `key` marks this one intent.
    ///
    /// # Errors
    /// 404 when there is none; 422 when none of its invocations ended like that.
    pub async fn retry(&self, id: &str, only: &str, key: &str) -> Result<Accepted, ClientError> {
        let url = self.server.route(&["commands", id, "retry"], &[]);
        let body = RetryCommand { only: only.to_owned() };
        self.fetch(&Ask::new(Method::POST, url).json(&body).header("idempotency-key", key.to_owned())).await
    }

    /// `GET /commands/{id}/rollup`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn rollup(&self, id: &str) -> Result<RollupBody, ClientError> {
        self.get(&["commands", id, "rollup"]).await
    }

    /// `GET /commands/{id}/results`, alike by the value that the pointer `by` leads to, or by the whole result.
    ///
    /// # Errors
    /// 400 when `by` is no JSON Pointer; 404 when there is no such command.
    pub async fn results(&self, id: &str, by: Option<&str>, limit: u32) -> Result<GroupsBody, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(by.map(|by| ("by", by.to_owned())));
        self.fetch(&Ask::new(Method::GET, self.server.route(&["commands", id, "results"], &query))).await
    }

    /// `GET /commands/{id}/invocations/{agent}/attempts`: the earlier ones.
    ///
    /// # Errors
    /// 404 when there is no such command, or it does not run there.
    pub async fn attempts(&self, id: &str, agent: &str) -> Result<Attempts, ClientError> {
        self.get(&["commands", id, "invocations", agent, "attempts"]).await
    }
}

/// Cuts kept bytes where `gaps` (`first-last`, between commas) lie between them.
fn pieces(start: u64, bytes: &[u8], gaps: &str) -> Vec<(u64, Vec<u8>)> {
    let (mut at, mut rest) = (start, bytes);
    let mut found = Vec::new();
    for gap in gaps.split(',') {
        let Some((first, last)) = gap.split_once('-') else { continue };
        let (Ok(first), Ok(last)) = (first.trim().parse::<u64>(), last.trim().parse::<u64>()) else { continue };
        let before = usize::try_from(first.saturating_sub(at)).unwrap_or(usize::MAX).min(rest.len());
        let (piece, after) = rest.split_at(before);
        if !piece.is_empty() {
            found.push((at, piece.to_vec()));
        }
        rest = after;
        at = at.max(last.saturating_add(1));
    }
    if !rest.is_empty() {
        found.push((at, rest.to_vec()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn kept_bytes_stand_where_the_gaps_leave_them() {
        for (start, bytes, gaps, expected) in [
            (0, "abc", "none", vec![(0, "abc")]),
            (7, "abc", "", vec![(7, "abc")]),
            (10, "oops", "0-9", vec![(10, "oops")]),
            (0, "headtail", "4-99", vec![(0, "head"), (100, "tail")]),
            (0, "ab", "2-3,4-9", vec![(0, "ab")]),
            (0, "", "none", vec![]),
        ] {
            let found = pieces(start, bytes.as_bytes(), gaps);
            let found: Vec<(u64, &str)> = found.iter().map(|(at, b)| (*at, std::str::from_utf8(b).unwrap())).collect();
            assert_eq!(found, expected, "{bytes} from {start} with gaps {gaps}");
        }
    }
}
