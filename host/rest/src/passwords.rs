//! Argon2id on a few blocking threads, so that a hundred logins slow down logins and nothing else.
//! Source: RFC 9106; OWASP password storage: 19 MiB, 2 passes, 1 lane.

use std::sync::Arc;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{CustomizedPasswordHasher, Error, PasswordHasher, PasswordVerifier, Version};
use argon2::{Algorithm, Argon2, Block, Params};
use ports::passwords::{PasswordError, Passwords};
use tokio::sync::Semaphore;

/// What one hash works in is asked for as if it were this much; pages that are not written to take no memory. GNU's
/// allocator gives a piece over 32 MiB back to the system at once. A smaller one it takes, the second time, from what it
/// keeps: then each thread that ever hashed a password held 19 MiB for good.
const ROOM_BYTES: usize = 33 * 1024 * 1024;

/// Hashes at most `workers` passwords at a time and lets at most `queue` more wait; the rest is told
/// that the host is busy.
pub struct Argon2Pool {
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
        let nobody = format!("{:032x}", rand::random::<u128>());
        let decoy = Hashing.hash_password(nobody.as_bytes()).map_err(unusable)?.to_string();
        let workers = workers.max(1);
        let places = Arc::new(Semaphore::new(workers + queue));
        Ok(Argon2Pool { workers: Arc::new(Semaphore::new(workers)), places, decoy })
    }

    /// Runs `work` off the async threads. Its permits go with it: a caller who gives up does not make
    /// room before the work is done.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let worker = self.workers.clone().acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((place, worker));
            result
        });
        work.await.map_err(|error| PasswordError::Unusable(error.to_string()))?
    }
}

/// Argon2 in memory that is given back.
struct Hashing;

impl PasswordHasher<PasswordHash> for Hashing {
    fn hash_password_with_salt(&self, password: &[u8], salt: &[u8]) -> Result<PasswordHash, Error> {
        self.hash_password_with_params(password, salt, Params::default())
    }
}

impl CustomizedPasswordHasher<PasswordHash> for Hashing {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<Version>,
        params: Params,
    ) -> Result<PasswordHash, Error> {
        let algorithm = algorithm.map(Algorithm::try_from).transpose()?.unwrap_or_default();
        let version = version.map(argon2::Version::try_from).transpose()?.unwrap_or_default();
        let salt = Salt::new(salt)?;
        let blocks = params.block_count();
        let mut memory: Vec<Block> = Vec::new();
        memory
            .try_reserve_exact(blocks.max(ROOM_BYTES / Block::SIZE))
            .map_err(|_| Error::from(argon2::Error::OutOfMemory))?;
        memory.resize(blocks, Block::new());
        let mut output = [0; Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let output = output.get_mut(..length).ok_or(Error::OutputSize)?;
        let argon2 = Argon2::new(algorithm, version, params.clone());
        argon2.hash_password_into_with_memory(password, &salt, output, &mut memory)?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(salt),
            hash: Some(Output::new(output)?),
        })
    }
}

#[async_trait::async_trait]
impl Passwords for Argon2Pool {
    async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let password = password.to_owned();
        self.run(move || Hashing.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(unusable))
            .await
    }

    async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, PasswordError> {
        let password = password.to_owned();
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.decoy).to_owned();
        self.run(move || match verified(&password, &hash) {
            Ok(()) => Ok(known),
            Err(Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(unusable(error)),
        })
        .await
    }
}

fn verified(password: &str, hash: &str) -> Result<(), Error> {
    Hashing.verify_password(password.as_bytes(), &PasswordHash::new(hash)?)
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

    #[test]
    fn a_hash_of_other_costs_is_held_against_those_and_against_no_others() {
        let hash = |cost| {
            let params = Params::new(cost, 3, 1, None).expect("costs");
            Hashing
                .hash_password_with_params(b"correct horse", b"sixteen bytes ok", params)
                .expect("hashes")
                .to_string()
        };
        let known = hash(64);
        let by_the_library = {
            let params = Params::new(64, 3, 1, None).expect("costs");
            let argon2 = Argon2::new(Algorithm::default(), argon2::Version::default(), params);
            argon2.hash_password_with_salt(b"correct horse", b"sixteen bytes ok").expect("hashes").to_string()
        };
        assert_eq!(known, by_the_library);
        assert!(verified("correct horse", &known).is_ok());
        assert!(verified("correct horse", &known.replace("m=64", "m=72")).is_err());
        assert!(verified("correct house", &known).is_err());
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
