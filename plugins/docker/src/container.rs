//! How every docker step begins and is judged.

use viworks_sdk::builder::Draft;
use viworks_sdk::prelude::*;

use crate::complaint;

/// One object a line.
pub const JSON: &str = "--format={{json .}}";

/// A plan that begins with one docker subcommand.
pub fn docker(subcommand: &'static str) -> Draft {
    program("docker").arg(subcommand)
}

/// Standard output of a docker command that succeeded; else docker's reason, in words that help.
pub fn ok(out: &Outputs) -> Result<Printed<'_>> {
    match out.succeeded() {
        true => Ok(out.stdout()),
        false => Err(failed(out)),
    }
}

/// Why docker did not do it.
pub fn failed(out: &Outputs) -> Failure {
    let said = complaint::explain(&out.stderr().lossy());
    Failure::not_succeeded(said.unwrap_or_else(|| out.ending()))
}

/// What became of one of several containers that docker would not do it to.
#[derive(Output, Debug, PartialEq)]
pub struct Refused {
    /// The container, as it was asked for.
    pub container: String,
    /// Why not.
    pub reason: String,
}

/// Of the `asked`, those that docker confirmed on standard output, and those it complained about. It
/// prints both in the order asked, so the complaints belong to the others in turn.
///
/// # Errors
/// When docker did nothing at all, not even look.
pub fn sorted(asked: &[String], out: &Outputs) -> Result<(Vec<String>, Vec<Refused>)> {
    let mut done = Vec::new();
    done.extend(out.stdout().lines());
    let stderr = out.stderr().lossy();
    if done.is_empty() && complaint::is_about_engine(&stderr) {
        return Err(failed(out));
    }
    let mut complaints = stderr.lines().filter(|line| complaint::is_final(line));
    let mut refused = Vec::new();
    for container in asked {
        if !done.contains(container) {
            let reason = match complaints.next() {
                Some(line) => complaint::reword(line),
                None => out.ending(),
            };
            refused.push(Refused { container: container.clone(), reason });
        }
    }
    Ok((done, refused))
}
