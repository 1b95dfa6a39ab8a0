//! What the program hands out, written by the crate's build script: paths from the repository's root, and
//! texts. `SDK` is the SDK's sources, `WORKSPACE` says their versions, `PAGES` explain refusals.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The text of `path` in `table`.
pub fn text(table: &'static [(&str, &str)], path: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}
