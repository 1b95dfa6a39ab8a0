//! The one route table: router, documentation and tests are made of it.
//!
//! Invariant: a row's permission is the one its handler's first argument proves; a row that says
//! otherwise does not build.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use futures_util::future::BoxFuture;

use crate::app::App;
use crate::authorize::{
    Access, AnswerAlerts, BeginsWith, Door, EnrolAgents, Everyone, ManageAgents, ManageChannels, ManageGroups,
    ManagePlugins, ManageUsers, OwnAccount, OwnLogin, ReadAgents, ReadAlerts, ReadAudit, ReadCommands, ReadGroups,
    ReadPlugins, ReadStatistics, ReadVerbs, RunCommands,
};
use crate::doors::{
    accounts, agents, alerts, api_keys, audit, bulk, channels, commands, delivery, description, events, groups,
    invocations, join_tokens, live, metrics, plugins, silences, sockets, statistics, system, telemetry, users, verbs,
};
use crate::metrics::Route as Answered;
use crate::query::Query;

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Its path, with `{names}`.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Query parameters it knows; any other is refused.
    pub query: &'static [&'static str],
    /// One line.
    pub summary: &'static str,
}

macro_rules! routes {
    ($($method:ident $path:literal $door:ident $handler:path, [$($query:literal),*] $summary:literal;)*) => {
        /// Every route there is.
        pub const TABLE: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            access: <$door as Door>::ACCESS,
            query: &[$($query),*],
            summary: $summary,
        }),*];

        /// The routes, with nothing around them.
        pub(crate) fn router() -> Router<App> {
            let mut rows = TABLE.iter();
            let router = Router::new();
            $(let router = {
                let row = rows.next().expect("one row for each route");
                router.route($path, mount::<$door, _, _>(MethodFilter::$method, row, $handler))
            };)*
            router
        }
    };
}

routes! {
    POST "/api/v1/auth/login" Everyone accounts::login, [] "Log in with name and password";
    POST "/api/v1/auth/refresh" Everyone accounts::refresh, [] "Swap a refresh token for new tokens";
    POST "/api/v1/auth/logout" OwnLogin accounts::logout, [] "End this login";
    GET "/api/v1/me" OwnAccount accounts::me, [] "Who you are and what you may do";
    POST "/api/v1/me/password" OwnLogin accounts::change_password, [] "Change your password, which ends every login";

    GET "/api/v1/users" ManageUsers users::list, ["limit", "cursor"] "Users, by name";
    POST "/api/v1/users" ManageUsers users::create, [] "Make a user";
    GET "/api/v1/users/{user}" ManageUsers users::show, [] "One user, by id or name";
    PATCH "/api/v1/users/{user}" ManageUsers users::change, [] "Change a user's role, grants or password, or end their logins";
    DELETE "/api/v1/users/{user}" ManageUsers users::delete, [] "Delete a user, by id or name";
    GET "/api/v1/grants" ManageUsers users::all_grants, ["limit", "cursor"] "Everybody's grants, by user name";
    GET "/api/v1/grants/{user}" ManageUsers users::grants, [] "A user's grants";
    PUT "/api/v1/grants/{user}" ManageUsers users::set_grants, [] "Give a user these grants in place of all others";

    GET "/api/v1/api-keys" OwnAccount api_keys::list, ["limit", "cursor"] "Your API keys, for admins everybody's; newest first";
    POST "/api/v1/api-keys" OwnLogin api_keys::create, [] "Make an API key of yours; its secret is shown once";
    DELETE "/api/v1/api-keys/{id}" OwnAccount api_keys::revoke, [] "Revoke an API key, for ever";

    GET "/api/v1/agents" ReadAgents agents::list, ["limit", "cursor", "status", "site", "q"] "Agents in your sight, by name";
    GET "/api/v1/agents/{agent}" ReadAgents agents::show, [] "One agent, by id or name";
    PATCH "/api/v1/agents/{agent}" ManageAgents agents::change, [] "Change an agent's site, labels or maintenance";
    DELETE "/api/v1/agents/{agent}" EnrolAgents agents::delete, [] "Delete an agent: its key is refused for ever, its name is free";
    POST "/api/v1/agents/{agent}/approve" EnrolAgents agents::approve, [] "Let in an agent that waits for approval";
    POST "/api/v1/agents/{agent}/rotate-key" EnrolAgents agents::rotate_key, [] "Have an agent make another key, and refuse the old one for ever";
    POST "/api/v1/agents/{agent}/revoke" EnrolAgents agents::revoke, [] "Revoke an agent's key for ever";
    GET "/api/v1/agents/{agent}/commands" ReadCommands commands::of_agent,
        ["limit", "cursor", "status", "verb", "priority", "site", "since", "until"] "Commands that run on an agent, be it among others, newest first";
    GET "/api/v1/agents/{agent}/telemetry" ReadAgents agents::telemetry, [] "An agent's latest telemetry sample";

    GET "/api/v1/telemetry" ReadAgents telemetry::list, ["limit", "cursor", "site", "label", "metrics"] "The latest telemetry of agents in your sight, by name";
    GET "/api/v1/telemetry/trends" ReadAgents telemetry::trends, ["limit", "cursor", "site", "label", "metrics", "from", "to", "step"] "Where series are going, and when what fills will be full";
    GET "/api/v1/telemetry/across" ReadAgents telemetry::across, ["by", "site", "label", "metrics"] "The latest telemetry of many agents together, by site or by a label";
    GET "/api/v1/telemetry/across/history" ReadAgents telemetry::across_history, ["by", "site", "label", "from", "to", "step", "metrics", "limit", "cursor"] "The telemetry of many agents together in the past, by site or by a label, oldest first";
    GET "/api/v1/telemetry/{agent}" ReadAgents telemetry::show, [] "An agent's latest telemetry as series";
    GET "/api/v1/telemetry/{agent}/history" ReadAgents telemetry::history, ["from", "to", "step", "metrics", "limit", "cursor"] "An agent's telemetry of the past, oldest first";
    GET "/api/v1/health-report" ReadAgents telemetry::health_report, ["limit", "cursor", "site", "label"] "How well agents, sites and the fleet are, with the arithmetic";

    GET "/api/v1/alerts" ReadAlerts alerts::list, ["limit", "cursor", "state", "severity", "rule", "agent", "site"] "Alerts in your sight that are not over, newest first";
    GET "/api/v1/alerts/{id}" ReadAlerts alerts::show, [] "One alert with its timeline";
    POST "/api/v1/alerts/{id}/ack" AnswerAlerts alerts::acknowledge, [] "Take an alert";
    POST "/api/v1/alerts/{id}/release" AnswerAlerts alerts::release, [] "Give an alert back";
    GET "/api/v1/silences" ReadAlerts silences::list, ["limit", "cursor"] "Silences that have not ended, newest first";
    POST "/api/v1/silences" AnswerAlerts silences::create, [] "Have nobody told of some alerts for a while";
    DELETE "/api/v1/silences/{id}" AnswerAlerts silences::end, [] "End a silence";
    GET "/api/v1/alert-rules" ReadAlerts alerts::rules, ["limit", "cursor"] "Rules that judge, by name";
    GET "/api/v1/alert-rules/{rule}" ReadAlerts alerts::rule, [] "One rule with its configuration";
    POST "/api/v1/alert-rules/{rule}/backtest" AnswerAlerts alerts::backtest, [] "How often a rule would have fired in the past; changes nothing";

    GET "/api/v1/notification-channels" ManageChannels channels::list, ["limit", "cursor"] "Where people are told of alerts, by name";
    POST "/api/v1/notification-channels" ManageChannels channels::create, [] "Make a place where people are told; its secret is shown once";
    GET "/api/v1/notification-channels/{channel}" ManageChannels channels::show, [] "One channel, by id or name";
    PATCH "/api/v1/notification-channels/{channel}" ManageChannels channels::change, [] "Change where and how people are told; what is absent stays, secrets too";
    DELETE "/api/v1/notification-channels/{channel}" ManageChannels channels::delete, [] "Drop a channel with its messages";
    POST "/api/v1/notification-channels/{channel}/test" ManageChannels channels::test, [] "Send a message of no alert, and say what came of it";
    GET "/api/v1/notification-channels/{channel}/messages" ManageChannels channels::messages, ["limit", "cursor", "state"] "A channel's messages, newest first; `dead` ones were given up";

    GET "/api/v1/groups" ReadGroups groups::list, ["limit", "cursor"] "Saved groups, by name";
    POST "/api/v1/groups" ManageGroups groups::create, [] "Save a group";
    GET "/api/v1/groups/{group}" ReadGroups groups::show, [] "One group, and how many agents it means now";
    PATCH "/api/v1/groups/{group}" ManageGroups groups::change, [] "Change what a group means or is described as";
    DELETE "/api/v1/groups/{group}" ManageGroups groups::delete, [] "Delete a group that no other names";

    GET "/api/v1/join-tokens" EnrolAgents join_tokens::list, ["limit", "cursor"] "Join tokens, newest first";
    POST "/api/v1/join-tokens" EnrolAgents join_tokens::create, [] "Make a join token; its secret is shown once";
    DELETE "/api/v1/join-tokens/{id}" EnrolAgents join_tokens::revoke, [] "Revoke a join token";

    GET "/api/v1/verbs" ReadVerbs verbs::list, ["limit", "cursor"] "Loaded verbs, by name";
    GET "/api/v1/verbs/{verb}" ReadVerbs verbs::show, [] "One verb with its schemas";
    POST "/api/v1/verbs/{verb}/plan" RunCommands verbs::plan, [] "What a command would do; queues nothing";

    POST "/api/v1/commands" RunCommands commands::submit, [] "Submit a command";
    GET "/api/v1/commands" ReadCommands commands::list,
        ["limit", "cursor", "status", "verb", "agent", "priority", "site", "since", "until"] "Commands in your sight, newest first";
    POST "/api/v1/commands/cancel" RunCommands bulk::cancel, [] "Ask all commands to end that a filter means";
    GET "/api/v1/commands/{id}" ReadCommands commands::show, [] "One command";
    POST "/api/v1/commands/{id}/cancel" RunCommands commands::cancel, [] "Ask a command to end";
    POST "/api/v1/commands/{id}/release" RunCommands commands::release, [] "Let go what is held since a restore";
    POST "/api/v1/commands/{id}/retry" RunCommands delivery::retry, [] "Run a command again where it failed or never started";
    GET "/api/v1/commands/{id}/rollup" ReadCommands delivery::rollup, [] "How many invocations are where, by site, state and reason";
    GET "/api/v1/commands/{id}/results" ReadCommands delivery::results, ["by", "limit"] "Invocations that ended alike, by their typed result or one value in it";
    GET "/api/v1/commands/{id}/events" ReadCommands live::events, [] "A command's events as server-sent events";
    GET "/api/v1/commands/{id}/invocations" ReadCommands invocations::list, ["limit", "cursor", "state"] "A command's invocations, by agent id";
    GET "/api/v1/commands/{id}/invocations/{agent}/attempts" ReadCommands delivery::attempts, [] "Earlier attempts of a command on one agent";
    GET "/api/v1/commands/{id}/invocations/{agent}" ReadCommands invocations::show, [] "A command on one agent, by id or name";
    GET "/api/v1/commands/{id}/invocations/{agent}/output" ReadCommands invocations::output, ["stream", "offset"] "Kept output as raw octets";

    GET "/api/v1/plugins" ReadPlugins plugins::list, ["limit", "cursor"] "Plugin files, by name";
    GET "/api/v1/plugins/{name}" ReadPlugins plugins::show, [] "One plugin";
    GET "/api/v1/plugins/{name}/history" ReadPlugins plugins::history, ["limit", "cursor"] "What happened to a plugin, newest first";
    POST "/api/v1/plugins/{name}/enable" ManagePlugins plugins::enable, [] "Let a plugin serve again that was disabled";
    POST "/api/v1/plugins/{name}/disable" ManagePlugins plugins::disable, [] "Switch a plugin off";
    POST "/api/v1/plugins/{name}/rollback" ManagePlugins plugins::rollback, [] "Go back to the version before";
    POST "/api/v1/plugins/{name}/retry" ManagePlugins plugins::retry, [] "Try again what was quarantined, rolled back or refused";
    POST "/api/v1/plugins/{name}/approve" ManagePlugins plugins::approve, [] "Consent to what the waiting version asks for";

    GET "/api/v1/events" ReadCommands events::sse, ["cursor", "telemetry", "site", "label"] "What happens in your sight, as server-sent events";
    GET "/ws/events" Everyone sockets::events, ["cursor", "telemetry", "site", "label"] "The same over a WebSocket, whose first frame may bring the token";

    GET "/api/v1/statistics" ReadStatistics statistics::show, [] "What is in your sight, and how fast it goes";

    GET "/api/v1/audit" ReadAudit audit::list, ["limit", "cursor", "actor", "action", "since", "until"] "The audit log, newest first";
    GET "/api/v1/audit/verify" ReadAudit audit::verify, [] "Whether the audit log is as it was written";
    GET "/api/v1/audit/export" ReadAudit audit::export, [] "The whole audit log as NDJSON, with its seals";

    GET "/health" Everyone system::health, [] "How every part of the host is";
    GET "/readyz" Everyone system::health, [] "Whether the host can take work";
    GET "/livez" Everyone system::alive, [] "Whether the host runs";
    GET "/.well-known/jwks.json" Everyone system::jwks, [] "The keys that access tokens may be checked with";
    GET "/metrics" ReadStatistics metrics::show, [] "The same for machines that watch the host, as OpenMetrics text";
    GET "/version" Everyone system::version, [] "Which host this is";
    GET "/openapi.json" Everyone description::openapi, [] "This door as OpenAPI 3.1, with the verbs that are loaded";
    GET "/docs" Everyone description::page, [] "The same for people";
    GET "/docs/errors" Everyone description::page, [] "The same for people; where a problem's `type` leads";
}

fn mount<D, H, T>(method: MethodFilter, row: &'static Route, handler: H) -> MethodRouter<App>
where
    D: Door,
    H: Handler<T, App>,
    T: BeginsWith<D> + 'static,
{
    on(method, Known { row, handler })
}

/// A handler that is asked only what its row knows, and says which row it was.
#[derive(Clone)]
struct Known<H> {
    row: &'static Route,
    handler: H,
}

impl<T, H: Handler<T, App>> Handler<T, App> for Known<H> {
    type Future = BoxFuture<'static, Response>;

    fn call(self, request: Request, app: App) -> Self::Future {
        let Known { row, handler } = self;
        Box::pin(async move {
            let mut response = match Query::check(&request, row.query) {
                Ok(()) => handler.call(request, app).await,
                Err(problem) => problem.into_response(),
            };
            response.extensions_mut().insert(Answered(row.path));
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn only_these_routes_need_no_token() {
        let open: Vec<&str> = TABLE.iter().filter(|row| row.access == Access::Public).map(|row| row.path).collect();
        let login = ["/api/v1/auth/login", "/api/v1/auth/refresh", "/ws/events"];
        let system = ["/health", "/readyz", "/livez", "/.well-known/jwks.json", "/version"];
        let described = ["/openapi.json", "/docs", "/docs/errors"];
        let expected: Vec<&str> = login.into_iter().chain(system).chain(described).collect();
        assert_eq!(open, expected);
    }

    #[test]
    fn every_row_is_one_route_with_a_line_about_it() {
        let routes: HashSet<(&str, &str)> = TABLE.iter().map(|row| (row.method, row.path)).collect();
        assert_eq!(routes.len(), TABLE.len());
        assert!(TABLE.iter().all(|row| !row.summary.is_empty() && !row.summary.ends_with('.')));
    }
}
