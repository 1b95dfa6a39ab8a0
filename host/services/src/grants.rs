//! What a grant may look like, and one's first words about it when it may not.

use domain::access::Grant;

/// Most grants of one user or key, and most patterns of one list of a grant.
pub const GRANTS_MAX: usize = 64;

/// A grant nobody may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadGrant {
    /// JSON Pointer into the request.
    pub pointer: String,
    /// What would be right.
    pub message: String,
}

fn refused(pointer: impl Into<String>, message: impl Into<String>) -> BadGrant {
    BadGrant { pointer: pointer.into(), message: message.into() }
}

/// Grants are matched at every submission, so their patterns are kept short and simple.
pub(crate) fn check(grants: &[Grant]) -> Result<(), BadGrant> {
    if grants.len() > GRANTS_MAX {
        return Err(refused("/grants", format!("{} grants; at most {GRANTS_MAX}", grants.len())));
    }
    for (index, grant) in grants.iter().enumerate() {
        for (list, patterns) in [("sites", &grant.sites), ("verbs", &grant.verbs)] {
            let at = format!("/grants/{index}/{list}");
            if patterns.len() > GRANTS_MAX {
                return Err(refused(at, format!("{} patterns; at most {GRANTS_MAX}", patterns.len())));
            }
            if let Some(bad) = patterns.iter().position(|pattern| !is_pattern(pattern)) {
                let rule = "a pattern is 1 to 64 of letters, digits, . _ / - and at most four *";
                return Err(refused(format!("{at}/{bad}"), rule));
            }
        }
    }
    Ok(())
}

fn is_pattern(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-' | b'*');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed) && text.matches('*').count() <= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_holds_short_patterns_only() {
        let grant = |site: &str| Grant { sites: vec!["eu".into(), site.into()], verbs: vec![], effects: vec![] };
        assert_eq!(check(&[Grant::ordinary(), grant("eu-*/a")]), Ok(()));
        for bad in ["", "a b", "*****", "a\n", &"a".repeat(65)] {
            let error = check(&[grant(bad)]).expect_err(bad);
            assert_eq!(error.pointer, "/grants/0/sites/1", "{bad}");
        }
        assert!(check(&vec![Grant::ordinary(); GRANTS_MAX + 1]).is_err());
    }
}
