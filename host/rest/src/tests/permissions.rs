//! What every route refuses, from the table itself. Who may use it is in `matrix`.

use domain::access::{Permission, Role};
use serde_json::json;

use super::world::World;
use crate::authorize::Access;
use crate::routes::TABLE;

/// A path with something in every place that is in nobody's sight.
pub fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{id}" => "0193f2a4-7c1e-7abc-8def-0123456789ab",
        part if part.starts_with('{') => "nothing",
        part => part,
    });
    let path = parts.collect::<Vec<_>>().join("/");
    // A stream that begins has no end; one that nobody was given a cursor of does not begin.
    if path == "/api/v1/events" { format!("{path}?cursor={}", u64::MAX) } else { path }
}

#[tokio::test]
async fn every_route_refuses_parameters_it_does_not_know() {
    let world = World::new().await;
    let root = world.login("root").await;
    for row in TABLE {
        let filled = filled(row.path);
        let path = format!("{filled}{}nobody=knows", if filled.contains('?') { '&' } else { '?' });
        let reply = world.call(&root, row.method, &path, json!({})).await.refused(400, "unknown_parameter");
        assert_eq!(reply.json()["errors"][0]["pointer"], "?nobody", "{}", row.path);
    }
}

#[tokio::test]
async fn a_route_refuses_every_other_method_and_says_which_there_are() {
    let world = World::new().await;
    let root = world.login("root").await;
    for row in TABLE {
        let path = filled(row.path);
        let reply = world.call(&root, "LINK", &path, json!({})).await.refused(405, "method_not_allowed");
        let allow = reply.headers["allow"].to_str().expect("text").to_owned();
        assert!(allow.split(',').any(|method| method == row.method), "{path}: {allow}");
    }
}

#[test]
fn every_permission_that_has_a_route_is_reached_by_some_role_alone() {
    let used: Vec<Permission> = TABLE
        .iter()
        .filter_map(|row| match row.access {
            Access::Needs(permission) => Some(permission),
            Access::Public => None,
        })
        .collect();
    for role in Role::ALL {
        assert!(used.iter().any(|permission| permission.least_role() == role), "{role}");
    }
}
