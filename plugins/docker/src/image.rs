//! What docker says of an image that is there now, after a pull or a build.

use viworks_sdk::json;
use viworks_sdk::outputs::read_printed;
use viworks_sdk::prelude::*;

/// An image on the machine.
#[derive(Output)]
pub struct Image {
    /// The full id, `sha256:…`.
    #[output(from = "Id")]
    pub id: String,
    /// The names it has.
    #[output(from = "RepoTags", default)]
    pub tags: Vec<String>,
    /// The names that registries know exactly this image by, `name@sha256:…`.
    #[output(from = "RepoDigests", default)]
    pub digests: Vec<String>,
    /// When it was built, RFC 3339.
    #[output(from = "Created")]
    pub created: Option<String>,
    /// Its bytes.
    #[output(from = "Size")]
    pub size_bytes: Option<u64>,
    /// e.g. `linux`.
    #[output(from = "Os")]
    pub os: Option<String>,
    /// e.g. `amd64`.
    #[output(from = "Architecture")]
    pub architecture: Option<String>,
}

/// Reads the last line of standard output, which `docker image inspect` printed.
///
/// # Errors
/// When it is not what that prints.
pub fn last_line(out: &Outputs) -> Result<Image> {
    let stdout = out.stdout().lossy();
    let line = stdout.lines().rev().find(|line| !line.trim().is_empty());
    read_printed(json::parse(line.ok_or_else(|| Failure::parse("docker printed nothing"))?)?)
}
