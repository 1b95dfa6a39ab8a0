//! The client against a small host that puts things off, and whose lists have pages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use viworks_client::api::command::NewCommand;
use viworks_client::api::target::TargetBody;
use viworks_client::{Client, ClientError, Login, Persistence, ServerUrl, Trusted};

/// What it answers next, and what it was asked.
#[derive(Debug, Default)]
struct Seen {
    put_off: Vec<(u16, Option<&'static str>)>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

async fn start(put_off: Vec<(u16, Option<&'static str>)>) -> (ServerUrl, Shared) {
    let seen: Shared = Arc::new(Mutex::new(Seen { put_off, asked: Vec::new() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&seen));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await });
    tasks.detach_all();
    (ServerUrl::parse(&format!("http://{address}")).expect("an address"), seen)
}

async fn answer(
    State(seen): State<Shared>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("nobody").to_owned();
    let mut seen = seen.lock().expect("nobody panicked");
    seen.asked.push(format!("{method} {} {token}", uri.path()));
    if !seen.put_off.is_empty() {
        let (status, retry_after) = seen.put_off.remove(0);
        let body = json!({"type": "about:blank", "title": "Later", "status": status, "detail": "later",
                          "instance": "r", "code": "put_off", "errors": []});
        let mut answer = (StatusCode::from_u16(status).expect("a status"), Json(body)).into_response();
        if let Some(after) = retry_after {
            answer.headers_mut().insert("retry-after", after.parse().expect("a header"));
        }
        return answer;
    }
    match uri.path() {
        "/api/v1/auth/login" | "/api/v1/auth/refresh" => {
            let number = seen.asked.iter().filter(|one| one.contains("/auth/")).count();
            let tokens = json!({"access_token": format!("access-{number}"), "token_type": "Bearer",
                                "expires_in": 900, "refresh_token": format!("refresh-{number}")});
            Json(tokens).into_response()
        }
        "/api/v1/agents/web-1/revoke" => StatusCode::NO_CONTENT.into_response(),
        "/readyz" => {
            let body = json!({"status": "unavailable", "components": {"store": "it is away"}});
            (StatusCode::SERVICE_UNAVAILABLE, [("date", "Thu, 01 Jan 2026 00:00:00 GMT")], Json(body)).into_response()
        }
        "/api/v1/groups" => {
            let mut page = page(&query);
            for item in page["items"].as_array_mut().expect("a list") {
                *item = json!({"name": format!("group-{item}"), "expr": "all", "description": "", "uses": [], "used_by": [],
                               "created_by": "ada", "created_at": "2026-01-01T00:00:00Z",
                               "changed_by": "ada", "changed_at": "2026-01-01T00:00:00Z"});
            }
            Json(page).into_response()
        }
        "/api/v1/stuck" => Json(json!({ "items": [1], "next_cursor": "here" })).into_response(),
        _ => Json(page(&query)).into_response(),
    }
}

/// Pages of the numbers below ten, two on each: but who reads may not see 2 to 5, and the last page is empty, too.
fn page(query: &HashMap<String, String>) -> Value {
    let at: u64 = query.get("cursor").and_then(|text| text.parse().ok()).unwrap_or(0);
    let items: Vec<u64> = (at..at + 2).filter(|number| *number < 10 && !(2..6).contains(number)).collect();
    json!({ "items": items, "next_cursor": (at < 10).then(|| (at + 2).to_string()) })
}

fn client(server: ServerUrl) -> Client {
    Client::with_token(server, &Trusted::System, "key").expect("a client")
}

fn asked(seen: &Shared) -> Vec<String> {
    seen.lock().expect("nobody panicked").asked.clone()
}

#[tokio::test]
async fn what_was_put_off_is_asked_again_and_what_may_have_been_done_is_not() {
    let (server, seen) = start(vec![(429, Some("0")), (503, None)]).await;
    let mut numbers = client(server).each::<u64>(&["numbers"], Vec::new());
    assert_eq!(numbers.next().await.and_then(Result::ok), Some(0), "a list is asked for again after both");
    assert_eq!(asked(&seen).len(), 3);

    let (server, seen) = start(vec![(429, Some("0")), (503, Some("0"))]).await;
    let refused = client(server).revoke_agent("web-1").await.expect_err("it may have been done");
    assert_eq!((refused.status(), refused.code(), refused.retry_after()), (Some(503), Some("put_off"), Some(0)));
    assert_eq!(asked(&seen).len(), 2, "what was over the limit was not looked at, so it is sent again");

    let (server, seen) = start(vec![(503, Some("0")); 9]).await;
    let command = NewCommand::new("exec.run", json!({}), TargetBody::default());
    let refused = client(server).submit(&command, "one-intent").await.expect_err("it is put off for ever");
    assert!(refused.is_passing(), "{refused}");
    assert_eq!(asked(&seen).len(), 4, "a key makes a submission one however often it is sent");

    let (server, seen) = start(vec![(429, Some("3600"))]).await;
    let refused = client(server).persisting(Persistence::default()).me().await.expect_err("an hour is too long");
    assert_eq!((refused.retry_after(), asked(&seen).len()), (Some(3600), 1));
}

#[tokio::test]
async fn a_list_comes_item_by_item_and_ends() {
    let (server, seen) = start(Vec::new()).await;
    let client = client(server);
    let mut numbers = client.each::<u64>(&["numbers"], Vec::new());
    let mut found = Vec::new();
    while let Some(number) = numbers.next().await {
        if found.is_empty() {
            assert_eq!(asked(&seen).len(), 1, "the second page is asked for when the first is used up");
        }
        found.push(number.expect("a number"));
    }
    assert_eq!(found, [0, 1, 6, 7, 8, 9], "an empty page is not the end, and is not shown");
    assert_eq!(asked(&seen).len(), 6);
    assert!(numbers.next().await.is_none());
    let groups = client.groups().await.expect("the whole list");
    let names: Vec<&str> = groups.items.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["group-0", "group-1", "group-6", "group-7", "group-8", "group-9"]);
    assert_eq!(groups.next_cursor, None);
    let mut stuck = client.each::<u64>(&["stuck"], Vec::new());
    assert_eq!(stuck.next().await.and_then(Result::ok), Some(1));
    let error = stuck.next().await.expect("something").expect_err("a page that leads to itself is never read again");
    assert!(error.to_string().contains("`next_cursor` leads to itself"), "{error}");
    assert!(stuck.next().await.is_none());
    let mut wrong = client.each::<String>(&["numbers"], Vec::new());
    assert!(matches!(wrong.next().await, Some(Err(ClientError::NotTheApi { .. }))));
    assert!(wrong.next().await.is_none(), "nothing follows an error");
}

#[tokio::test]
async fn a_program_that_logs_in_renews_its_tokens_by_itself() {
    let (server, seen) = start(Vec::new()).await;
    let login = Login { name: "ci".to_owned(), password: "secret".to_owned() };
    let client = Client::connect(server, &Trusted::System, &login).await.expect("logged in");
    client.revoke_agent("web-1").await.expect("done");
    seen.lock().expect("nobody panicked").put_off = vec![(401, None)];
    client.revoke_agent("web-1").await.expect("done with a new token");
    let revoke = "POST /api/v1/agents/web-1/revoke Bearer";
    assert_eq!(
        asked(&seen),
        [
            "POST /api/v1/auth/login nobody".to_owned(),
            format!("{revoke} access-1"),
            format!("{revoke} access-1"),
            "POST /api/v1/auth/refresh nobody".to_owned(),
            format!("{revoke} access-2"),
        ]
    );
}

#[tokio::test]
async fn a_host_that_cannot_take_work_still_says_how_it_is_and_what_time_it_has() {
    let (server, seen) = start(Vec::new()).await;
    let checkup = client(server).checkup().await.expect("an answer");
    assert_eq!(checkup.health.components["store"], "it is away");
    assert_eq!(checkup.host_time.map(|time| time.timestamp()), Some(1_767_225_600));
    assert_eq!(asked(&seen), ["GET /readyz nobody"], "once, and without a token");
}
