//! The nine gates: what a file must pass before a single request reaches it. The host, the CLI and CI
//! run the same code and print the same refusals.
//!
//! Gates 1 to 8 look at one file alone and are here, but for its signature, which is judged beside the
//! trust file (`signature.rs`); gate 9 looks at its neighbours and the operator's
//! configuration (`gates/operator.rs`, `registry`).

mod component;
pub(crate) mod course;
mod manifest;
pub(crate) mod operator;
pub(crate) mod trial;

use std::sync::Arc;
use std::time::Instant;

use component::Parsed;
use plan::manifest::{Kind, Manifest};
use ports::plugins::{PluginIdentity, Refusal};
use wasmtime::component::Component;

use crate::abi::Prepared;
use crate::build::{Build, Faults};
use crate::compile::{Compiler, digest};
use crate::engine::Sandbox;
use crate::refusal::Code;
use crate::signature::Signer;
use crate::tier::{Consents, Tier};

pub(crate) use component::{imports, name, too_big};

/// Gates 1 to 8.
pub struct Gates {
    sandbox: Sandbox,
    compiler: Compiler,
}

impl Gates {
    /// Gates in front of `sandbox`.
    pub fn new(sandbox: Sandbox, compiler: Compiler) -> Gates {
        Gates { sandbox, compiler }
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Leads `bytes`, found under `file_name`, through gates 1 to 8. Takes milliseconds to seconds and
    /// much stack; run it where both are to be had.
    ///
    /// # Errors
    /// The first gate that said no.
    pub(crate) fn check(&self, file_name: &str, bytes: &[u8], consents: &Consents) -> Result<Build, Refusal> {
        let digest = digest(bytes);
        let parsed = self.admit(file_name, bytes, &digest, consents)?;
        let Some(section) = &parsed.manifest else {
            return Err(Code::NoManifest.refuse("the component has no `viworks:manifest` section", &digest));
        };
        let read = manifest::read(section).map_err(|(code, cause)| code.refuse(cause, &digest))?;
        if read.manifest.kind() != parsed.kind {
            let cause =
                format!("the manifest is that of a {}, and the component is none", read.manifest.kind().as_str());
            return Err(Code::ManifestMalformed.refuse(cause, &digest));
        }
        let identity = PluginIdentity {
            name: read.manifest.name.clone(),
            version: read.manifest.version.clone(),
            digest: digest.clone(),
        };
        let began = Instant::now();
        let component = self.compile(bytes, parsed.tier, &digest)?;
        let prepared = self.prepare(&component, parsed.tier, parsed.kind, &digest)?;
        let compiled = began.elapsed();
        let build = Build {
            identity,
            manifest: read.manifest,
            imports: parsed.imports,
            tier: parsed.tier,
            prepared,
            verbs: read.verbs.into_iter().map(Arc::new).collect(),
            config_schema: read.config_schema,
            signer: Signer::default(),
            faults: Faults::default(),
        };
        trial::describe(&self.sandbox, &build, section).map_err(|(code, cause)| code.refuse(cause, &digest))?;
        trial::examples(&self.sandbox, &build).map_err(|(code, cause)| code.refuse(cause, &digest))?;
        course::examples(&self.sandbox, &build).map_err(|(code, cause)| code.refuse(cause, &digest))?;
        if build.tier == Tier::Compat {
            let (plugin, size) = (&build.identity.name, bytes.len());
            let (compile_ms, load_ms) = (compiled.as_millis(), began.elapsed().as_millis());
            tracing::warn!(plugin, size, compile_ms, load_ms, "a plugin of the compat tier: every call of it is dear");
        }
        Ok(build)
    }

    /// The manifest of a component that may not be stamped yet: asks it, after gates 1 and 2.
    ///
    /// # Errors
    /// The first gate that said no.
    pub(crate) fn describe(&self, bytes: &[u8]) -> Result<String, Refusal> {
        let digest = digest(bytes);
        // Whoever asks is its author, and consents.
        let Parsed { tier, kind, .. } = self.admit("plugin.wasm", bytes, &digest, &Consents::Everybody)?;
        let prepared = self.prepare(&self.compile(bytes, tier, &digest)?, tier, kind, &digest)?;
        let called = prepared.describe(&self.sandbox);
        let text = called
            .answer
            .map_err(|fault| Code::DescribeFailed.refuse(called.log.explain(format!("`describe` {fault}")), &digest))?;
        manifest::read(text.as_bytes()).map_err(|(code, cause)| code.refuse(cause, &digest))?;
        Ok(text)
    }

    /// What a component is stamped with, if it passes the gates that need not run it.
    pub(crate) fn stamp(&self, bytes: &[u8]) -> Option<Manifest> {
        let parsed = self.admit("plugin.wasm", bytes, "", &Consents::Everybody).ok()?;
        manifest::read(&parsed.manifest?).ok().map(|read| read.manifest)
    }

    /// Gates 1 and 2: the file's name and size, its form, its imports and exports.
    fn admit(&self, file_name: &str, bytes: &[u8], digest: &str, consents: &Consents) -> Result<Parsed, Refusal> {
        component::name(file_name).map_err(|(code, cause)| code.refuse(cause, digest))?;
        component::parse(bytes, consents).map_err(|(code, cause)| code.refuse(cause, digest))
    }

    fn compile(&self, bytes: &[u8], tier: Tier, digest: &str) -> Result<Component, Refusal> {
        self.compiler
            .compile(&self.sandbox, tier, bytes, digest)
            .map_err(|fault| fault.code.refuse(fault.message, digest))
    }

    fn prepare(&self, component: &Component, tier: Tier, kind: Kind, digest: &str) -> Result<Prepared, Refusal> {
        Prepared::new(&self.sandbox, tier, kind, component).map_err(|error| {
            let cause = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            Code::InstantiateFailed.refuse(cause, digest)
        })
    }
}

/// What a gate says when it says no: which rule, and what is wrong.
pub(crate) type No = (Code, String);
