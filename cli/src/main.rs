//! `viworks`: see `viworks --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::app::main_with(std::env::args_os())
}
