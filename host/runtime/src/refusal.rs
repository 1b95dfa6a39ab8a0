//! Every way a plugin can be refused: stable codes, the gate each belongs to, and how to mend it. The
//! CLI, the API and the log all print the same text.

use ports::plugins::Refusal;

/// Declares the codes; a macro so that gate, name and cure of a code stand on one line and cannot be
/// forgotten.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $gate:literal $name:literal: $cure:literal;)*) => {
        /// Why a gate said no. Names are stable; texts may be improved.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// All codes, by gate.
            pub const ALL: &[Code] = &[$(Code::$code,)*];

            /// The name used in JSON and on screen.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$code => $name,)* }
            }

            /// 1 to 9.
            pub fn gate(self) -> u8 {
                match self { $(Code::$code => $gate,)* }
            }

            /// One line: how to mend it.
            pub fn cure(self) -> &'static str {
                match self { $(Code::$code => $cure,)* }
            }
        }
    };
}

codes! {
    /// The name of the file.
    FileName = 1 "file_name": "name the file `<plugin>.wasm`, with letters, digits, `.`, `_` and `-` only";
    /// Over the limit.
    FileTooBig = 1 "file_too_big": "build with optimisation for size, strip debug information, drop large data";
    /// Could not be read.
    FileUnreadable = 1 "file_unreadable": "let the host's user read the file";
    /// The deny list.
    PluginDenied = 1 "plugin_denied": "install a version that is not denied, or take the digest or the key off the deny list";
    /// No trust file could be read yet.
    TrustUnreadable = 1 "trust_unreadable": "mend the trust file; the host reads it again by itself";
    /// No signature.
    SignatureMissing = 1 "signature_missing": "put `<file>.minisig` beside the file: `viworks plugin sign FILE --key KEY`";
    /// Not a signature.
    SignatureMalformed = 1 "signature_malformed": "sign the file again: `viworks plugin sign FILE --key KEY`";
    /// By a key nobody trusts here.
    SignatureUntrusted = 1 "signature_untrusted": "sign it with a key of the trust file, or add the signer's key there";
    /// Of other bytes.
    SignatureInvalid = 1 "signature_invalid": "get file and signature from one place again, or sign this file";
    /// Outside of its key's time.
    SignatureDate = 1 "signature_date": "sign it with a key that counts now, or change `from` or `until` in the trust file";
    /// Not wasm at all.
    NotWasm = 2 "not_wasm": "build the plugin with `viworks plugin build` and install its output";
    /// Ends in the middle.
    Truncated = 2 "truncated": "copy the file again; write a temporary file first and rename it";
    /// A core module.
    CoreModule = 2 "core_module": "make a component of the module with `viworks plugin build`";
    /// Not valid for the features that are on.
    Malformed = 2 "malformed": "build it with a current compiler for `wasm32-unknown-unknown` and default features";
    /// Imports something a guest does not get.
    ForbiddenImport = 2 "forbidden_import": "remove what needs it (files, network, clock, randomness, environment); a plugin may import the log only";
    /// Needs more than a plugin has without its operator's consent.
    CompatTier = 2 "compat_tier": "say `tier = \"compat\"` in the operator's file, at the cost in `docs/plugins.md`, or build it with viworks-sdk";
    /// Not a verb plugin.
    MissingExport = 2 "missing_export": "export the interface `viworks:plugin/verbs@1.0.0`, which the macro `plugin!` of viworks-sdk does";
    /// Not stamped.
    NoManifest = 3 "no_manifest": "stamp it with `viworks plugin stamp FILE`; `viworks plugin build` does it by itself";
    /// Built for another ABI.
    AbiUnsupported = 3 "abi_unsupported": "rebuild it with an SDK of a version this host supports";
    /// The manifest is not of the right form.
    ManifestMalformed = 4 "manifest_malformed": "build and stamp it again with `viworks plugin build`";
    /// The plugin's name.
    PluginName = 4 "plugin_name": "use a lower-case name such as `docker`: a letter, then letters, digits, `_`, `-`, at most 63";
    /// The plugin's version.
    PluginVersion = 4 "plugin_version": "use a semantic version such as 1.4.0";
    /// A line for people is missing or too long.
    Summary = 4 "summary": "write one line of 1 to 512 characters";
    /// Provides nothing.
    NoVerb = 4 "no_verb": "declare 1 to 256 verbs in `plugin!(verbs: […])`";
    /// A verb's name.
    VerbName = 4 "verb_name": "use dotted lower-case words such as `docker.ps`, at most 64 bytes";
    /// Two verbs of one name.
    VerbTwice = 4 "verb_twice": "give every verb of the plugin a name of its own";
    /// What cancel promises.
    CancelUnknown = 4 "cancel_unknown": "use one of `clean`, `leaves_effects`, `none`";
    /// The default timeout.
    TimeoutRange = 4 "timeout_range": "use 1 ms to 24 h";
    /// The needed capability.
    CapabilityName = 4 "capability_name": "use a short lower-case name such as `docker`";
    /// Nothing to try.
    NoExample = 4 "no_example": "add an example to the verb: arguments that work";
    /// What a rule says of itself.
    RuleFacts = 4 "rule_facts": "mend what `#[rule(…)]` says: what it reads, its examples, its `state_version`";
    /// Too large.
    SchemaSize = 5 "schema_size": "keep a schema under 256 KiB of JSON";
    /// Too deep.
    SchemaDepth = 5 "schema_depth": "nest at most 32 levels deep; name parts under `$defs`";
    /// Another draft.
    SchemaDraft = 5 "schema_draft": "write JSON Schema 2020-12, or leave `$schema` out";
    /// Points outside the document.
    SchemaRemoteRef = 5 "schema_remote_ref": "copy the other schema under `$defs` and refer to it with `#/$defs/…`";
    /// Points at nothing, or in a way that cannot be followed.
    SchemaRef = 5 "schema_ref": "refer to parts of the same document with `#/$defs/…`";
    /// Endless.
    SchemaLoop = 5 "schema_loop": "let every loop of references pass through `properties` or `items`";
    /// Exponential.
    SchemaBomb = 5 "schema_bomb": "refer to a part once instead of many times from nested parts";
    /// A regular expression that is not linear or too large.
    SchemaPattern = 5 "schema_pattern": "use at most 200 patterns, short ones, without look-around and back-references";
    /// Not a schema.
    SchemaInvalid = 5 "schema_invalid": "mend the schema; `viworks plugin check FILE` tries it";
    /// Arguments are objects.
    SchemaNotObject = 5 "schema_not_object": "give the argument schema `\"type\": \"object\"`";
    /// The compiler says no.
    CompileFailed = 6 "compile_failed": "build it with a current compiler for `wasm32-unknown-unknown` and default features";
    /// The compiler needs too much.
    CompileLimit = 6 "compile_limit": "make the plugin smaller; a function of many thousand lines is the usual cause";
    /// The compiler could not be started; nothing is known about the plugin.
    CompileUnavailable = 6 "compile_unavailable": "see why the host cannot start its compile worker; it tries again by itself";
    /// Cannot be started.
    InstantiateFailed = 7 "instantiate_failed": "build it against the WIT in `sdk/wit/1.0` and within 16 MiB of memory";
    /// Cannot say what it is.
    DescribeFailed = 7 "describe_failed": "make `describe` answer at once and without a panic";
    /// Says something else than its stamp.
    DescribeDiffers = 7 "describe_differs": "stamp it again after the last build with `viworks plugin stamp FILE`";
    /// An example the schema refuses.
    ExampleArgs = 8 "example_args": "mend the example or the schema so that they agree";
    /// An example without a plan.
    ExamplePlan = 8 "example_plan": "mend `plan`; `cargo test` with `viworks_sdk::test::check(&PLUGIN)` tries the examples natively";
    /// An example whose plan asks for more than the manifest requests.
    ExampleGrant = 8 "example_grant": "request what the plan needs in the manifest's grants, or plan less";
    /// An example whose output is understood differently.
    ExampleGolden = 8 "example_golden": "mend `interpret`, or the result beside the recorded output in the verb's `golden(…)`";
    /// A rule's example.
    ExampleFindings = 8 "example_findings": "mend `judge`, or what its example says is `found`; `viworks plugin run FILE` plays it";
    /// Two answers to one question.
    ExampleUnstable = 8 "example_unstable": "let equal arguments give equal answers: no counters, no addresses, no unordered maps";
    /// Another file is this plugin.
    PluginConflict = 9 "plugin_conflict": "remove one of the two files, or rename one of the plugins";
    /// Another plugin provides the verb.
    VerbConflict = 9 "verb_conflict": "remove one of the two plugins, or rename the verb";
    /// The operator's file cannot be read.
    ConfigMalformed = 9 "config_malformed": "mend the toml file; it knows `enabled`, `tier`, `config`, `grants`, `limits`, `pin`, `aliases` and, for a rule, `overrides`";
    /// The plugin does not accept the operator's configuration.
    ConfigInvalid = 9 "config_invalid": "mend `[config]` in the toml file; `viworks plugin inspect FILE` shows its schema";
    /// The operator wants another version.
    Pinned = 9 "pinned": "take `pin` out of the toml file, or let it name this version";
    /// An update asks for more.
    GrantsWidened = 9 "grants_widened": "approve it with `viworks plugin approve NAME`, or write what it may do into `[grants]` of its toml file";
    /// An update does not understand what waits.
    BreaksQueued = 9 "breaks_queued": "wait until those commands are over, cancel them, or consent with `viworks plugin approve NAME`";
    /// It failed too often.
    Quarantined = 9 "quarantined": "install a version that does not fail, or try this one again with `viworks plugin retry NAME`";
    /// Somebody went back to the version before.
    RolledBack = 9 "rolled_back": "install another version, or try this one again with `viworks plugin retry NAME`";
}

impl Code {
    /// The refusal of the bytes with `digest`.
    pub fn refuse(self, cause: impl Into<String>, digest: &str) -> Refusal {
        Refusal {
            gate: self.gate(),
            code: self.as_str().to_owned(),
            cause: one_line(cause.into()),
            cure: self.cure().to_owned(),
            digest: digest.to_owned(),
        }
    }
}

/// Text from a plugin or a library on one line of bearable length.
fn one_line(text: String) -> String {
    let line: String =
        text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    let printable: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match printable.char_indices().nth(500) {
        Some((end, _)) => format!("{}…", &printable[..end]),
        None => printable,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_ordered_by_gate() {
        let names: HashSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.is_sorted_by_key(|code| code.gate()));
        assert_eq!((Code::ALL.first().map(|c| c.gate()), Code::ALL.last().map(|c| c.gate())), (Some(1), Some(9)));
    }

    #[test]
    fn a_cause_is_one_printable_line() {
        let refusal = Code::Malformed.refuse("first\n  second\u{1b}[0m\r\n", "00");
        assert_eq!(refusal.cause, "first; second [0m");
        assert_eq!(Code::Malformed.refuse("x".repeat(9000), "00").cause.chars().count(), 501);
    }
}
