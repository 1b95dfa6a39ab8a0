//! Users and refresh tokens.

use std::time::Duration;

use domain::access::{Grant, Role};
use plan::effect::Effect;
use plan::id::UserId;
use ports::error::StoreError;
use ports::replies::{Once, Reply};
use ports::users::{MAX_LOGINS, NewRefresh, REPLAY_GRACE, RefreshToken, Rotated, User, UserChange};
use tokio::task::JoinSet;

use super::fixtures::*;
use super::{Ground, Store};

async fn create<S: Store>(store: &S, name: &str, role: Role) -> User {
    let user = user(name, role);
    store.create(user.clone(), entry("user.create"), None).await.expect("stored");
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
        store.create(user.clone(), entry("user.create"), None).await.expect("stored");
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
    let said = store.create(user("ada", Role::Viewer), entry("user.create"), None).await.expect_err("taken");
    assert!(matches!(&said, StoreError::Conflict(what) if what.contains("`ada`")), "{said}");
    assert_eq!(store.count().await, Ok(1));
}

pub async fn the_last_admin_stays<S: Store>(Ground { store, .. }: Ground<S>) {
    let (ada, grace) = (create(&store, "ada", Role::Admin).await, create(&store, "grace", Role::Admin).await);
    let viewer = create(&store, "eve", Role::Viewer).await;
    // Both at once: one has to stay.
    let (one, two) = tokio::join!(
        store.delete(ada.id, None, entry("user.delete")),
        store.delete(grace.id, None, entry("user.delete"))
    );
    assert!(matches!(
        (&one, &two),
        (Ok(true), Err(StoreError::Conflict(_))) | (Err(StoreError::Conflict(_)), Ok(true))
    ));
    assert_eq!(store.delete(viewer.id, None, entry("user.delete")).await, Ok(true));
    assert_eq!(store.delete(viewer.id, None, entry("user.delete")).await, Ok(false));
    assert_eq!(store.count().await, Ok(1));
}

pub async fn an_admin_is_demoted_as_long_as_another_stays<S: Store>(Ground { store, .. }: Ground<S>) {
    let (ada, grace) = (create(&store, "ada", Role::Admin).await, create(&store, "grace", Role::Admin).await);
    let demoted = || UserChange { role: Some(Role::Operator), ..UserChange::default() };
    // One is demoted while the other is deleted: one has to stay.
    let (one, two) = tokio::join!(
        store.change_user(ada.id, demoted(), entry("users.change")),
        store.delete(grace.id, None, entry("users.delete"))
    );
    let outcome = (one.is_ok(), two.is_ok());
    assert!(outcome == (true, false) || outcome == (false, true), "{one:?} {two:?}");
    let admins = store.users().await.expect("read").into_iter().filter(|user| user.role == Role::Admin);
    assert_eq!(admins.count(), 1);
    let fresh = create(&store, "eve", Role::Admin).await;
    let (one, two) = tokio::join!(
        store.change_user(if outcome.0 { grace.id } else { ada.id }, demoted(), entry("users.change")),
        store.change_user(fresh.id, demoted(), entry("users.change"))
    );
    assert_ne!(one.is_ok(), two.is_ok(), "{one:?} {two:?}");
}

pub async fn who_is_another_by_now_is_not_changed_unseen<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Viewer).await;
    let seen = || UserChange { expected: Some(Box::new(ada.clone())), ..UserChange::default() };
    let (up, down) = (Some(Role::Operator), Some(vec![]));
    // Both have read the same: one of them changes it.
    let (one, two) = tokio::join!(
        store.change_user(ada.id, UserChange { role: up, ..seen() }, entry("users.change")),
        store.change_user(ada.id, UserChange { grants: down, ..seen() }, entry("users.change"))
    );
    let stale = |answer: &Result<Option<User>, StoreError>| matches!(answer, Err(StoreError::Stale(_)));
    assert!(one.is_ok() && stale(&two) || stale(&one) && two.is_ok(), "{one:?} {two:?}");
    let deleted = store.delete(ada.id, Some(Box::new(ada.clone())), entry("users.delete")).await;
    assert!(matches!(deleted, Err(StoreError::Stale(_))), "{deleted:?}");
    let now = store.user(ada.id).await.expect("read").expect("there");
    assert_eq!(store.delete(ada.id, Some(Box::new(now)), entry("users.delete")).await, Ok(true));
}

pub async fn a_reply_is_kept_with_the_user_it_tells_of_or_not_at_all<S: Store>(Ground { store, .. }: Ground<S>) {
    let once = |body: &str| Once {
        principal: "root".into(),
        key: "k".into(),
        request_sha256: "00".repeat(32),
        reply: Reply { status: 201, location: None, body: body.into() },
        created_at: at(0),
        expires_at: at(1000),
    };
    let kept = async || store.reply("root", "k", at(1)).await.expect("read").map(|kept| kept.reply.body);
    create(&store, "ada", Role::Viewer).await;
    let taken = store.create(user("ada", Role::Viewer), entry("user.create"), Some(once("no"))).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))) && kept().await.is_none());
    store.create(user("eve", Role::Viewer), entry("user.create"), Some(once("yes"))).await.expect("stored");
    assert_eq!(kept().await.as_deref(), Some("yes"));
    // As when another host answers the same request at this moment.
    let late = store.create(user("bob", Role::Viewer), entry("user.create"), Some(once("late"))).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    assert_eq!((kept().await.as_deref(), store.count().await), (Some("yes"), Ok(2)));
}

pub async fn a_change_of_a_user_is_stored_whole<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Viewer).await;
    log_in(&store, ada.id, "a1").await;
    let narrow = Grant { sites: vec!["eu".into()], ..Grant::ordinary() };
    let change = UserChange {
        role: Some(Role::Operator),
        grants: Some(vec![narrow.clone(), Grant::ordinary()]),
        ..UserChange::default()
    };
    let changed = store.change_user(ada.id, change, entry("users.change")).await.expect("stored").expect("there");
    let expected = User { role: Role::Operator, grants: vec![narrow, Grant::ordinary()], ..ada.clone() };
    assert_eq!((&changed, store.user(ada.id).await), (&expected, Ok(Some(expected.clone()))));
    assert_eq!(store.logged_in(ada.id, "a1").await, Ok(Some(expected)), "its login goes on");
    let none = UserChange { grants: Some(vec![]), end_logins: true, ..UserChange::default() };
    let changed = store.change_user(ada.id, none, entry("users.change")).await.expect("stored").expect("there");
    assert_eq!((changed.grants, changed.token_version), (vec![], ada.token_version + 1));
    assert_eq!(store.logged_in(ada.id, "a1").await, Ok(None));
    let nobody = store.change_user(UserId(uuid()), UserChange::default(), entry("users.change")).await;
    assert_eq!(nobody, Ok(None));
}

pub async fn a_refresh_token_rotates_once_and_reuse_ends_the_family<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    log_in(&store, ada.id, "a1").await;
    log_in(&store, ada.id, "b1").await;
    let of = |family: &str| Ok(Rotated::Rotated(Box::new(ada.clone()), family.to_owned()));
    assert_eq!(store.rotate("a1", next("a2"), at(1)).await, of("a1"));
    assert_eq!(store.rotate("a2", next("a3"), at(2)).await, of("a1"));
    assert_eq!(store.logged_in(ada.id, "a1").await, Ok(Some(ada.clone())));
    // Its successor has been used, so no answer was lost.
    assert_eq!(store.rotate("a1", next("a4"), at(3)).await, Ok(Rotated::Reused(ada.id)));
    for dead in ["a1", "a2", "a3", "a4", "unknown"] {
        assert_eq!(store.rotate(dead, next("a5"), at(4)).await, Ok(Rotated::Refused), "{dead}");
    }
    assert_eq!(store.logged_in(ada.id, "a1").await, Ok(None));
    // Another login of the same user is another family.
    assert_eq!(store.rotate("b1", next("b2"), at(5)).await, of("b1"));
    assert_eq!(store.rotate("b2", next("b3"), at(1000)).await, Ok(Rotated::Refused), "expired");
    assert_eq!(store.logged_in(UserId(uuid()), "b1").await, Ok(None), "somebody else's login");
}

pub async fn a_lost_answer_may_be_asked_for_again_for_half_a_minute<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    let rotated = |answer: &Rotated| matches!(answer, Rotated::Rotated(..));
    let swap = async |old: &str, new: &str, after: Duration| {
        store.rotate(old, next(new), at(0) + after).await.expect("answered")
    };
    let (grace, moment) = (REPLAY_GRACE, Duration::from_micros(1));
    log_in(&store, ada.id, "a1").await;
    assert!(rotated(&swap("a1", "a2", Duration::ZERO).await));
    assert!(rotated(&swap("a1", "a3", moment).await), "the answer with a2 was lost");
    assert!(rotated(&swap("a1", "a4", grace).await), "and the next one as well, at the last moment");
    assert!(rotated(&swap("a4", "a5", grace + moment).await));
    assert_eq!(store.logged_in(ada.id, "a1").await, Ok(Some(ada.clone())));
    // Both had a2 and a5 in hand: one of them is a thief.
    assert_eq!(swap("a2", "a6", grace + moment * 2).await, Rotated::Reused(ada.id));
    assert_eq!(swap("a5", "a7", grace + moment * 3).await, Rotated::Refused);

    log_in(&store, ada.id, "b1").await;
    assert!(rotated(&swap("b1", "b2", Duration::ZERO).await));
    assert_eq!(swap("b1", "b3", grace + moment).await, Rotated::Reused(ada.id), "a moment too late");
    assert_eq!(swap("b2", "b4", grace + moment).await, Rotated::Refused);
}

pub async fn of_many_rotations_at_once_none_ends_the_login<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    log_in(&store, ada.id, "a1").await;
    let mut racers = JoinSet::new();
    for n in 0..10 {
        let store = store.clone();
        racers.spawn(async move { store.rotate("a1", next(&format!("n{n}")), at(1)).await.expect("answered") });
    }
    let answers = racers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Rotated::Rotated(..))).count(), 10);
    // Only one of what they were given is good, and whoever comes with another ends it all.
    let mut good = 0;
    for n in 0..10 {
        let answer = store.rotate(&format!("n{n}"), next(&format!("m{n}")), at(2)).await.expect("answered");
        good += usize::from(matches!(answer, Rotated::Rotated(..)));
    }
    assert!(good <= 1, "{good}");
    assert_eq!(store.logged_in(ada.id, "a1").await, Ok(None));
}

pub async fn a_new_password_ends_what_was_before<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    log_in(&store, ada.id, "a1").await;
    let change = UserChange { password_hash: Some("new".into()), ..UserChange::default() };
    let changed = store.change_user(ada.id, change, entry("user.password")).await.expect("stored").expect("there");
    assert_eq!((changed.password_hash.as_str(), changed.token_version), ("new", ada.token_version + 1));
    assert_eq!(store.user(ada.id).await, Ok(Some(changed)));
    assert_eq!(store.rotate("a1", next("a2"), at(1)).await, Ok(Rotated::Refused));
}

pub async fn logging_out_ends_the_family<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = create(&store, "ada", Role::Admin).await;
    log_in(&store, ada.id, "a1").await;
    store.rotate("a1", next("a2"), at(1)).await.expect("rotated");
    assert_eq!(store.end_family("a2", entry("auth.logout")).await, Ok(true));
    assert_eq!(store.rotate("a2", next("a3"), at(2)).await, Ok(Rotated::Refused));
    assert_eq!(store.logged_in(ada.id, "a1").await, Ok(None));
    for over in ["a2", "a1", "unknown"] {
        assert_eq!(store.end_family(over, entry("auth.logout")).await, Ok(false), "{over}");
    }
    // A login is older than its first token when it goes on for long: it is named by its family all the same.
    let later = RefreshToken { sha256: "b9".into(), user: ada.id, family: "b1".into(), expires_at: at(1000) };
    store.add_refresh(later, entry("auth.login")).await.expect("stored");
    assert_eq!(store.end_family("b1", entry("auth.logout")).await, Ok(true));
    assert_eq!(store.rotate("b9", next("b10"), at(2)).await, Ok(Rotated::Refused));
}

pub async fn one_login_too_many_ends_the_one_that_was_idle_for_longest<S: Store>(Ground { store, .. }: Ground<S>) {
    let (ada, bob) = (create(&store, "ada", Role::Admin).await, create(&store, "bob", Role::Viewer).await);
    log_in(&store, bob.id, "b1").await;
    let name = |n: u32| format!("a{n}");
    let begin = async |n: u32| {
        let expires_at = at(1000 + i64::from(n));
        let token = RefreshToken { sha256: name(n), user: ada.id, family: name(n), expires_at };
        store.add_refresh(token, entry("auth.login")).await.expect("stored");
    };
    for n in 1..=MAX_LOGINS {
        begin(n).await;
    }
    let goes_on = async |n: u32| store.logged_in(ada.id, &name(n)).await.expect("read").is_some();
    assert!(goes_on(1).await && goes_on(MAX_LOGINS).await, "as many as one may have");
    // The first is refreshed, so the second is the one that nobody used for longest.
    let renewed = NewRefresh { expires_at: at(5000), ..next("a1-next") };
    assert!(matches!(store.rotate("a1", renewed, at(1)).await, Ok(Rotated::Rotated(..))));
    begin(MAX_LOGINS + 1).await;
    assert!(goes_on(1).await && !goes_on(2).await && goes_on(3).await && goes_on(MAX_LOGINS + 1).await);
    assert_eq!(store.rotate("a2", next("a2-next"), at(2)).await, Ok(Rotated::Refused));
    assert!(store.logged_in(bob.id, "b1").await.expect("read").is_some(), "of each user so many");
}
