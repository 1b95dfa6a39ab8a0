//! Tokens that nobody should have, at the door: each is 401, whatever is wrong with it, and says the same.

use axum::body::Body;
use axum::http::{Request, header};

use super::world::World;
use crate::jwt::tests::forgeries;

#[tokio::test]
async fn every_forged_token_is_refused_alike() {
    let world = World::new().await;
    let honest = world.login("op").await;
    world.get(&honest, "/api/v1/me").await.expect(200);
    let forged = forgeries(&world.tokens, &honest, ports::clock::Clock::now(&*world.clock));
    assert!(forged.len() > 60, "{}", forged.len());
    for (what, token) in forged {
        // A header can hold neither; nobody could have sent it.
        if token.bytes().any(|byte| byte.is_ascii_control()) {
            continue;
        }
        let reply = world.get(&token, "/api/v1/me").await;
        assert_eq!(reply.status, 401, "{what}: {token}");
        assert!(["invalid_token", "token_expired"].contains(&reply.code().as_str()), "{what}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer", "{what}");
    }
}

#[tokio::test]
async fn one_authorization_header_is_taken_and_of_one_form() {
    let world = World::new().await;
    let honest = world.login("op").await;
    let bearer = format!("Bearer {honest}");
    let send = async |values: &[&str]| {
        let mut request = Request::builder().method("GET").uri("/api/v1/me");
        for value in values {
            request = request.header(header::AUTHORIZATION, *value);
        }
        world.send(request.body(Body::empty()).expect("a request")).await
    };
    send(&[&bearer]).await.expect(200);
    send(&[&format!("bearer {honest}")]).await.expect(200);
    let bad: [&[&str]; 7] = [
        &[&bearer, &bearer],
        &[&bearer, "Bearer x"],
        &["Basic cm9vdDpyb290", &bearer],
        &[&honest],
        &[&format!("{bearer}, {bearer}")],
        &[&format!("{bearer} x")],
        &["Bearer "],
    ];
    for values in bad {
        send(values).await.refused(401, "invalid_token");
    }
    let in_url = format!("/api/v1/me?access_token={honest}");
    world.get("", &in_url).await.refused(400, "unknown_parameter");
}
