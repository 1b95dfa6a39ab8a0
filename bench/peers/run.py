#!/usr/bin/env python3
"""Installs peers of ViWorkS from package registries into a temporary folder, measures the same shapes of work with them
on this machine, and prints one JSON line for each figure: {"peer", "figure", "value", "unit", "conditions"}.

    bench/peers/run.py [--quick] [--json FILE] [PEER …]

A peer that cannot be installed or does not start is skipped by name: a line whose value is null and that says why.
None of them keeps a command as durably as ViWorkS does, but for the queues in PostgreSQL, which pay neither for a
network hop nor for a result; `viworks-bench table` puts the figures beside ours.
"""

import argparse
import json
import os
import sys
import tempfile
import traceback

import graphile_crate
import graphile_node
import meshcentral
import nats
import salt
from place import Place, Skipped

# Name, what measures it, and the figure that a skip stands for.
PEERS = [
    ("nats-server", nats.measure, "request_p50_ms"),
    ("graphile-worker", graphile_node.measure, "burn_down_per_s"),
    ("graphile_worker", graphile_crate.measure, "burn_down_per_s"),
    ("Salt", salt.measure, "commands_per_s"),
    ("MeshCentral", meshcentral.measure, "commands_per_s"),
]


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--quick", action="store_true", help="a short look at each")
    asked.add_argument("--json", help="append the lines to this file as well")
    asked.add_argument("peer", nargs="*", help="only these: " + ", ".join(name for name, _, _ in PEERS))
    asked = asked.parse_args()
    for name, measure, stands_for in PEERS:
        if asked.peer and name not in asked.peer:
            continue
        with tempfile.TemporaryDirectory(prefix="viworks-peer-") as folder, Place(folder, asked.quick) as place:
            try:
                before = os.getloadavg()[0]
                version, figures = measure(place)
                conditions = {
                    "version": version,
                    "load_before": round(before, 2),
                    "load_after": round(os.getloadavg()[0], 2),
                    "cores": os.cpu_count(),
                    "quick": asked.quick,
                }
                for figure, (value, unit) in figures.items():
                    line = {"peer": name, "figure": figure, "value": round(value, 4), "unit": unit}
                    tell({**line, "conditions": conditions}, asked.json)
            except Skipped as why:
                tell({"peer": name, "figure": stands_for, "value": None, "skipped": str(why)}, asked.json)
            except Exception as error:  # One peer's fault is not the others'.
                traceback.print_exc(file=sys.stderr)
                why = f"failed: {type(error).__name__}: {error}"
                tell({"peer": name, "figure": stands_for, "value": None, "skipped": why[:300]}, asked.json)


def tell(line, file):
    text = json.dumps(line)
    print(text, flush=True)
    if file:
        with open(file, "a", encoding="utf-8") as results:
            results.write(text + "\n")


if __name__ == "__main__":
    main()
