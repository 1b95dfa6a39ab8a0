//! Parameters by their names: one name means one thing on every route.

use api::page::{DEFAULT_LIMIT, MAX_LIMIT};
use domain::agent::AgentStatus;
use domain::alert::{Severity, life};
use domain::attempt::State;
use domain::command::Status;
use domain::priority::Priority;
use domain::telemetry::metric::Metric;
use ports::channels::NoticeState;
use serde_json::{Value, json};
use services::replays::KEY_MAX;

use super::shape::Shape;
use crate::routes::Route;

/// Everything besides the body that the route reads.
pub fn of(route: &Route, shape: &Shape) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = names.map(|name| in_path(route.path, name)).collect();
    all.extend(route.query.iter().map(|name| in_query(route.path, name)));
    all.extend(shape.headers.iter().map(|name| in_header(route, name)));
    all
}

fn in_path(path: &str, name: &str) -> Value {
    let (schema, description) = match name {
        "id" => (json!({ "type": "string", "format": "uuid" }), "Its id."),
        "agent" => (text(1, 63), "The agent's id or name."),
        "user" => (text(1, 63), "The user's id or name."),
        "group" => (text(1, 63), "The group's name."),
        "verb" => (text(1, 128), "The verb's name, e.g. `docker.ps`."),
        _ if path.contains("/plugins/") => (text(1, 128), "The plugin's name."),
        _ => (text(1, 256), "What is meant."),
    };
    json!({ "in": "path", "name": name, "required": true, "schema": schema, "description": description })
}

fn in_query(path: &str, name: &str) -> Value {
    let several = |items: Value| json!({ "type": "array", "items": items, "minItems": 1, "maxItems": 100 });
    let (schema, description) = match name {
        "limit" if is_past(path) => (
            json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT }),
            "Most steps of a page; as many as one answer may have when absent.",
        ),
        "limit" => {
            let schema = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
            (schema, "Most items of a page.")
        }
        "cursor" if is_past(path) || path.ends_with("/trends") => (
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" }),
            "`next_cursor` of the page before, as it was. It holds `from`, `to` and `step`: another value of one of them is refused.",
        ),
        "cursor" => {
            (json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" }), "`next_cursor` of the page before, as it was.")
        }
        "status" if path.ends_with("/agents") => {
            (several(words(AgentStatus::ALL.map(AgentStatus::as_str))), "Only agents in one of these.")
        }
        "status" => (several(words(Status::ALL.map(Status::as_str))), "Only commands in one of these."),
        "state" if path.ends_with("/alerts") => (several(words(life::State::WORDS)), "Only alerts in one of these."),
        "state" if path.ends_with("/messages") => {
            (words(NoticeState::ALL.map(NoticeState::as_str)), "Only messages in this state.")
        }
        "severity" => (words(Severity::ALL.map(Severity::as_str)), "Only alerts of this severity."),
        "state" => (words(State::ALL.map(State::as_str)), "Only invocations in this state."),
        "priority" => (words(Priority::ALL.map(Priority::as_str)), "Only commands of this priority."),
        "site" if path.ends_with("/across/history") => (
            several(site()),
            "Only at one of these. What is more than one answer may be about is refused: name a site or a label then.",
        ),
        "site" => (several(site()), "Only at one of these."),
        "verb" => (json!({ "type": "string", "pattern": VERB }), "Only commands of this verb."),
        "rule" => (json!({ "type": "string", "minLength": 1 }), "Only alerts of this rule."),
        "actor" | "action" => (text(1, 256), "Only entries with exactly this."),
        "agent" => (
            json!({ "type": "string", "minLength": 1 }),
            if path.ends_with("/alerts") {
                "Only alerts of this agent, by id or name."
            } else {
                "Only commands with an invocation on this agent, by id or name."
            },
        ),
        "metrics" => (
            several(json!({ "type": "string", "pattern": series() })),
            "Only these: metrics such as `cpu.total`, or series such as `disk.used_pct{/}`.",
        ),
        "telemetry" => (
            several(json!({ "type": "string", "pattern": format!("^all$|{}", series()) })),
            "Telemetry, too, as events named `telemetry`: of these metrics or series, or of `all`.",
        ),
        "label" => {
            (several(json!({ "type": "string", "pattern": "^[^,=]+=[^,]*$" })), "Only with these labels, `KEY=VALUE`.")
        }
        "from" => (instant(), "Not before this; a day before `to` when absent. Refused when it is later than `to`."),
        "to" => (instant(), "Before this; now when absent."),
        "step" => (
            json!({ "type": "integer", "minimum": 1, "maximum": 2_678_400 }),
            "Seconds between two points; fewer than what is kept becomes that.",
        ),
        "by" if path.contains("/telemetry") => {
            (json!({ "type": "string", "pattern": BY }), "`site`, or `label.KEY`; `site` when absent.")
        }
        "since" => (instant(), "Not before this. Refused when it is later than `until`."),
        "until" => (instant(), "Before this."),
        "q" => (json!({ "type": "string" }), "Only what has this in its names."),
        "by" => (json!({ "type": "string", "format": "json-pointer" }), "A value in the typed result."),
        "stream" => (words(["stdout", "stderr"]), "Which stream; `stdout` when absent."),
        "offset" => (json!({ "type": "integer", "minimum": 0 }), "Where to begin, in bytes."),
        _ => (json!({ "type": "string" }), "Narrows the answer."),
    };
    // Several values stand apart or between commas.
    let style = if schema["type"] == "array" { json!({ "style": "form", "explode": false }) } else { json!({}) };
    let mut parameter = json!({ "in": "query", "name": name, "schema": schema, "description": description });
    if let (Value::Object(parameter), Value::Object(style)) = (&mut parameter, style) {
        parameter.extend(style);
    }
    parameter
}

fn in_header(route: &Route, name: &str) -> Value {
    let (schema, description) = match name {
        "Idempotency-Key" => (
            json!({ "type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": KEY_MAX }),
            "Stands for this one intent of yours for 24 hours: sent again, it is answered again and nothing is made twice.",
        ),
        // Preferences that are not known are ignored (RFC 7240), and any tag is one that may not match.
        "Prefer" => (
            json!({ "type": "string" }),
            "`wait=N`: answers when it is over, after N seconds at the latest; N is 0 to 60.",
        ),
        "If-Match" => (
            json!({ "type": "string", "pattern": TAG }),
            "Only as it was when it was read: its `ETag`; `*` for whatever it is.",
        ),
        "If-None-Match" => (json!({ "type": "string" }), "The `ETag` of the one you have."),
        "Last-Event-ID" => (json!({ "type": "integer", "minimum": 0 }), "The id of the last event that was seen."),
        _ => (json!({ "type": "string" }), "See the description."),
    };
    // What replaces all there is has to say which state it replaces.
    let required = name == "If-Match" && route.method == "PUT";
    json!({ "in": "header", "name": name, "required": required, "schema": schema, "description": description })
}

const VERB: &str = "^[a-z][a-z0-9_-]*(\\.[a-z][a-z0-9_-]*)+$";
const TAG: &str = "^(\\*|\"[0-9a-f]{1,64}\")$";

const BY: &str = "^(site|label\\.[A-Za-z0-9._/-]{1,63})$";

/// Whether a route tells the past of telemetry, in steps.
fn is_past(path: &str) -> bool {
    path.contains("/telemetry/") && path.ends_with("/history")
}

fn site() -> Value {
    json!({ "type": "string", "minLength": 1, "pattern": "^[^,]+$" })
}

/// What names a metric, or a series of one that has several.
fn series() -> String {
    let [plain, labelled] = [true, false].map(|plain| {
        let these = Metric::ALL.iter().filter(|metric| metric.label().is_empty() == plain);
        these.map(|metric| metric.as_str().replace('.', "\\.")).collect::<Vec<_>>().join("|")
    });
    format!("^({plain}|({labelled})(\\{{[^,{{}}]{{1,32}}\\}})?)$")
}

fn text(min: u32, max: u32) -> Value {
    json!({ "type": "string", "minLength": min, "maxLength": max })
}

fn instant() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    json!({ "type": "string", "enum": words.into_iter().collect::<Vec<_>>() })
}
