//! Paths and permissions of the table itself. Who may use a route is in `matrix`, what it refuses in `contract`.

use domain::access::{Permission, Role};

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
