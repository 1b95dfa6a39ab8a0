//! Argon2id on a few blocking threads, so that a hundred logins slow down logins and nothing else.
//! Source: RFC 9106; OWASP password storage: 19 MiB, 2 passes, 1 lane.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};
use ports::passwords::{PasswordError, Passwords};
use tokio::sync::Semaphore;

/// Hashes at most `workers` passwords at a time and lets at most `queue` more wait; the rest is told
/// that the host is busy.
pub struct Argon2Pool {
    argon2: Argon2<'static>,
    workers: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// Of no password anybody has; compared with when there is no user.
    decoy: String,
}

impl Argon2Pool {
    /// A pool of `workers` (at least 1) with `queue` waiting places.
    ///
    /// # Errors
    /// The machine has no memory for one hash, or no randomness.
    pub fn new(workers: usize, queue: usize) -> Result<Argon2Pool, PasswordError> {
        let argon2 = Argon2::default();
        let nobody = format!("{:032x}", rand::random::<u128>());
        let decoy = argon2.hash_password(nobody.as_bytes()).map_err(unusable)?.to_string();
        let workers = workers.max(1);
        let places = Arc::new(Semaphore::new(workers + queue));
        Ok(Argon2Pool { argon2, workers: Arc::new(Semaphore::new(workers)), places, decoy })
    }

    /// Runs `work` off the async threads. Its permits go with it: a caller who gives up does not make
    /// room before the work is done.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let worker = self.workers.clone().acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        let argon2 = self.argon2.clone();
        let work = tokio::task::spawn_blocking(move || {
            let result = work(&argon2);
            drop((place, worker));
            result
        });
        work.await.map_err(|error| PasswordError::Unusable(error.to_string()))?
    }
}

#[async_trait::async_trait]
impl Passwords for Argon2Pool {
    async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let password = password.to_owned();
        self.run(move |argon2| argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(unusable))
            .await
    }

    async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, PasswordError> {
        let password = password.to_owned();
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.decoy).to_owned();
        self.run(move |argon2| match argon2.verify_password(password.as_bytes(), hash.as_str()) {
            Ok(()) => Ok(known),
            Err(Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(unusable(error)),
        })
        .await
    }
}

fn unusable(error: Error) -> PasswordError {
    PasswordError::Unusable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let pool = Argon2Pool::new(1, 4).expect("a pool");
        let hash = pool.hash("correct horse battery").await.expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(pool.verify("correct horse battery", Some(&hash)).await, Ok(true));
        assert_eq!(pool.verify("correct horse batterz", Some(&hash)).await, Ok(false));
        assert_eq!(pool.verify("correct horse battery", None).await, Ok(false));
        assert_ne!(pool.hash("correct horse battery").await, Ok(hash));
    }

    #[tokio::test]
    async fn a_damaged_hash_is_an_error_and_no_panic() {
        let pool = Argon2Pool::new(1, 4).expect("a pool");
        for bad in ["", "x", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv", "ä$\u{0}"] {
            assert!(matches!(pool.verify("x", Some(bad)).await, Err(PasswordError::Unusable(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told_so_at_once() {
        let pool = Argon2Pool::new(1, 1).expect("a pool");
        let tries = futures_util::future::join_all((0..8).map(|_| pool.verify("x", None))).await;
        assert_eq!(tries.iter().filter(|answer| **answer == Ok(false)).count(), 2, "{tries:?}");
        assert_eq!(tries.iter().filter(|answer| **answer == Err(PasswordError::Busy)).count(), 6);
    }
}
