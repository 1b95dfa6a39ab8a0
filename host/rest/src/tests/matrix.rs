//! Every route × method × kind of caller. What is expected is written down here a second time, row by row, so
//! that a permission does not change by accident; a row that is not written down fails.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::access::{Permission, Role};
use serde_json::json;

use super::permissions::filled;
use super::world::{PASSWORD, World};
use crate::authorize::Access;
use crate::routes::TABLE;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Without a token.
    Anybody,
    /// At least this role, however they come.
    From(Role),
    /// At least this role, and held to no site.
    EverySite(Role),
    /// At least this role, and no key.
    Person(Role),
    /// Any role, after a login.
    LoggedIn,
}

use Role::{Admin, Operator, Viewer};
use Who::{Anybody, EverySite, From, LoggedIn, Person};

/// The routes there are, and who may use them.
const EXPECTED: &[(&str, &str, Who)] = &[
    ("POST", "/api/v1/auth/login", Anybody),
    ("POST", "/api/v1/auth/refresh", Anybody),
    ("POST", "/api/v1/auth/logout", LoggedIn),
    ("GET", "/api/v1/me", From(Viewer)),
    ("POST", "/api/v1/me/password", LoggedIn),
    ("GET", "/api/v1/users", Person(Admin)),
    ("POST", "/api/v1/users", Person(Admin)),
    ("GET", "/api/v1/users/{user}", Person(Admin)),
    ("PATCH", "/api/v1/users/{user}", Person(Admin)),
    ("DELETE", "/api/v1/users/{user}", Person(Admin)),
    ("GET", "/api/v1/grants", Person(Admin)),
    ("GET", "/api/v1/grants/{user}", Person(Admin)),
    ("PUT", "/api/v1/grants/{user}", Person(Admin)),
    ("GET", "/api/v1/api-keys", From(Viewer)),
    ("POST", "/api/v1/api-keys", LoggedIn),
    ("DELETE", "/api/v1/api-keys/{id}", From(Viewer)),
    ("GET", "/api/v1/agents", From(Viewer)),
    ("GET", "/api/v1/agents/{agent}", From(Viewer)),
    ("PATCH", "/api/v1/agents/{agent}", From(Admin)),
    ("DELETE", "/api/v1/agents/{agent}", From(Admin)),
    ("POST", "/api/v1/agents/{agent}/approve", From(Admin)),
    ("POST", "/api/v1/agents/{agent}/rotate-key", From(Admin)),
    ("POST", "/api/v1/agents/{agent}/revoke", From(Admin)),
    ("GET", "/api/v1/agents/{agent}/commands", From(Viewer)),
    ("GET", "/api/v1/agents/{agent}/telemetry", From(Viewer)),
    ("GET", "/api/v1/telemetry", From(Viewer)),
    ("GET", "/api/v1/telemetry/trends", From(Viewer)),
    ("GET", "/api/v1/telemetry/across", From(Viewer)),
    ("GET", "/api/v1/telemetry/across/history", From(Viewer)),
    ("GET", "/api/v1/telemetry/{agent}", From(Viewer)),
    ("GET", "/api/v1/telemetry/{agent}/history", From(Viewer)),
    ("GET", "/api/v1/health-report", From(Viewer)),
    ("GET", "/api/v1/alerts", From(Viewer)),
    ("GET", "/api/v1/alerts/{id}", From(Viewer)),
    ("POST", "/api/v1/alerts/{id}/ack", From(Operator)),
    ("POST", "/api/v1/alerts/{id}/release", From(Operator)),
    ("GET", "/api/v1/silences", From(Viewer)),
    ("POST", "/api/v1/silences", From(Operator)),
    ("DELETE", "/api/v1/silences/{id}", From(Operator)),
    ("GET", "/api/v1/alert-rules", From(Viewer)),
    ("GET", "/api/v1/alert-rules/{rule}", From(Viewer)),
    ("POST", "/api/v1/alert-rules/{rule}/backtest", From(Operator)),
    ("GET", "/api/v1/notification-channels", EverySite(Admin)),
    ("POST", "/api/v1/notification-channels", EverySite(Admin)),
    ("GET", "/api/v1/notification-channels/{channel}", EverySite(Admin)),
    ("PATCH", "/api/v1/notification-channels/{channel}", EverySite(Admin)),
    ("DELETE", "/api/v1/notification-channels/{channel}", EverySite(Admin)),
    ("POST", "/api/v1/notification-channels/{channel}/test", EverySite(Admin)),
    ("GET", "/api/v1/notification-channels/{channel}/messages", EverySite(Admin)),
    ("GET", "/api/v1/groups", From(Viewer)),
    ("POST", "/api/v1/groups", EverySite(Admin)),
    ("GET", "/api/v1/groups/{group}", From(Viewer)),
    ("PATCH", "/api/v1/groups/{group}", EverySite(Admin)),
    ("DELETE", "/api/v1/groups/{group}", EverySite(Admin)),
    ("GET", "/api/v1/join-tokens", From(Admin)),
    ("POST", "/api/v1/join-tokens", From(Admin)),
    ("DELETE", "/api/v1/join-tokens/{id}", From(Admin)),
    ("GET", "/api/v1/verbs", From(Viewer)),
    ("GET", "/api/v1/verbs/{verb}", From(Viewer)),
    ("POST", "/api/v1/verbs/{verb}/plan", From(Operator)),
    ("POST", "/api/v1/commands", From(Operator)),
    ("GET", "/api/v1/commands", From(Viewer)),
    ("POST", "/api/v1/commands/cancel", From(Operator)),
    ("GET", "/api/v1/commands/{id}", From(Viewer)),
    ("POST", "/api/v1/commands/{id}/cancel", From(Operator)),
    ("POST", "/api/v1/commands/{id}/release", From(Operator)),
    ("POST", "/api/v1/commands/{id}/retry", From(Operator)),
    ("GET", "/api/v1/commands/{id}/rollup", From(Viewer)),
    ("GET", "/api/v1/commands/{id}/results", From(Viewer)),
    ("GET", "/api/v1/commands/{id}/events", From(Viewer)),
    ("GET", "/api/v1/commands/{id}/invocations", From(Viewer)),
    ("GET", "/api/v1/commands/{id}/invocations/{agent}/attempts", From(Viewer)),
    ("GET", "/api/v1/commands/{id}/invocations/{agent}", From(Viewer)),
    ("GET", "/api/v1/commands/{id}/invocations/{agent}/output", From(Viewer)),
    ("GET", "/api/v1/plugins", From(Viewer)),
    ("GET", "/api/v1/plugins/{name}", From(Viewer)),
    ("GET", "/api/v1/plugins/{name}/history", From(Viewer)),
    ("POST", "/api/v1/plugins/{name}/enable", EverySite(Admin)),
    ("POST", "/api/v1/plugins/{name}/disable", EverySite(Admin)),
    ("POST", "/api/v1/plugins/{name}/rollback", EverySite(Admin)),
    ("POST", "/api/v1/plugins/{name}/retry", EverySite(Admin)),
    ("POST", "/api/v1/plugins/{name}/approve", EverySite(Admin)),
    ("GET", "/api/v1/events", From(Viewer)),
    ("GET", "/ws/events", Anybody),
    ("GET", "/api/v1/statistics", From(Viewer)),
    ("GET", "/api/v1/audit", EverySite(Admin)),
    ("GET", "/api/v1/audit/verify", EverySite(Admin)),
    ("GET", "/api/v1/audit/export", EverySite(Admin)),
    ("GET", "/health", Anybody),
    ("GET", "/readyz", Anybody),
    ("GET", "/livez", Anybody),
    ("GET", "/.well-known/jwks.json", Anybody),
    ("GET", "/metrics", From(Viewer)),
    ("GET", "/version", Anybody),
    ("GET", "/openapi.json", Anybody),
    ("GET", "/docs", Anybody),
    ("GET", "/docs/errors", Anybody),
];

/// A kind of caller and what it comes with.
struct Visitor {
    what: &'static str,
    token: String,
    /// `None` = nobody any more, or not yet.
    role: Option<Role>,
    logged_in: bool,
    /// Held to some sites although it is an admin.
    held: bool,
}

impl Visitor {
    /// The status it meets, as far as who it is decides that.
    fn meets(&self, who: Who) -> Option<u16> {
        match (who, self.role) {
            (Anybody, _) => None,
            (From(_) | EverySite(_) | Person(_) | LoggedIn, None) => Some(401),
            (From(least), Some(role)) => (role < least).then_some(403),
            (EverySite(least), Some(role)) => (role < least || self.held).then_some(403),
            (Person(least), Some(role)) => (role < least || !self.logged_in).then_some(403),
            (LoggedIn, Some(_)) => (!self.logged_in).then_some(403),
        }
    }
}

fn who(access: Access) -> Who {
    match access {
        Access::Public => Anybody,
        Access::Needs(permission) if permission.takes_a_login() => LoggedIn,
        Access::Needs(permission) if permission.takes_a_person() => Person(permission.least_role()),
        Access::Needs(permission) if permission.is_of_every_site() => EverySite(permission.least_role()),
        Access::Needs(permission) => From(permission.least_role()),
    }
}

#[test]
fn every_route_is_written_down_with_who_may_use_it() {
    let table: BTreeSet<String> =
        TABLE.iter().map(|row| format!("{} {} {:?}", row.method, row.path, who(row.access))).collect();
    let expected: BTreeSet<String> =
        EXPECTED.iter().map(|(method, path, who)| format!("{method} {path} {who:?}")).collect();
    assert_eq!(expected.len(), EXPECTED.len(), "one is written down twice");
    let unknown: Vec<&String> = table.symmetric_difference(&expected).collect();
    assert!(unknown.is_empty(), "write down who may use it: {unknown:#?}");
}

async fn key(world: &World, token: &str, body: serde_json::Value) -> String {
    let made = world.call(token, "POST", "/api/v1/api-keys", body).await.expect(201).json();
    made["key"].as_str().expect("a key").to_owned()
}

/// Everybody who may come. The clock stands where those with a life of their own are over.
async fn visitors(world: &World) -> Vec<Visitor> {
    let expired = world.login("op").await;
    let op = world.login("op").await;
    let short = key(world, &op, json!({ "ttl_s": 60 })).await;
    world.clock.forward(Duration::from_secs(631));
    let login = async |name: &str| world.login(name).await;
    let (eye, eu, root) = (login("eye").await, login("eu").await, login("root").await);
    let revoked = world.call("", "POST", "/api/v1/auth/login", json!({ "name": "op", "password": PASSWORD })).await;
    let revoked = revoked.expect(200).json();
    let ended = revoked["access_token"].as_str().expect("a token").to_owned();
    let body = json!({ "refresh_token": revoked["refresh_token"] });
    world.call(&ended, "POST", "/api/v1/auth/logout", body).await.expect(204);
    let lost = key(world, &eu, json!({})).await;
    let list = world.get(&eu, "/api/v1/api-keys").await.expect(200).json();
    let id = list["items"][0]["id"].as_str().expect("an id").to_owned();
    let keys = [
        key(world, &eye, json!({})).await,
        key(world, &eu, json!({})).await,
        key(world, &root, json!({})).await,
        key(world, &root, json!({ "role": "viewer" })).await,
        key(world, &root, json!({ "grants": [{ "sites": ["eu"], "verbs": ["*"], "effects": ["read"] }] })).await,
    ];
    world.call(&eu, "DELETE", &format!("/api/v1/api-keys/{id}"), json!({})).await.expect(204);
    let [of_eye, of_eu, of_root, lesser, held] = keys;
    let visitor = |what, token, role, logged_in| Visitor { what, token, role, logged_in, held: false };
    vec![
        visitor("nobody", String::new(), None, false),
        visitor("a forger", "forged".to_owned(), None, false),
        visitor("a token that is over", expired, None, true),
        visitor("a token that was logged out", ended, None, true),
        visitor("a key that is over", short, None, false),
        visitor("a key that was revoked", lost, None, false),
        visitor("a viewer", eye, Some(Viewer), true),
        visitor("an operator at one site", eu, Some(Operator), true),
        visitor("an admin", root, Some(Admin), true),
        visitor("a viewer's key", of_eye, Some(Viewer), false),
        visitor("an operator's key", of_eu, Some(Operator), false),
        visitor("an admin's key", of_root, Some(Admin), false),
        visitor("an admin's key for looking", lesser, Some(Viewer), false),
        Visitor { held: true, ..visitor("an admin's key for one site", held, Some(Admin), false) },
    ]
}

#[tokio::test]
async fn every_route_opens_to_whom_it_should_and_to_nobody_else() {
    let world = World::new().await;
    let visitors = visitors(&world).await;
    let (mut walked, mut refused) = (0, 0);
    for (method, path, who) in EXPECTED {
        // Nothing in anybody's sight, and a body that nobody means: who comes through is told 4xx for that.
        let (filled, body) = (filled(path), json!({ "nobody": "knows this field" }));
        for visitor in &visitors {
            let reply = world.call(&visitor.token, method, &filled, body.clone()).await;
            let status = reply.status.as_u16();
            let about = format!("{method} {path} by {}: {status}", visitor.what);
            match visitor.meets(*who) {
                Some(expected) => {
                    assert_eq!(status, expected, "{about}");
                    refused += 1;
                }
                None => assert!(status < 500 && status != 401 && status != 403, "{about}"),
            }
            walked += 1;
        }
    }
    assert_eq!(walked, TABLE.len() * visitors.len(), "every row with everybody");
    assert!(refused > walked / 2, "{refused} of {walked}");
}

#[test]
fn what_takes_a_login_is_open_to_every_role() {
    for permission in Permission::ALL.into_iter().filter(|permission| permission.takes_a_login()) {
        assert_eq!(permission.least_role(), Viewer);
    }
}
