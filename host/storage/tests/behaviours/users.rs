//! Users and refresh tokens.

use domain::access::{Grant, Role};
use plan::effect::Effect;
use plan::id::UserId;
use ports::error::StoreError;
use ports::users::{NewRefresh, RefreshToken, Rotated, User};
use tokio::task::JoinSet;

use super::fixtures::*;
use super::{Ground, Store};

async fn create<S: Store>(store: &S, name: &str, role: Role) -> User {
    let user = user(name, role);
    store.create(user.clone(), entry("user.create")).await.expect("stored");
    user
}

async fn log_in<S: Store>(store: &S, user: UserId, sha256: &str) {
    let token = RefreshToken { sha256: sha256.into(), user, family: sha256.into(), expires_at: at(1000) };
    store.add_refresh(token, entry("auth.login")).await.expect("stored");
}

fn next(sha256: &str) -> NewRefresh {
    NewRefresh {
        sha256: sha256.into(),
        expires_at: at(1000),
        audit: entry("auth.refresh"),
        alarm: entry("auth.refresh_reused"),
    }
}

pub async fn a_user_reads_back_with_its_grants<S: Store>(Ground { store, .. }: Ground<S>) {
    let narrow =
        Grant { sites: vec!["eu-*".into()], verbs: vec!["docker.*".into()], effects: vec![Effect::Read, Effect::Host] };
    let grace = User { grants: vec![narrow, Grant::ordinary()], ..user("grace", Role::Operator) };
    let ada = User { grants: vec![], ..user("ada", Role::Admin) };
    for user in [&grace, &ada] {
        store.create(user.clone(), entry("user.create")).await.expect("stored");
    }
    assert_eq!(store.user(grace.id).await, Ok(Some(grace.clone())));
    assert_eq!(store.user_named("ada").await, Ok(Some(ada.clone())));
    assert_eq!(store.users().await, Ok(vec![ada, grace]));
    assert_eq!(store.count().await, Ok(2));
    assert_eq!(store.user(UserId(uuid())).await, Ok(None));
    assert_eq!(store.user_named("nobody").await, Ok(None));
}

pub async fn a_name_belongs_to_one_user<S: Store>(Ground { store, .. }: Ground<S>) {
    create(&store, "ada", Role::Admin).await;
    let said = store.create(user("ada", Role::Viewer), entry("user.create")).await.expect_err("taken");
    assert!(matches!(&said, StoreError::Conflict(what) if what.contains("`ada`")), "{said}");
    assert_eq!(store.count().await, Ok(1));
}

pub async fn the_last_admin_stays<S: Store>(Ground { store, .. }: Ground<S>) {
    let (ada, grace) = (create(&store, "ada", Role::Admin).await, create(&store, "grace", Role::Admin).await);
    let viewer = create(&store, "eve", Role::Viewer).await;
    // Both at once: one has to stay.
    let (one, two) =
        tokio::join!(store.delete(ada.id, entry("user.delete")), store.delete(grace.id, entry("user.delete")));
    assert!(matches!(
        (&one, &two),
        (Ok(true), Err(StoreError::Conflict(_))) | (Err(StoreError::Conflict(_)), Ok(true))
    ));
    assert_eq!(store.delete(viewer.id, entry("user.delete")).await, Ok(true));
    assert_eq!(store.delete(viewer.id, entry("user.delete")).await, Ok(false));
    assert_eq!(store.count().await, Ok(1));
}

pub async fn a_refresh_token_rotates_once_and_reuse_ends_the_family<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    log_in(&store, ada.id, "a1").await;
    log_in(&store, ada.id, "b1").await;
    assert_eq!(store.rotate("a1", next("a2"), at(1)).await, Ok(Rotated::Rotated(Box::new(ada.clone()))));
    assert_eq!(store.rotate("a2", next("a3"), at(2)).await, Ok(Rotated::Rotated(Box::new(ada.clone()))));
    assert_eq!(store.rotate("a1", next("a4"), at(3)).await, Ok(Rotated::Reused(ada.id)));
    for dead in ["a1", "a2", "a3", "a4", "unknown"] {
        assert_eq!(store.rotate(dead, next("a5"), at(4)).await, Ok(Rotated::Refused), "{dead}");
    }
    // Another login of the same user is another family.
    assert_eq!(store.rotate("b1", next("b2"), at(5)).await, Ok(Rotated::Rotated(Box::new(ada))));
    assert_eq!(store.rotate("b2", next("b3"), at(1000)).await, Ok(Rotated::Refused), "expired");
}

pub async fn of_many_rotations_at_once_one_wins<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    log_in(&store, ada.id, "a1").await;
    let mut racers = JoinSet::new();
    for n in 0..10 {
        let store = store.clone();
        racers.spawn(async move { store.rotate("a1", next(&format!("n{n}")), at(1)).await.expect("answered") });
    }
    let answers = racers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Rotated::Rotated(_))).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Rotated::Reused(ada.id)).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Rotated::Refused).count(), 8);
}

pub async fn a_new_password_ends_what_was_before<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    log_in(&store, ada.id, "a1").await;
    assert_eq!(store.set_password(ada.id, "new".into(), entry("user.password")).await, Ok(true));
    let changed = store.user(ada.id).await.expect("read").expect("there");
    assert_eq!((changed.password_hash.as_str(), changed.token_version), ("new", ada.token_version + 1));
    assert_eq!(store.rotate("a1", next("a2"), at(1)).await, Ok(Rotated::Refused));
    assert_eq!(store.set_password(UserId(uuid()), "new".into(), entry("user.password")).await, Ok(false));
}

pub async fn logging_out_ends_the_family<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    log_in(&store, ada.id, "a1").await;
    store.rotate("a1", next("a2"), at(1)).await.expect("rotated");
    assert_eq!(store.end_family("a2", entry("auth.logout")).await, Ok(true));
    assert_eq!(store.rotate("a2", next("a3"), at(2)).await, Ok(Rotated::Refused));
    assert_eq!(store.end_family("unknown", entry("auth.logout")).await, Ok(false));
}
