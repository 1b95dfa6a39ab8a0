//! API keys.

use domain::access::{Grant, Role};
use plan::id::{KeyId, UserId};
use ports::api_keys::ApiKey;
use ports::error::StoreError;
use ports::users::User;
use tokio::task::JoinSet;

use super::fixtures::*;
use super::{Ground, Store};

async fn owner<S: Store>(store: &S, name: &str) -> User {
    let user = user(name, Role::Operator);
    store.create(user.clone(), entry("users.create"), None).await.expect("stored");
    user
}

fn key(owner: &User, sha256: &str) -> ApiKey {
    ApiKey {
        id: KeyId(uuid()),
        owner: owner.id,
        owner_name: owner.name.clone(),
        name: Some("ci".into()),
        sha256: sha256.into(),
        role: Role::Operator,
        grants: Some(vec![Grant { sites: vec!["eu".into()], ..Grant::ordinary() }]),
        created_at: at(0),
        expires_at: at(1000),
        last_used_at: None,
        revoked_at: None,
    }
}

async fn make<S: Store>(store: &S, key: &ApiKey) -> Result<(), StoreError> {
    store.create_key(key.clone(), 3, at(-1000), entry("auth.create_api_key"), None).await
}

pub async fn a_key_reads_back_is_used_and_revoked<S: Store>(Ground { store, .. }: Ground<S>) {
    let (ada, grace) = (owner(&store, "ada").await, owner(&store, "grace").await);
    let (mut one, plain) = (key(&ada, "k1"), ApiKey { name: None, grants: None, ..key(&grace, "k2") });
    for key in [&one, &plain] {
        make(&store, key).await.expect("stored");
    }
    assert_eq!(store.key_of("k1").await, Ok(Some((one.clone(), ada.clone()))));
    assert_eq!(store.key_of("unknown").await, Ok(None));
    assert_eq!(store.api_key(plain.id).await, Ok(Some(plain.clone())));
    assert_eq!(store.api_keys(None).await, Ok(vec![plain.clone(), one.clone()]));
    assert_eq!(store.api_keys(Some(ada.id)).await, Ok(vec![one.clone()]));

    store.keys_used(vec![(one.id, at(9)), (KeyId(uuid()), at(9))]).await.expect("stored");
    store.keys_used(vec![(one.id, at(5))]).await.expect("stored");
    one.last_used_at = Some(at(9));
    assert_eq!(store.api_key(one.id).await, Ok(Some(one.clone())), "an older word does not overwrite a newer one");

    assert_eq!(store.revoke_key(one.id, entry("auth.revoke_api_key")).await, Ok(true));
    assert_eq!(store.revoke_key(one.id, entry("auth.revoke_api_key")).await, Ok(false));
    one.revoked_at = Some(NOON);
    assert_eq!(store.api_key(one.id).await, Ok(Some(one.clone())));
    assert!(!one.is_good(at(1)) && plain.is_good(at(999)) && !plain.is_good(at(1000)));
}

pub async fn a_key_goes_with_its_owner<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = owner(&store, "ada").await;
    make(&store, &key(&ada, "k1")).await.expect("stored");
    assert_eq!(store.delete(ada.id, None, entry("users.delete")).await, Ok(true));
    assert_eq!(store.key_of("k1").await, Ok(None));
    let orphan = make(&store, &key(&ada, "k2")).await;
    assert!(matches!(orphan, Err(StoreError::Conflict(_))), "{orphan:?}");
    assert_eq!(store.api_keys(Some(UserId(uuid()))).await, Ok(vec![]));
}

pub async fn of_many_keys_made_at_once_only_so_many_are_stored<S: Store>(Ground { store, .. }: Ground<S>) {
    let ada = owner(&store, "ada").await;
    let mut makers = JoinSet::new();
    for n in 0..6 {
        let (store, key) = (store.clone(), key(&ada, &format!("k{n}")));
        makers.spawn(async move { make(&store, &key).await.is_ok() });
    }
    assert_eq!(makers.join_all().await.into_iter().filter(|made| *made).count(), 3);
    // One that is revoked makes room, and is let go of when it has been useless for long.
    let first = store.api_keys(Some(ada.id)).await.expect("read").pop().expect("three");
    assert_eq!(store.revoke_key(first.id, entry("auth.revoke_api_key")).await, Ok(true));
    make(&store, &key(&ada, "k7")).await.expect("room");
    assert_eq!(store.api_keys(Some(ada.id)).await.expect("read").len(), 4);
    let later = key(&ada, "k8");
    let full = store.create_key(later.clone(), 3, at(1), entry("auth.create_api_key"), None).await;
    assert!(matches!(full, Err(StoreError::Conflict(_))), "{full:?}");
    store.create_key(later, 4, at(1), entry("auth.create_api_key"), None).await.expect("room");
    assert_eq!(store.api_key(first.id).await, Ok(None));
}
