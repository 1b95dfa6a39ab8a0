//! What a container sees of the machine's file system: volumes, bind mounts, memory.

use crate::spelling::shown;

/// One entry of `volumes`, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// A volume that docker keeps, named or not.
    Kept,
    /// A directory or file of the machine: whoever may mount one owns the machine.
    Bind,
}

/// Reads `[source:]target[:options]`.
///
/// # Errors
/// What is wrong with it and what would be right.
pub fn volume(spec: &str) -> Result<Volume, String> {
    let rule =
        |what: &str| Err(format!("`{}` {what}; write it like data:/var/lib/app or /srv/app:/app:ro", shown(spec)));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return rule("has more than source, target and options"),
    };
    if !is_clean(target) {
        return rule("has no absolute target without empty, `.` and `..` parts");
    }
    if parts.len() == 3 && !options.split(',').all(|option| matches!(option, "ro" | "rw" | "z" | "Z" | "nocopy")) {
        return rule("has options other than ro, rw, z, Z, nocopy");
    }
    match source {
        None => Ok(Volume::Kept),
        Some(path) if is_clean(path) || path == "/" => Ok(Volume::Bind),
        // What an operator's policy matches by its beginning must be where it says it is.
        Some(path) if path.contains('/') || path.starts_with(['~', '.', '\\']) => {
            rule("has a path as source that is not absolute, or has empty, `.` or `..` parts")
        }
        Some(name) if is_name(name) => Ok(Volume::Kept),
        Some(_) => rule("has a source that is neither an absolute path nor a volume's name"),
    }
}

/// Checks `target[:options]` of a file system in memory.
///
/// # Errors
/// What is wrong with it and what would be right.
pub fn tmpfs(spec: &str) -> Result<(), String> {
    let rule = |what: &str| Err(format!("`{}` {what}; write it like /run or /run:size=64m,mode=1777", shown(spec)));
    let (target, options) = spec.split_once(':').map_or((spec, None), |(target, options)| (target, Some(options)));
    if !is_clean(target) {
        return rule("has no absolute target without empty, `.` and `..` parts");
    }
    let known = |option: &str| match option.split_once('=') {
        Some(("size" | "mode" | "uid" | "gid" | "nr_inodes", value)) => {
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%')
        }
        Some(_) => false,
        None => matches!(option, "ro" | "rw" | "exec" | "noexec" | "suid" | "nosuid" | "dev" | "nodev"),
    };
    match options {
        Some(options) if !options.split(',').all(known) => rule("has options that are not known"),
        _ => Ok(()),
    }
}

/// An absolute path that says where it leads, and not the root.
pub fn is_clean(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
        && !path.contains(['\0', '\n', '\r'])
}

/// What docker takes for a volume's name.
fn is_name(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_machine_is_told_from_a_volume() {
        for (spec, expected) in [
            ("/data", Volume::Kept),
            ("data:/data", Volume::Kept),
            ("my.data_1-x:/var/lib/app:ro", Volume::Kept),
            ("data:/data:ro,nocopy", Volume::Kept),
            ("/srv/app:/app", Volume::Bind),
            ("/:/host:ro", Volume::Bind),
            ("/var/run/docker.sock:/var/run/docker.sock", Volume::Bind),
            ("/srv/ä b:/app:Z", Volume::Bind),
        ] {
            assert_eq!(volume(spec), Ok(expected), "{spec}");
        }
        for bad in [
            "",
            ":",
            ":/x",
            "data:",
            "data:rel",
            "data:/",
            "./x:/x",
            "../x:/x",
            ".:/x",
            "~/x:/x",
            "~:/x",
            "x/y:/x",
            "/srv/../etc:/x",
            "/srv//x:/x",
            "/srv/:/x",
            "a:/x",
            "-v:/x",
            "data:/x:shared",
            "data:/x:",
            "data:/x:ro:z",
            "C:\\x:/x",
            "da\nta:/x",
            "／etc:/x",
            "/etc\0:/x",
        ] {
            let message = volume(bad).expect_err(bad);
            assert!(message.contains("write it like") && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn memory_file_systems_take_known_options() {
        for good in ["/run", "/run:size=64m", "/run:rw,noexec,nosuid,size=10%,mode=1777"] {
            assert_eq!(tmpfs(good), Ok(()), "{good}");
        }
        for bad in ["", "run", "/", "/run:", "/run:bind", "/run:size=", "/run:size=1:x", "/run:src=/etc", "/a/../b"] {
            assert!(tmpfs(bad).is_err(), "{bad}");
        }
    }
}
