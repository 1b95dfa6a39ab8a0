//! Written by wit-bindgen from the released ABI. Only in wasm.

wit_bindgen::generate!({
    path: "wit/1.0",
    world: "verb-plugin",
    pub_export_macro: true,
    runtime_path: "viworks_sdk::guest::wit_bindgen_rt",
    default_bindings_module: "viworks_sdk::bindings",
});
