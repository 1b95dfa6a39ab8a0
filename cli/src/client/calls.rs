//! The routes, one method each.

use api::agent::{Agent, JoinToken, MadeJoinToken, NewJoinToken};
use api::auth::{Login, Refresh, Tokens};
use api::command::{Accepted, CancelAnswer, Command, Invocation, NewCommand, ReleaseAnswer};
use api::delivery::{Attempts, GroupsBody, RetryCommand, RollupBody};
use api::group::{Group, GroupPatch, NewGroup};
use api::page::{MAX_LIMIT, Page};
use api::plugin::{Plugin, PluginPassage};
use api::verb::{PlanPreview, PlanRequest, Verb};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Client;
use super::error::ClientError;
use super::request::{Ask, read};

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
    pub(super) async fn refresh(&self, refresh: &Refresh) -> Result<Tokens, ClientError> {
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

    /// `GET /agents`, all that pass the query.
    ///
    /// # Errors
    /// As every call.
    pub async fn agents(&self, query: Vec<(&str, String)>) -> Result<Page<Agent>, ClientError> {
        self.list(&["agents"], query, usize::MAX).await
    }

    /// `GET /agents/{agent}`.
    ///
    /// # Errors
    /// 404 when there is none, or none that the caller may see.
    pub async fn agent(&self, agent: &str) -> Result<Agent, ClientError> {
        self.get(&["agents", agent]).await
    }

    /// `POST /agents/{agent}/revoke`: its key is worth nothing afterwards.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn revoke_agent(&self, agent: &str) -> Result<(), ClientError> {
        self.act(&["agents", agent, "revoke"]).await
    }

    /// `POST /join-tokens`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn create_join_token(&self, token: &NewJoinToken) -> Result<MadeJoinToken, ClientError> {
        self.post(&["join-tokens"], token).await
    }

    /// `GET /join-tokens`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn join_tokens(&self) -> Result<Page<JoinToken>, ClientError> {
        self.list(&["join-tokens"], Vec::new(), usize::MAX).await
    }

    /// `DELETE /join-tokens/{id}`.
    ///
    /// # Errors
    /// 403 unless an admin asks.
    pub async fn revoke_join_token(&self, id: &str) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::DELETE, self.server.route(&["join-tokens", id], &[]))).await.map(drop)
    }

    /// `GET /groups`, all of them.
    ///
    /// # Errors
    /// As every call.
    pub async fn groups(&self) -> Result<Page<Group>, ClientError> {
        self.list(&["groups"], Vec::new(), usize::MAX).await
    }

    /// `GET /groups/{group}`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn group(&self, group: &str) -> Result<Group, ClientError> {
        self.get(&["groups", group]).await
    }

    /// `POST /groups`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 409 when the name is taken; 422 when the expression names what there is not.
    pub async fn create_group(&self, group: &NewGroup) -> Result<Group, ClientError> {
        self.post(&["groups"], group).await
    }

    /// `PATCH /groups/{group}`.
    ///
    /// # Errors
    /// As [`create_group`](Self::create_group), and 404 when there is none.
    pub async fn change_group(&self, group: &str, patch: &GroupPatch) -> Result<Group, ClientError> {
        self.fetch(&Ask::new(Method::PATCH, self.server.route(&["groups", group], &[])).json(patch)).await
    }

    /// `DELETE /groups/{group}`.
    ///
    /// # Errors
    /// 403 unless an admin asks; 409 when another group names it.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::DELETE, self.server.route(&["groups", group], &[]))).await.map(drop)
    }

    /// `GET /verbs`.
    ///
    /// # Errors
    /// As every call.
    pub async fn verbs(&self) -> Result<Page<Verb>, ClientError> {
        self.list(&["verbs"], Vec::new(), usize::MAX).await
    }

    /// `GET /verbs/{verb}`.
    ///
    /// # Errors
    /// 404 when no plugin provides it.
    pub async fn verb(&self, verb: &str) -> Result<Verb, ClientError> {
        self.get(&["verbs", verb]).await
    }

    /// `POST /verbs/{verb}/plan`: what a command would do; queues nothing.
    ///
    /// # Errors
    /// What submitting it would answer.
    pub async fn preview(&self, verb: &str, request: &PlanRequest) -> Result<PlanPreview, ClientError> {
        self.post(&["verbs", verb, "plan"], request).await
    }

    /// `GET /plugins`.
    ///
    /// # Errors
    /// As every call.
    pub async fn plugins(&self) -> Result<Page<Plugin>, ClientError> {
        self.list(&["plugins"], Vec::new(), usize::MAX).await
    }

    /// `GET /plugins/{name}`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn plugin(&self, name: &str) -> Result<Plugin, ClientError> {
        self.get(&["plugins", name]).await
    }

    /// `GET /plugins/{name}/history`, at most `limit`.
    ///
    /// # Errors
    /// 404 when nothing is known of it.
    pub async fn plugin_history(&self, name: &str, limit: usize) -> Result<Page<PluginPassage>, ClientError> {
        self.list(&["plugins", name, "history"], Vec::new(), limit).await
    }

    /// `POST /plugins/{name}/{order}`; how it stands afterwards.
    ///
    /// # Errors
    /// 403 unless an admin asks; 409 when the order makes no sense as it stands.
    pub async fn order_plugin(&self, name: &str, order: &str) -> Result<Plugin, ClientError> {
        self.fetch(&Ask::new(Method::POST, self.server.route(&["plugins", name, order], &[]))).await
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
        let CommandQuery { status, verb, agent, site, priority, since, until } = query;
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
        self.list(&["commands"], pairs, limit).await
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

    pub(super) async fn get<T: DeserializeOwned>(&self, route: &[&str]) -> Result<T, ClientError> {
        self.fetch(&Ask::new(Method::GET, self.server.route(route, &[]))).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        route: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.fetch(&Ask::new(Method::POST, self.server.route(route, &[])).json(body)).await
    }

    async fn act(&self, route: &[&str]) -> Result<(), ClientError> {
        self.send(&Ask::new(Method::POST, self.server.route(route, &[]))).await.map(drop)
    }

    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        route: &[&str],
        query: Vec<(&str, String)>,
        limit: usize,
    ) -> Result<Page<T>, ClientError> {
        self.pages(route, &query, limit, MAX_LIMIT).await
    }

    /// Walks the pages of a list until `limit` items or its end.
    async fn pages<T: DeserializeOwned>(
        &self,
        route: &[&str],
        query: &[(&str, String)],
        limit: usize,
        per_page: u32,
    ) -> Result<Page<T>, ClientError> {
        let mut all = Page { items: Vec::new(), next_cursor: None };
        loop {
            let wanted = limit.saturating_sub(all.items.len()).min(per_page as usize);
            let mut pairs = query.to_vec();
            pairs.push(("limit", wanted.to_string()));
            pairs.extend(all.next_cursor.take().map(|cursor| ("cursor", cursor)));
            let ask = Ask::new(Method::GET, self.server.route(route, &pairs));
            let page: Page<T> = self.fetch(&ask).await?;
            let stuck = page.items.is_empty();
            all.items.extend(page.items);
            all.next_cursor = page.next_cursor;
            if all.next_cursor.is_none() || stuck || all.items.len() >= limit {
                return Ok(all);
            }
        }
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
