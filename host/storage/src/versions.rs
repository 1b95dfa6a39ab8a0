//! Versions of a plugin in the form of the column `versions`.

use domain::plugin::Version;
use domain::plugin::life::Life;
use domain::time::Timestamp;
use plan::policy::Rules;
use serde::{Deserialize, Serialize};

use crate::text;

/// One version.
#[derive(Serialize, Deserialize)]
struct Written {
    digest: String,
    version: String,
    verbs: Vec<String>,
    life: String,
    /// Microseconds since 1970-01-01 UTC.
    since: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    proven: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<Rules>,
    approved: bool,
}

/// Versions as a JSON array.
pub(crate) fn text(versions: &[Version]) -> String {
    let written: Vec<Written> = versions
        .iter()
        .cloned()
        .map(|Version { digest, version, verbs, life, since, why, proven, grant, approved }| {
            let life = life.as_str().to_owned();
            Written { digest, version, verbs, life, since: since.0, why, proven, grant, approved }
        })
        .collect();
    text::json(&written)
}

/// Reads what [`text()`] wrote.
pub(crate) fn parse(written: &str) -> Result<Vec<Version>, String> {
    let versions: Vec<Written> = text::parse(written)?;
    let read = |Written { digest, version, verbs, life, since, why, proven, grant, approved }: Written| {
        let life = Life::parse(&life).ok_or_else(|| format!("`{life}` is not a state of a plugin"))?;
        Ok(Version { digest, version, verbs, life, since: Timestamp(since), why, proven, grant, approved })
    };
    versions.into_iter().map(read).collect()
}
