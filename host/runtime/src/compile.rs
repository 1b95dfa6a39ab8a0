//! Gate 6: wasm becomes machine code. Compiling is the one step in which bytes from outside can still
//! cost the host much time and memory, so it is done in a child process that can be killed, and its
//! result is kept under a key that only this host has.

mod artefact;
mod cache;
mod worker;

use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::engine::Sandbox;
use crate::refusal::Code;
use crate::tier::Tier;
use cache::Cache;
pub use cache::CacheError;
pub use worker::compile_worker_main;

/// Where compiling happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compile {
    /// In this process: for tools that serve nobody else.
    InProcess,
    /// In a child process with limits on wall time, processor time and memory. The child must call
    /// [`compile_worker_main`].
    Child {
        /// Usually the running binary itself.
        program: PathBuf,
        /// Arguments that lead it to [`compile_worker_main`].
        args: Vec<String>,
    },
}

/// Where compiled plugins are kept between starts.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// A directory of the host's own, never the plugin folder. Made when missing, for the host's user only.
    pub dir: PathBuf,
    /// 32 bytes nobody can guess, used if the directory holds no key yet.
    pub fresh_key: [u8; 32],
}

/// Why there is no machine code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CompileFault {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl CompileFault {
    fn failed(message: impl Into<String>) -> CompileFault {
        CompileFault { code: Code::CompileFailed, message: message.into() }
    }

    fn limit(message: impl Into<String>) -> CompileFault {
        CompileFault { code: Code::CompileLimit, message: message.into() }
    }
}

/// Makes machine code, or takes it from the cache.
pub struct Compiler {
    mode: Compile,
    cache: Option<Cache>,
}

impl Compiler {
    /// A compiler that works as `mode` says and remembers what it made, if there is a place for that.
    ///
    /// # Errors
    /// When the cache directory cannot be used or is open to other users.
    pub fn new(mode: Compile, cache: Option<CacheOptions>) -> Result<Compiler, CacheError> {
        let cache = cache.map(|options| Cache::open(&options)).transpose()?;
        Ok(Compiler { mode, cache })
    }

    /// Machine code for `wasm`, whose SHA-256 is `digest`.
    pub(crate) fn compile(
        &self,
        sandbox: &Sandbox,
        tier: Tier,
        wasm: &[u8],
        digest: &str,
    ) -> Result<Component, CompileFault> {
        let room = sandbox.room(tier).map_err(|error| CompileFault::failed(error.to_string()))?;
        let engine = compatibility(room.engine());
        if let Some(artefact) = self.cache.as_ref().and_then(|cache| cache.get(digest, &engine)) {
            match artefact.load(room.engine()) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(digest, error = %error, "cached machine code does not fit; compiling again")
                }
            }
        }
        let (component, artefact) = match &self.mode {
            Compile::InProcess => {
                let component = Component::from_binary(room.engine(), wasm)
                    .map_err(|error| CompileFault::failed(error.root_cause().to_string()))?;
                let artefact = self.cache.as_ref().map(|_| artefact::Artefact::of(&component));
                (component, artefact)
            }
            Compile::Child { program, args } => {
                let artefact = worker::run(program, args, wasm, tier)?;
                let component = artefact
                    .load(room.engine())
                    .map_err(|error| CompileFault::failed(error.root_cause().to_string()))?;
                (component, Some(artefact))
            }
        };
        if let (Some(cache), Some(artefact)) = (&self.cache, &artefact) {
            cache.put(digest, &engine, artefact);
        }
        Ok(component)
    }
}

/// Names everything about an engine that decides whether an artefact fits it.
fn compatibility(engine: &wasmtime::Engine) -> String {
    /// Collects what is hashed instead of making it one number.
    struct Collect(Sha256);
    impl Hasher for Collect {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut collect = Collect(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut collect);
    HEXLOWER.encode(&collect.0.finalize())
}

/// SHA-256 of `bytes` as lower-case hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}
