//! What docker says when it will not, in words that say what to do.
//!
//! Invariant: nothing is judged by these words but who failed, docker or the program it ran; an unknown
//! complaint is passed on as it is.

use viworks_sdk::outputs::{Outputs, cut, cut_last, one_line};

use crate::spelling::short;

/// Longest summary that is passed on as docker wrote it, bytes.
const LONGEST: usize = 300;

/// How the line begins with which docker gives up.
const FINAL: &[&str] = &[
    "docker: ",
    "Error response from daemon: ",
    "Error: ",
    "ERROR: ",
    "Cannot connect to the Docker daemon",
    "permission denied while trying to connect",
    "Got permission denied while trying to connect",
    "error during connect: ",
    "OCI runtime exec failed: ",
    "unable to find user ",
    "unknown flag: ",
    "unknown shorthand flag: ",
];

/// What docker keeps.
const KINDS: &[&str] = &["container", "image", "network", "volume"];

/// Whether `line` is one with which docker itself gives up.
pub fn is_final(line: &str) -> bool {
    FINAL.iter().any(|start| line.starts_with(start))
}

/// Whether only docker itself would say `line`, and not a program that it ran.
pub fn is_dockers(line: &str) -> bool {
    line.starts_with("Error response from daemon: ") || missing(line).is_some() || unreachable(line).is_some()
}

/// Whether what docker said is that it did not reach its engine.
pub fn is_about_engine(stderr: &str) -> bool {
    stderr.lines().any(|line| unreachable(bare(line)).is_some())
}

/// What to say when the engine went away under a command that was on its way: `why` finds that in docker's
/// last line. Only the very last is docker's for sure; what it passed on from others stands before.
pub fn engine_went_away(stderr: &str, why: fn(&str) -> Option<&str>) -> Option<String> {
    let line = stderr.lines().rfind(|line| !line.trim().is_empty())?.trim();
    let why = why(line)?;
    Some(format!("the docker engine went away meanwhile ({why}): what became of it is to be seen when it is back"))
}

/// Why docker gave up, as one line; `None` when it said nothing.
pub fn explain(stderr: &str) -> Option<String> {
    let lines = || stderr.lines().filter(|line| !is_noise(line));
    let line = lines().find(|line| is_final(line)).or_else(|| lines().next_back())?;
    Some(reword(line))
}

/// Docker's last word, after what others printed; `None` when it said nothing.
pub fn last(stderr: &str) -> Option<String> {
    stderr.lines().rfind(|line| !is_noise(line)).map(reword)
}

/// One complaint in better words, if there are better ones.
pub fn reword(line: &str) -> String {
    let line = bare(line);
    match better(line) {
        Some(words) => one_line(&words, LONGEST),
        None => one_line(line, LONGEST),
    }
}

/// The name that docker could not find, if that is what `line` says.
pub fn missing(line: &str) -> Option<String> {
    let line = bare(line);
    KINDS.iter().find_map(|kind| named(line, kind)).map(|name| name.trim_start_matches('/').to_owned())
}

/// All names that docker could not find.
pub fn all_missing(out: &Outputs) -> Vec<String> {
    let mut names = Vec::new();
    for line in out.stderr().lossy().lines() {
        names.extend(missing(line));
    }
    names
}

/// Hints at how to use docker, progress, and log lines of the client.
fn is_noise(line: &str) -> bool {
    let line = line.trim();
    line.is_empty()
        || line.starts_with("See 'docker")
        || line.starts_with("Run 'docker")
        || line.starts_with("time=\"")
        || line.starts_with("Flag --")
        || line.starts_with("WARNING")
        || line.starts_with("DEPRECATED:")
        || line.starts_with("Install the buildx")
        || line.starts_with("https://docs.docker.com")
        || line.starts_with('#')
        || line.starts_with("------")
}

/// Without the names of those who pass the complaint on.
fn bare(line: &str) -> &str {
    let mut line = line.trim();
    for prefix in ["docker: ", "Error response from daemon: ", "Error: ", "ERROR: "] {
        line = line.strip_prefix(prefix).unwrap_or(line);
    }
    // What the runtime says comes through five hands, and each says so.
    let start = "unable to start container process: ";
    let line = cut_last(line, start).map_or(line, |(_, said)| said);
    let line = line.trim_end_matches('.');
    line.strip_suffix(": unknown").unwrap_or(line)
}

fn better(line: &str) -> Option<String> {
    if let Some(words) = unreachable(line) {
        return Some(words);
    }
    for what in KINDS {
        if let Some(name) = named(line, what) {
            return Some(format!("there is no {what} `{}` on this machine", name.trim_start_matches('/')));
        }
    }
    if let Some(name) = line.strip_prefix("network ").and_then(|rest| rest.strip_suffix(" not found")) {
        return Some(format!("there is no network `{name}` on this machine"));
    }
    if line.starts_with("Conflict. The container name ") {
        let (name, owner) = (quoted(line, 0)?.trim_start_matches('/'), short(quoted(line, 1)?));
        return Some(format!("the name `{name}` is taken by container {owner}: remove it or choose another name"));
    }
    if line.starts_with("You cannot remove a running container") || has(line, "container is running: stop the") {
        return Some("it is running: stop it first, or say `force`".to_owned());
    }
    if let Some(id) = line.strip_prefix("Container ").and_then(|rest| rest.strip_suffix(" is not running")) {
        return Some(format!("container {} is not running: start it, or name one that is", short(id)));
    }
    if let Some(id) = between(line, "Container ", " is paused") {
        return Some(format!("container {} is paused: unpause it first", short(id)));
    }
    if has(line, "port is already allocated") || has(line, "bind: address already in use") {
        let port = between(line, "Bind for ", " failed").or_else(|| between(line, "listen tcp4 ", ": bind"));
        let port = port.or_else(|| between(line, "failed to bind host port for ", ":"));
        return Some(match port {
            Some(port) => format!("port {port} of the machine is already in use: publish another, or stop what has it"),
            None => format!("a port of the machine is already in use: {line}"),
        });
    }
    if let Some(directory) = between(line, "chdir to cwd (\"", "\")") {
        return Some(format!("there is no directory `{directory}` in the container"));
    }
    if let (Some(source), Some(target)) =
        (between(line, "error mounting \"", "\""), between(line, "rootfs at \"", "\""))
    {
        return Some(match has(line, "not a directory") {
            true => format!("`{source}` cannot be mounted at `{target}`: one is a directory and the other a file"),
            false => format!("`{source}` cannot be mounted at `{target}`: {}", last_part(line)),
        });
    }
    if has(line, "executable file not found in $PATH") || line.ends_with(": no such file or directory") {
        let program = between(line, "exec: \"", "\"").or_else(|| between(line, "stat ", ":"));
        if let Some(program) = program {
            return Some(format!("there is no program `{program}` in the container"));
        }
    }
    if let Some(program) = between(line, "exec: \"", "\": permission denied") {
        return Some(format!("`{program}` in the container is not a program that may be run"));
    }
    if let Some(rest) = line.strip_prefix("unable to find user ") {
        return Some(format!("there is no user `{}` in the container", rest.split(':').next().unwrap_or(rest)));
    }
    if let Some(flag) = line.strip_prefix("unknown flag: ") {
        return Some(format!(
            "docker on this machine is too old to know `{flag}`: leave out that argument, or update it"
        ));
    }
    from_registry(line)
}

fn last_part(line: &str) -> &str {
    cut_last(line, ": ").map_or(line, |(_, last)| last)
}

/// Why an image cannot be had.
fn from_registry(line: &str) -> Option<String> {
    if let Some(image) = between(line, "pull access denied for ", ",") {
        return Some(format!("image `{image}` cannot be pulled: it does not exist, or its registry asks for a login"));
    }
    if let Some(image) = between(line, "manifest for ", " not found") {
        return Some(format!("the registry has no image `{image}`"));
    }
    if has(line, "no space left on device") {
        return Some(format!("the machine's disk is full: {line}"));
    }
    let rest = line.strip_prefix("Get \"").or_else(|| line.strip_prefix("Head \""))?;
    let (registry, rest) = cut(rest, "/v2/")?;
    let why = cut(rest, "\": ").map_or("", |(_, why)| why);
    let registry = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    Some(match has(why, "unauthorized") || has(why, "no basic auth credentials") {
        true => format!("the registry {registry} asks for a login: log docker in there, as the agent's user"),
        false => format!("the registry {registry} cannot be reached: {why}"),
    })
}

fn unreachable(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("Cannot connect to the Docker daemon at ") {
        let at = cut(rest, ". Is the docker").map_or(rest, |(at, _)| at);
        return Some(format!(
            "the docker engine at {at} does not answer: start it, or mend `container_engine.endpoint` in the agent's configuration"
        ));
    }
    if has(line, "permission denied while trying to connect to the ") {
        let at = between(line, "socket at ", ": ").or_else(|| between(line, "API at ", ": ")).unwrap_or("its socket");
        return Some(format!(
            "the agent may not use the docker engine at {at}: let its user into the group that owns the socket"
        ));
    }
    let rest = line.strip_prefix("error during connect: ")?;
    Some(format!("the docker engine does not answer: {rest}"))
}

/// The name in `No such container: web`.
fn named<'a>(line: &'a str, what: &str) -> Option<&'a str> {
    let rest = line.strip_prefix("No such ")?;
    let rest = rest.strip_prefix(what).or_else(|| rest.strip_prefix("object"))?;
    rest.strip_prefix(": ")
}

/// The text between the `index`th pair of double quotes.
fn quoted(line: &str, index: usize) -> Option<&str> {
    line.split('"').nth(2 * index + 1)
}

fn has(line: &str, words: &str) -> bool {
    cut(line, words).is_some()
}

/// The text after the first `before`, up to the next `after`.
pub fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = cut(line, before)?;
    cut(rest, after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every complaint here was printed by a docker client: 20.10 or 28.2.
    #[test]
    fn complaints_say_what_to_do() {
        for (said, meant) in [
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n",
                "the docker engine at unix:///var/run/docker.sock does not answer: start it, or mend \
                 `container_engine.endpoint` in the agent's configuration",
            ),
            (
                "docker: Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?.\nSee 'docker run --help'.\n",
                "the docker engine at unix:///x does not answer: start it, or mend `container_engine.endpoint` in the \
                 agent's configuration",
            ),
            (
                "permission denied while trying to connect to the Docker daemon socket at unix:///x.sock: Get \
                 \"http://%2Fx/v1.24/containers/json\": dial unix /x.sock: connect: permission denied",
                "the agent may not use the docker engine at unix:///x.sock: let its user into the group that owns the \
                 socket",
            ),
            ("Error response from daemon: No such container: nosuch", "there is no container `nosuch` on this machine"),
            ("Error: No such image: nosuch", "there is no image `nosuch` on this machine"),
            (
                "docker: Error response from daemon: No such image: nosuch:1.\nSee 'docker run --help'.",
                "there is no image `nosuch:1` on this machine",
            ),
            (
                "docker: Error response from daemon: Conflict. The container name \"/web\" is already in use by container \
                 \"ffe46f765ccbee34f8ce8a79a592232f6b88aa7172f4b71b1809f45f61d75520\". You have to remove (or rename) \
                 that container to be able to reuse that name.\n\nRun 'docker run --help' for more information\n",
                "the name `web` is taken by container ffe46f765ccb: remove it or choose another name",
            ),
            (
                "Error response from daemon: You cannot remove a running container ffe46f765ccb. Stop the container \
                 before attempting removal or force remove",
                "it is running: stop it first, or say `force`",
            ),
            (
                "Error response from daemon: Container 6ad1af7a634fd458308a814ca6abee3bf7993a058f32717133229cfaab843bdc is \
                 not running",
                "container 6ad1af7a634f is not running: start it, or name one that is",
            ),
            (
                "docker: Error response from daemon: driver failed programming external connectivity on endpoint web \
                 (1f): Bind for 0.0.0.0:8080 failed: port is already allocated.",
                "port 0.0.0.0:8080 of the machine is already in use: publish another, or stop what has it",
            ),
            (
                "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create \
                 failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: \
                 unknown.\ntime=\"2026-11-24T04:09:56Z\" level=error msg=\"error waiting for container: context canceled\"",
                "there is no program `nosuch` in the container",
            ),
            (
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/bin\": permission \
                 denied: unknown",
                "`/bin` in the container is not a program that may be run",
            ),
            (
                "OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd (\"/tmp\") set in \
                 config.json failed: no such file or directory: unknown",
                "there is no directory `/tmp` in the container",
            ),
            (
                "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create \
                 failed: unable to start container process: unable to apply caps: operation not permitted: unknown.",
                "unable to apply caps: operation not permitted",
            ),
            (
                "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create \
                 failed: unable to start container process: error during container init: error mounting \"/srv/file\" to \
                 rootfs at \"/bin\": mount /srv/file:/bin (via /proc/self/fd/6), flags: 0x5000: not a directory: unknown: \
                 Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists \
                 and is the expected type.",
                "`/srv/file` cannot be mounted at `/bin`: one is a directory and the other a file",
            ),
            (
                "unable to find user nobodyx: no matching entries in passwd file",
                "there is no user `nobodyx` in the container",
            ),
            (
                "Unable to find image 'nosuch:1' locally\ndocker: Error response from daemon: Get \
                 \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host.\nSee 'docker run --help'.",
                "the registry registry.example cannot be reached: dial tcp: lookup registry.example: no such host",
            ),
            (
                "Error response from daemon: Get \"http://localhost:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                "the registry localhost:1 cannot be reached: dial tcp 127.0.0.1:1: connect: connection refused",
            ),
            (
                "docker: Error response from daemon: pull access denied for x, repository does not exist or may require \
                 'docker login': denied: requested access to the resource is denied.",
                "image `x` cannot be pulled: it does not exist, or its registry asks for a login",
            ),
            (
                "docker: Error response from daemon: network nosuch not found.",
                "there is no network `nosuch` on this machine",
            ),
            (
                "Error response from daemon: Head \"http://localhost:5000/v2/x/manifests/1\": no basic auth credentials",
                "the registry localhost:5000 asks for a login: log docker in there, as the agent's user",
            ),
            (
                "unknown flag: --pull\nSee 'docker run --help'.",
                "docker on this machine is too old to know `--pull`: leave out that argument, or update it",
            ),
            (
                "DEPRECATED: The legacy builder is deprecated and will be removed in a future release.\n            \
                 Install the buildx component to build images with BuildKit:\n            \
                 https://docs.docker.com/go/buildx/\n\nThe command '/bin/sh -c false' returned a non-zero code: 1",
                "The command '/bin/sh -c false' returned a non-zero code: 1",
            ),
        ] {
            assert_eq!(explain(said).as_deref(), Some(meant));
        }
        assert_eq!(explain("\n\n"), None);
    }

    #[test]
    fn only_the_last_line_tells_that_the_engine_went_away() {
        fn why(line: &str) -> Option<&str> {
            (line == "unexpected EOF").then_some(line)
        }
        let words =
            "the docker engine went away meanwhile (unexpected EOF): what became of it is to be seen when it is back";
        assert_eq!(engine_went_away("tick\nunexpected EOF\n\n", why).as_deref(), Some(words));
        for said in ["", "unexpected EOF\nthen more\n", "curl: unexpected EOF\n"] {
            assert_eq!(engine_went_away(said, why), None, "{said}");
        }
    }

    #[test]
    fn a_programs_own_words_are_not_dockers() {
        for line in ["error: no such file", "ls: /x: No such file or directory", "  Error: indented", ""] {
            assert!(!is_final(line), "{line}");
        }
    }
}
