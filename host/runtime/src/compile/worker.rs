//! The compiler in a process of its own: the parent's side, which sets the wall clock and kills, and
//! the child's side, which limits itself before it reads a byte.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use wasmtime::Engine;

use super::CompileFault;
use super::artefact::Artefact;
use crate::engine;
use crate::refusal::Code;
use crate::tier::Tier;

/// Tells the child what it compiles.
const TIER: &str = "VIWORKS_COMPILE_TIER";
/// Most bytes of machine code.
const MAX_ARTEFACT: u64 = 128 * 1024 * 1024;
/// Most bytes of complaint that are read.
const MAX_COMPLAINT: u64 = 4096;

/// Compiles `wasm` in a child.
pub(super) fn run(program: &Path, args: &[String], wasm: &[u8], tier: Tier) -> Result<Artefact, CompileFault> {
    run_within(program, args, wasm, tier, tier.compile_wall())
}

fn run_within(
    program: &Path,
    args: &[String],
    wasm: &[u8],
    tier: Tier,
    wall: Duration,
) -> Result<Artefact, CompileFault> {
    let mut command = Command::new(program);
    // The child needs nothing of ours but its three streams; secrets in the environment stay here.
    command
        .args(args)
        .env_clear()
        .env(TIER, tier.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let message = format!("compile worker `{}` cannot be started: {error}", program.display());
        CompileFault { code: Code::CompileUnavailable, message }
    })?;
    let answered = thread::scope(|scope| {
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = streams else { return None };
        // A child that stops reading is found out by the clock; a broken pipe by its exit.
        scope.spawn(move || stdin.write_all(wasm));
        let (send, receive) = mpsc::channel();
        let code = scope.spawn(move || {
            let code = read(stdout, MAX_ARTEFACT);
            // Nobody listens any more when the clock was faster.
            _ = send.send(());
            code
        });
        let complaint = scope.spawn(move || read(stderr, MAX_COMPLAINT));
        let in_time = receive.recv_timeout(wall).is_ok();
        if !in_time {
            kill(&mut child);
        }
        let code = code.join().ok()?;
        let complaint = complaint.join().ok()?;
        in_time.then_some((code, complaint))
    });
    let Some((code, complaint)) = answered else {
        kill(&mut child);
        _ = child.wait();
        return Err(CompileFault::limit(format!("compiling took longer than {} s", wall.as_secs_f32())));
    };
    let status = child.wait().map_err(|error| CompileFault::failed(format!("compile worker is lost: {error}")))?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
        return Err(match status.code() {
            Some(_) if !complaint.is_empty() && !complaint.contains("memory allocation of") => {
                CompileFault::failed(complaint)
            }
            _ => CompileFault::limit(format!(
                "compile worker ended with {status}, over its limit of memory or processor time"
            )),
        });
    }
    if code.is_empty() {
        return Err(CompileFault::failed("compile worker answered nothing"));
    }
    Ok(Artefact::vouched(code))
}

fn kill(child: &mut Child) {
    if let Err(error) = child.kill() {
        tracing::warn!(error = %error, "compile worker cannot be killed");
    }
}

fn read(from: impl Read, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What could not be read is missing from the answer, and the exit status says why.
    _ = from.take(most).read_to_end(&mut bytes);
    bytes
}

/// The child's whole life: limits itself, reads wasm from standard input, writes machine code to
/// standard output, or a complaint to standard error and fails. Call it first thing in `main`.
pub fn compile_worker_main() -> ExitCode {
    match compile_stdin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::FAILURE
        }
    }
}

fn compile_stdin() -> Result<(), String> {
    let tier = match std::env::var(TIER) {
        Ok(said) if said == Tier::Compat.as_str() => Tier::Compat,
        Ok(_) | Err(_) => Tier::Native,
    };
    for (resource, limit) in [
        (Resource::RLIMIT_AS, tier.compile_bytes()),
        (Resource::RLIMIT_CPU, tier.compile_time().as_secs()),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, limit, limit).map_err(|error| format!("compile worker cannot limit itself: {error}"))?;
    }
    let mut wasm = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut wasm)
        .map_err(|error| format!("compile worker cannot read its input: {error}"))?;
    let mut config = engine::config(tier);
    // One thread: the limits above then mean what they say, and other cores stay free for requests.
    config.parallel_compilation(false);
    let engine = Engine::new(&config).map_err(|error| error.to_string())?;
    let code = engine.precompile_component(&wasm).map_err(|error| error.root_cause().to_string())?;
    let mut out = io::stdout().lock();
    out.write_all(&code)
        .and_then(|()| out.flush())
        .map_err(|error| format!("compile worker cannot write its output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(script: &str, wall: Duration) -> CompileFault {
        let args = ["-c".to_owned(), script.to_owned()];
        match run_within(Path::new("/bin/sh"), &args, b"wasm", Tier::Native, wall) {
            Ok(_) => panic!("`{script}` gave an artefact"),
            Err(fault) => fault,
        }
    }

    #[test]
    fn a_worker_that_hangs_is_killed_and_gone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pid = dir.path().join("pid");
        // It says who it is before it hangs; a wall that is too short for that is made longer.
        for wall in [200, 1_000, 10_000].map(Duration::from_millis) {
            let script = format!("echo $$ > {}; exec tail -f /dev/null", pid.display());
            let fault = fault(&script, wall);
            assert_eq!(fault.code, Code::CompileLimit, "{fault}");
            let Ok(text) = std::fs::read_to_string(&pid) else { continue };
            let Ok(number) = text.trim().parse::<u32>() else { continue };
            assert!(!Path::new(&format!("/proc/{number}")).exists(), "process {number} is still there");
            return;
        }
        panic!("the worker never came to run");
    }

    #[test]
    fn a_worker_that_dies_or_complains_gives_no_artefact() {
        let wall = Duration::from_secs(20);
        assert_eq!(fault("kill -KILL $$", wall).code, Code::CompileLimit);
        let complained = fault("echo function 3 is wrong >&2; exit 1", wall);
        assert_eq!((complained.code, complained.message.as_str()), (Code::CompileFailed, "function 3 is wrong"));
        assert_eq!(fault("exit 0", wall).code, Code::CompileFailed);
    }

    #[test]
    fn a_worker_that_cannot_be_started_is_named() {
        let fault = run(Path::new("/nonexistent/worker"), &[], b"", Tier::Native).err().expect("no artefact");
        assert!(fault.message.contains("/nonexistent/worker"), "{fault}");
    }
}
