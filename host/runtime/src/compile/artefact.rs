//! Machine code as bytes. This file holds the only unsafe call of the house.
//!
//! Invariant: an [`Artefact`] comes from our own compiler, in this process or in our child, or from
//! the cache after its authenticity was proven. There is no other way to make one.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Machine code we made.
pub(super) struct Artefact(Vec<u8>);

impl Artefact {
    /// What `component` compiled to.
    pub(super) fn of(component: &Component) -> Artefact {
        Artefact(component.serialize().expect("a compiled component serializes"))
    }

    /// Bytes that our own compile worker wrote to its output, or that our own key vouches for.
    pub(super) fn vouched(bytes: Vec<u8>) -> Artefact {
        Artefact(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Makes it runnable. Version and processor features are checked by the engine.
    #[expect(unsafe_code, reason = "machine code cannot be verified, only vouched for; see SAFETY")]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` runs whatever machine code the bytes hold, so they must come from
        // wasmtime's compiler unchanged. By this module's invariant they come from `Component::serialize`
        // in this process, from our own worker over a pipe nobody else holds, or from a cache entry whose
        // HMAC under this host's secret key was checked over exactly these bytes.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}
