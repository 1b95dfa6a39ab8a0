"""graphile_worker, the crate, on a PostgreSQL of its own: compiled for release in the temporary folder, which takes some
minutes. Claim, run and complete only: no network hop, and no result is kept."""

import json
import os
import shutil
from pathlib import Path

VERSION = "0.14.1"


def measure(place):
    home = place.folder / "burn"
    shutil.copytree(Path(__file__).parent / "graphile_worker", home)
    # As anywhere else: no profile, flag or target folder of whoever started this.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_")}
    kept = os.environ.get("CARGO_HOME")
    if kept:
        environment["CARGO_HOME"] = kept
    place.run(["cargo", "build", "--release", "--quiet"], cwd=home, env=environment)
    url = place.postgres()
    jobs = "10000" if place.quick else "50000"
    found = json.loads(place.run([home / "target/release/burn", url, jobs]).strip().splitlines()[-1])
    return VERSION, {
        "burn_down_per_s": (found["burned"], "/s"),
        "enqueued_in_batches_per_s": (found["enqueued"], "/s"),
    }
