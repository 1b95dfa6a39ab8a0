//! Written by wit-bindgen from the released ABI: verbs here, rules below. Only in wasm.

wit_bindgen::generate!({
    path: "wit/1.0",
    world: "verb-plugin",
    pub_export_macro: true,
    runtime_path: "viworks_sdk::guest::wit_bindgen_rt",
    default_bindings_module: "viworks_sdk::bindings",
});

/// The world of a rule. What a component exports is decided by the `export!` that its `plugin!` calls.
pub mod rules {
    wit_bindgen::generate!({
        path: ["wit/1.0", "wit/1.1"],
        world: "viworks:plugin/rule-plugin@1.1.0",
        pub_export_macro: true,
        runtime_path: "viworks_sdk::guest::wit_bindgen_rt",
        default_bindings_module: "viworks_sdk::bindings::rules",
        with: { "viworks:plugin/log@1.0.0": generate, "viworks:plugin/types@1.0.0": generate },
    });
}
