//! What each route takes and gives: one line a route. A new route needs its row in `routes` and its
//! line here; a test names the rows that have none.

use api::access::{ApiKey, Grants, MadeApiKey, Me, NewApiKey, NewGrants, UserPatch};
use api::agent::{Agent, AgentPatch, JoinToken, MadeJoinToken, NewJoinToken, Telemetry};
use api::alert::{Alert, AlertRule, AnswerAlert, Backtest, NewBacktest, NewSilence, Silence};
use api::audit::AuditReport;
use api::auth::{ChangePassword, Login, NewUser, Refresh, Tokens, User};
use api::bulk::{CancelMany, CancelledMany};
use api::channel::{Channel, ChannelMessage, ChannelPatch, ChannelTest, NewChannel};
use api::command::{Accepted, CancelAnswer, Command, Invocation, NewCommand, ReleaseAnswer};
use api::delivery::{Attempts, GroupsBody, RetryCommand, RollupBody};
use api::group::{Group, GroupPatch, NewGroup};
use api::plugin::{Plugin, PluginPassage};
use api::statistics::Statistics;
use api::system::{AuditEntry, Health, Version};
use api::telemetry::{
    HealthReport, LatestTelemetry, TelemetryAcross, TelemetryAcrossHistory, TelemetryHistory, TelemetryTrend,
};
use api::verb::{PlanPreview, PlanRequest, Verb};

use super::shape::{Shape, op};

/// The route's line, if it has one.
#[rustfmt::skip] // A table reads best with one row a line.
pub fn of(method: &str, path: &str) -> Option<Shape> {
    let v1 = path.strip_prefix("/api/v1");
    Some(match (method, v1.unwrap_or(path)) {
        ("POST", "/auth/login") => op("login").takes::<Login>().gives::<Tokens>(200),
        ("POST", "/auth/refresh") => op("refresh").takes::<Refresh>().gives::<Tokens>(200).refuses(&[401]),
        ("POST", "/auth/logout") => op("logout").takes::<Refresh>().gives_none(204),
        ("GET", "/me") => op("get_me").gives::<Me>(200),
        ("POST", "/me/password") => op("change_password").takes::<ChangePassword>().gives_none(204),

        ("GET", "/users") => op("list_users").gives_page::<User>(),
        ("POST", "/users") => op("create_user").takes::<NewUser>().gives::<User>(201).reads(&["Idempotency-Key"]).refuses(&[409]),
        ("GET", "/users/{user}") => op("get_user").gives::<User>(200),
        ("PATCH", "/users/{user}") => op("change_user").takes::<UserPatch>().gives::<User>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("DELETE", "/users/{user}") => op("delete_user").gives_none(204).reads(&["If-Match"]).refuses(&[409, 412]),

        ("GET", "/grants") => op("list_grants").gives_page::<Grants>(),
        ("GET", "/grants/{user}") => op("get_grants").gives::<Grants>(200),
        ("PUT", "/grants/{user}") => op("set_grants").takes::<NewGrants>().gives::<Grants>(200).reads(&["If-Match"]).refuses(&[409, 412, 428]),

        ("GET", "/api-keys") => op("list_api_keys").gives_page::<ApiKey>(),
        ("POST", "/api-keys") => op("create_api_key").takes::<NewApiKey>().gives::<MadeApiKey>(201).reads(&["Idempotency-Key"]).refuses(&[409]),
        ("DELETE", "/api-keys/{id}") => op("revoke_api_key").gives_none(204),

        ("GET", "/agents") => op("list_agents").gives_page::<Agent>(),
        ("GET", "/agents/{agent}") => op("get_agent").gives::<Agent>(200),
        ("PATCH", "/agents/{agent}") => op("change_agent").takes::<AgentPatch>().gives::<Agent>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("DELETE", "/agents/{agent}") => op("delete_agent").gives_none(204).reads(&["If-Match"]).refuses(&[412]),
        ("POST", "/agents/{agent}/approve") => op("approve_agent").takes_nothing().gives::<Agent>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("POST", "/agents/{agent}/rotate-key") => op("rotate_agent_key").takes_nothing().gives::<Agent>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("POST", "/agents/{agent}/revoke") => op("revoke_agent").takes_nothing().gives::<Agent>(200).reads(&["If-Match"]).refuses(&[412]),
        ("GET", "/agents/{agent}/commands") => op("list_agent_commands").gives_page::<Command>(),
        ("GET", "/agents/{agent}/telemetry") => op("get_agent_telemetry").gives::<Telemetry>(200),

        ("GET", "/telemetry") => op("list_telemetry").gives_page::<LatestTelemetry>(),
        ("GET", "/telemetry/trends") => op("list_trends").gives_page::<TelemetryTrend>(),
        ("GET", "/telemetry/across") => op("get_telemetry_across").gives::<TelemetryAcross>(200),
        ("GET", "/telemetry/across/history") => {
            op("get_telemetry_across_history").gives::<TelemetryAcrossHistory>(200)
        }
        ("GET", "/telemetry/{agent}") => op("get_telemetry").gives::<LatestTelemetry>(200),
        ("GET", "/telemetry/{agent}/history") => op("get_telemetry_history").gives::<TelemetryHistory>(200),
        ("GET", "/health-report") => op("get_health_report").gives::<HealthReport>(200),

        ("GET", "/alerts") => op("list_alerts").gives_page::<Alert>(),
        ("GET", "/alerts/{id}") => op("get_alert").gives::<Alert>(200),
        ("POST", "/alerts/{id}/ack") => op("acknowledge_alert").takes::<AnswerAlert>().gives::<Alert>(200).refuses(&[409]),
        ("POST", "/alerts/{id}/release") => op("release_alert").takes::<AnswerAlert>().gives::<Alert>(200).refuses(&[409]),
        ("GET", "/silences") => op("list_silences").gives_page::<Silence>(),
        ("POST", "/silences") => op("create_silence").takes::<NewSilence>().gives::<Silence>(201).reads(&["Idempotency-Key"]).refuses(&[409]),
        ("DELETE", "/silences/{id}") => op("end_silence").gives_none(204),
        ("GET", "/alert-rules") => op("list_alert_rules").gives_page::<AlertRule>(),
        ("GET", "/alert-rules/{rule}") => op("get_alert_rule").gives::<AlertRule>(200),
        ("POST", "/alert-rules/{rule}/backtest") => op("backtest_alert_rule").takes::<NewBacktest>().gives::<Backtest>(200).refuses(&[503]),

        ("GET", "/notification-channels") => op("list_channels").gives_page::<Channel>(),
        ("POST", "/notification-channels") => op("create_channel").takes::<NewChannel>().gives::<Channel>(201).reads(&["Idempotency-Key"]).refuses(&[409]),
        ("GET", "/notification-channels/{channel}") => op("get_channel").gives::<Channel>(200),
        ("PATCH", "/notification-channels/{channel}") => op("change_channel").takes::<ChannelPatch>().gives::<Channel>(200).reads(&["If-Match"]).refuses(&[412]),
        ("DELETE", "/notification-channels/{channel}") => op("delete_channel").gives_none(204),
        ("POST", "/notification-channels/{channel}/test") => op("test_channel").takes_nothing().gives::<ChannelTest>(200),
        ("GET", "/notification-channels/{channel}/messages") => op("list_channel_messages").gives_page::<ChannelMessage>(),

        ("GET", "/groups") => op("list_groups").gives_page::<Group>(),
        ("POST", "/groups") => op("create_group").takes::<NewGroup>().gives::<Group>(201).reads(&["Idempotency-Key"]).refuses(&[409]),
        ("GET", "/groups/{group}") => op("get_group").gives::<Group>(200),
        ("PATCH", "/groups/{group}") => op("change_group").takes::<GroupPatch>().gives::<Group>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("DELETE", "/groups/{group}") => op("delete_group").gives_none(204).reads(&["If-Match"]).refuses(&[409, 412]),

        ("GET", "/join-tokens") => op("list_join_tokens").gives_page::<JoinToken>(),
        ("POST", "/join-tokens") => op("create_join_token").takes::<NewJoinToken>().gives::<MadeJoinToken>(201).reads(&["Idempotency-Key"]).refuses(&[409]),
        ("DELETE", "/join-tokens/{id}") => op("revoke_join_token").gives_none(204).refuses(&[409]),

        ("GET", "/verbs") => op("list_verbs").gives_page::<Verb>(),
        ("GET", "/verbs/{verb}") => op("get_verb").gives::<Verb>(200).refuses(&[409]),
        ("POST", "/verbs/{verb}/plan") => op("plan_verb").takes::<PlanRequest>().gives::<PlanPreview>(200).refuses(&[409]),

        ("POST", "/commands") => op("submit_command").takes::<NewCommand>().gives::<Accepted>(200).gives::<Accepted>(202).reads(&["Idempotency-Key", "Prefer"]).refuses(&[409]),
        ("GET", "/commands") => op("list_commands").gives_page::<Command>(),
        ("POST", "/commands/cancel") => op("cancel_commands").takes::<CancelMany>().gives::<CancelledMany>(200).gives::<CancelledMany>(202),
        ("GET", "/commands/{id}") => op("get_command").gives::<Command>(200),
        ("POST", "/commands/{id}/cancel") => op("cancel_command").takes_nothing().gives::<CancelAnswer>(200).gives::<CancelAnswer>(202),
        ("POST", "/commands/{id}/release") => op("release_command").takes_nothing().gives::<ReleaseAnswer>(200).gives::<ReleaseAnswer>(202),
        ("POST", "/commands/{id}/retry") => op("retry_command").takes::<RetryCommand>().gives::<Accepted>(202).reads(&["Idempotency-Key"]).refuses(&[409]),
        ("GET", "/commands/{id}/rollup") => op("get_command_rollup").gives::<RollupBody>(200),
        ("GET", "/commands/{id}/results") => op("group_command_results").gives::<GroupsBody>(200),
        ("GET", "/commands/{id}/events") => op("follow_command").gives_raw("text/event-stream").reads(&["Last-Event-ID"]),
        ("GET", "/commands/{id}/invocations") => op("list_invocations").gives_page::<Invocation>(),
        ("GET", "/commands/{id}/invocations/{agent}") => op("get_invocation").gives::<Invocation>(200),
        ("GET", "/commands/{id}/invocations/{agent}/attempts") => op("list_attempts").gives::<Attempts>(200),
        ("GET", "/commands/{id}/invocations/{agent}/output") => op("get_output").gives_raw("application/octet-stream"),

        ("GET", "/plugins") => op("list_plugins").gives_page::<Plugin>(),
        ("GET", "/plugins/{name}") => op("get_plugin").gives::<Plugin>(200),
        ("GET", "/plugins/{name}/history") => op("list_plugin_history").gives_page::<PluginPassage>(),
        ("POST", "/plugins/{name}/enable") => op("enable_plugin").takes_nothing().gives::<Plugin>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("POST", "/plugins/{name}/disable") => op("disable_plugin").takes_nothing().gives::<Plugin>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("POST", "/plugins/{name}/rollback") => op("roll_back_plugin").takes_nothing().gives::<Plugin>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("POST", "/plugins/{name}/retry") => op("retry_plugin").takes_nothing().gives::<Plugin>(200).reads(&["If-Match"]).refuses(&[409, 412]),
        ("POST", "/plugins/{name}/approve") => op("approve_plugin").takes_nothing().gives::<Plugin>(200).reads(&["If-Match"]).refuses(&[409, 412]),

        ("GET", "/events") => op("follow_everything").gives_raw("text/event-stream").reads(&["Last-Event-ID"]),
        ("GET", "/ws/events") => op("follow_everything_by_socket").gives_none(101).refuses(&[401]),

        ("GET", "/statistics") => op("get_statistics").gives::<Statistics>(200),

        ("GET", "/audit") => op("list_audit").gives_page::<AuditEntry>(),
        ("GET", "/audit/verify") => op("verify_audit").gives::<AuditReport>(200),
        ("GET", "/audit/export") => op("export_audit").gives_raw("application/x-ndjson"),

        ("GET", "/health") => op("get_health").gives::<Health>(200).gives::<Health>(503),
        ("GET", "/readyz") => op("get_readiness").gives::<Health>(200).gives::<Health>(503),
        ("GET", "/livez") => op("get_liveness").gives::<Health>(200),
        ("GET", "/.well-known/jwks.json") => op("get_token_keys").gives_raw("application/json"),
        ("GET", "/metrics") => op("get_metrics").gives_raw("application/openmetrics-text"),
        ("GET", "/version") => op("get_version").gives::<Version>(200),
        ("GET", "/openapi.json") => op("get_openapi").gives_raw("application/json").gives_none(304).reads(&["If-None-Match"]),
        ("GET", "/docs") => op("get_docs").gives_raw("text/html"),
        ("GET", "/docs/errors") => op("get_docs_of_errors").gives_raw("text/html"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::routes::TABLE;

    #[test]
    fn every_route_has_its_line() {
        let missing: Vec<_> =
            TABLE.iter().filter(|row| of(row.method, row.path).is_none()).map(|row| (row.method, row.path)).collect();
        assert!(missing.is_empty(), "host/rest/src/openapi/operations.rs has no line for {missing:?}");
        let names: HashSet<&str> = TABLE.iter().filter_map(|row| of(row.method, row.path)).map(|op| op.name).collect();
        assert_eq!(names.len(), TABLE.len(), "two operations have one name");
    }
}
