//! Where temporary folders of servers are made that run as another user than the test.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Folders that every machine has for what is temporary.
const USUAL: [&str; 2] = ["/tmp", "/var/tmp"];

/// The folder for temporary ones that `TMPDIR` names, if every user gets through to it, else one that every user does.
pub fn temporary() -> PathBuf {
    let named = std::env::temp_dir();
    let places = std::iter::once(named.clone()).chain(USUAL.map(PathBuf::from));
    places.into_iter().find(|place| lets_through(place)).unwrap_or(named)
}

fn lets_through(folder: &Path) -> bool {
    let whole = std::path::absolute(folder).and_then(std::fs::canonicalize);
    let open = |folder: &Path| std::fs::metadata(folder).is_ok_and(|found| found.is_dir() && found.mode() & 0o001 != 0);
    whole.is_ok_and(|whole| whole.ancestors().all(open))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_keeps_others_out_is_none_for_a_server_of_another_user() {
        let outer = tempfile::tempdir_in(temporary()).expect("a folder");
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).expect("made");
        set_permissions(&inner, Permissions::from_mode(0o755)).expect("open");
        for (mode, lets) in [(0o755, true), (0o711, true), (0o700, false), (0o770, false)] {
            set_permissions(outer.path(), Permissions::from_mode(mode)).expect("set");
            assert_eq!(lets_through(&inner), lets, "{mode:o}");
        }
        assert!(!lets_through(&outer.path().join("gone")));
    }
}
