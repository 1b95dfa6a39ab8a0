"""A temporary folder with what was installed into it and started in it; everything ends with it, by process id."""

import os
import shutil
import signal
import socket
import statistics
import subprocess
import time
from pathlib import Path


class Skipped(Exception):
    """This peer cannot be had here, and why."""


class Place:
    def __init__(self, folder, quick):
        self.folder = Path(folder)
        self.folder.chmod(0o755)
        self.quick = quick
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            self.end(process)

    def run(self, command, **more):
        """Runs to the end; answers with its output, and skips the peer when it cannot."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, **more)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Skipped(f"`{command[0]}`: {error}") from error
        if done.returncode != 0:
            raise Skipped(f"`{' '.join(map(str, command[:4]))}` ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def start(self, command, log, **more):
        """Starts a process in a group of its own; `log` gets what it says."""
        if shutil.which(str(command[0])) is None:
            raise Skipped(f"no `{command[0]}` on this machine")
        with open(self.folder / log, "wb") as out:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, **more,
            )
        self.started.append(process)
        return process

    def end(self, process):
        """Ends it and what it started, the whole group."""
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sent)
            except ProcessLookupError:
                break
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                continue
        if process in self.started:
            self.started.remove(process)

    def npm(self, *packages):
        """Installs packages; answers with the folder to run from."""
        if shutil.which("npm") is None:
            raise Skipped("no npm on this machine")
        home = self.folder / "npm"
        home.mkdir(exist_ok=True)
        (home / "package.json").write_text('{"private": true}')
        self.run(["npm", "install", "--no-audit", "--no-fund", "--silent", *packages], cwd=home)
        return home

    def pip(self, *packages):
        """Installs packages into an environment; answers with its folder of programs."""
        home = self.folder / "python"
        self.run(["python3", "-m", "venv", home])
        pip = [home / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
        self.run([*pip, *packages])
        return home / "bin"

    def postgres(self):
        """A PostgreSQL of its own with its default durability; answers with its address."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            raise Skipped("no PostgreSQL server here: apt-get install postgresql")
        data, port = self.folder / "postgres", free_port()
        data.mkdir()
        user = {}
        if os.geteuid() == 0:
            # It refuses to run as root.
            shutil.chown(data, "postgres", "postgres")
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        environment = {"PATH": f"{found[-1]}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        more = {"env": environment, "cwd": data, **user}
        self.run([found[-1] / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], **more)
        options = f"-k {data} -c listen_addresses=127.0.0.1 -c port={port} -c shared_buffers=256MB -c max_connections=200"
        self.start([found[-1] / "postgres", "-D", data, *options.split()], "postgres.log", **more)
        until(lambda: connects(port), 60, "PostgreSQL listens")
        return f"postgres://postgres@127.0.0.1:{port}/postgres"


def rss_mib(process):
    """Memory of it and of what it started, as pages each of them has."""
    pages = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                group = (entry / "stat").read_text().rsplit(")", 1)[1].split()[2]
                if int(group) == process.pid:
                    pages += int((entry / "statm").read_text().split()[1])
            except (OSError, IndexError):
                continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def until(holds, seconds, what, process=None):
    """Waits until `holds()`, which is what is answered; not for a process that has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        if process is not None and process.poll() is not None:
            raise Skipped(f"it ended with {process.returncode} before: {what}")
        time.sleep(0.05)
    raise Skipped(f"not within {seconds} s: {what}")


def quantile(values, share):
    """The value that this share is no larger than."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def middle(values):
    return statistics.median(values)
