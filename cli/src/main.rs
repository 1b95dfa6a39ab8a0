//! `viworks`: see `viworks --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::complete::answer(std::env::args_os(), cli::app::command_tree) {
        Some(answered) => answered,
        None => cli::app::main_with(std::env::args_os()),
    }
}
