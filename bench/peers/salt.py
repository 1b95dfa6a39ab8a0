"""Salt from PyPI: one master and ten minions with their faster setting, `cmd.run` by a client that stays in its process.
Nothing is durable: an order to a minion that is away is forgotten."""

import json
import os

from place import free_port, until

PACKAGE = "salt==3008.3"
MINIONS = 10

CLIENT = """
import concurrent.futures, json, sys, time
import salt.client
seconds, minions = float(sys.argv[2]), int(sys.argv[3])
local = salt.client.LocalClient(c_path=sys.argv[1])
names = [f"minion-{n}" for n in range(minions)]
end = time.monotonic() + 120
while len(local.cmd("*", "test.ping", timeout=5)) < minions:
    if time.monotonic() > end:
        sys.exit("minions are missing")
took, end = [], time.monotonic() + seconds
while time.monotonic() < end:
    began = time.monotonic()
    answer = local.cmd("minion-0", "cmd.run", ["true"], timeout=20)
    assert "minion-0" in answer, answer
    took.append(time.monotonic() - began)
took = sorted(took[1:])
# One client in flight for each minion has it collapse; one that submits and collects is its best.
begun, jobs = time.monotonic(), []
while time.monotonic() < begun + seconds:
    for name in names:
        jobs.append((name, local.cmd_async(name, "cmd.run", ["true"])))
    for name, job in jobs[-minions:]:
        for _ in local.get_cli_returns(job, {name}, timeout=20):
            break
rate = len(jobs) / (time.monotonic() - begun)
pings = []
for _ in range(5):
    began = time.monotonic()
    assert len(local.cmd("*", "test.ping", timeout=20)) == minions
    pings.append(time.monotonic() - began)
print(json.dumps({"p50": took[len(took) // 2], "p90": took[len(took) * 9 // 10], "rate": rate, "all": sorted(pings)[2]}))
"""


def measure(place):
    programs = place.pip(PACKAGE)
    publish, answers = free_port(), free_port()
    root = place.folder / "fleet"

    def settings(name, more):
        folder = root / name
        folder.mkdir(parents=True)
        paths = {"root_dir": str(folder), "pki_dir": str(folder / "pki"), "cachedir": str(folder / "cache"),
                 "sock_dir": str(folder / "sock"), "log_file": str(folder / "log"), "pidfile": str(folder / "pid"),
                 "conf_file": str(folder / name), "user": "root" if os.geteuid() == 0 else os.environ.get("USER", ""),
                 "log_level": "warning"}
        kind = "master" if name == "master" else "minion"
        (folder / kind).write_text(json.dumps({**paths, **more}))
        return folder

    master = settings("master", {"interface": "127.0.0.1", "publish_port": publish, "ret_port": answers,
                                 "auto_accept": True, "worker_threads": 3})
    place.start([programs / "salt-master", "-c", master], "master.log")
    for number in range(MINIONS):
        name = f"minion-{number}"
        minion = settings(name, {"id": name, "master": "127.0.0.1", "publish_port": publish, "master_port": answers,
                                 "multiprocessing": False, "grains_cache": True})
        place.start([programs / "salt-minion", "-c", minion], f"{name}.log")
    accepted = master / "pki/minions"
    until(lambda: accepted.is_dir() and len(list(accepted.iterdir())) == MINIONS, 180, "minions are accepted")
    (place.folder / "client.py").write_text(CLIENT)
    seconds = "5" if place.quick else "20"
    client = [programs / "python", place.folder / "client.py", master / "master", seconds, str(MINIONS)]
    found = json.loads(place.run(client).strip().splitlines()[-1])
    return PACKAGE.split("=")[-1], {
        "commands_per_s": (found["rate"], "/s"),
        "p50_ms": (found["p50"] * 1e3, "ms"),
        "p90_ms": (found["p90"] * 1e3, "ms"),
        "ping_of_all_ms": (found["all"] * 1e3, "ms"),
    }
