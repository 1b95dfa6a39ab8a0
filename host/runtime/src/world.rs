//! The released WIT worlds as Wasmtime reads them, and the host's side of what a guest may import.
//!
//! Invariant: a guest may log and nothing else; what is linked here is all it can reach. What `nothing` links
//! beside it for the compat tier leads nowhere.

pub(crate) mod nothing;

use wasmtime::component::{HasSelf, Linker};

use crate::guest::Guest;

/// ABI 1.0: the world `verb-plugin` of `sdk/wit/1.0`.
pub(crate) mod v1 {
    wasmtime::component::bindgen!({ path: "../../sdk/wit/1.0", world: "verb-plugin" });
}

/// ABI 1.1: the world `rule-plugin` of `sdk/wit/1.1`. Its log is that of ABI 1.0, and linked there.
pub(crate) mod rules {
    wasmtime::component::bindgen!({
        path: ["../../sdk/wit/1.0", "../../sdk/wit/1.1"],
        world: "viworks:plugin/rule-plugin@1.1.0",
        with: { "viworks:plugin/log@1.0.0": crate::world::v1::viworks::plugin::log },
    });
}

impl v1::viworks::plugin::types::Host for Guest {}

impl v1::viworks::plugin::log::Host for Guest {
    fn write(&mut self, level: String, message: String, fields: String) {
        Guest::write(self, level, message, fields);
    }
}

/// Gives `linker` everything a guest may import.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    v1::VerbPlugin::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)
}
