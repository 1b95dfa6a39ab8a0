//! What containers and images are called, and how every docker step begins and is judged.

use viworks_sdk::builder::Draft;
use viworks_sdk::outputs::one_line;
use viworks_sdk::prelude::*;

use crate::complaint;

/// A container's name or id. It cannot begin with `-`, hold a blank, or look like another name.
pub const NAME: &str = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$";

/// An image: `registry.example:5000/team/web:1.2`, `web@sha256:…`, or an id.
pub const IMAGE: &str = "^[a-zA-Z0-9][a-zA-Z0-9_.:/@-]*$";

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

/// A full id as people write it.
pub fn short(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id).get(..12).unwrap_or(id)
}

/// A caller's text in a message: on one line, and not for ever.
pub fn shown(text: &str) -> String {
    one_line(text, 200)
}

/// `1 container`, `2 containers`.
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
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
