//! The compile worker alone. The host binary is its own worker; this one lets the worker be tested,
//! and be run by hand on a plugin that will not compile.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::compile_worker_main()
}
