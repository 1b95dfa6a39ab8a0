"""graphile-worker from npm on a PostgreSQL of its own, tuned as its documentation advises: jobs in batches, a local queue,
many at once. Claim, run and complete only: no network hop, and no result is kept."""

import json

# The last that Node 20 runs.
PACKAGE = "graphile-worker@0.17.3"

SCRIPT = """
const { run, makeWorkerUtils } = require("graphile-worker");
const [url, jobs, light] = [process.argv[2], +process.argv[3], +process.argv[4]];
const now = () => Number(process.hrtime.bigint()) / 1e6;
const logger = new (require("graphile-worker").Logger)(() => () => {});
(async () => {
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  await utils.migrate();
  let done = 0, finished, started = [];
  const all = new Promise((resolve) => { finished = resolve; });
  const begun = now();
  for (let n = 0; n < jobs; n += 1000)
    await utils.addJobs(Array.from({ length: Math.min(1000, jobs - n) }, () => ({ identifier: "nothing", payload: {} })));
  const enqueued = now() - begun;
  const taskList = {
    nothing: async () => { if (++done === jobs) finished(); },
    light: async (payload) => { started.push(now() - payload.at); },
  };
  const preset = { worker: { connectionString: url, concurrentJobs: 24, localQueue: { size: 500 },
    completeJobBatchDelay: 0, failJobBatchDelay: 0, maxPoolSize: 12, logger } };
  const from = now();
  const runner = await run({ preset, taskList });
  await all;
  const burned = now() - from;
  for (let n = 0; n < light; n++) {
    await utils.addJob("light", { at: now() });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  await runner.stop();
  await utils.release();
  started.sort((a, b) => a - b);
  const at = (share) => started[Math.floor((started.length - 1) * share)];
  console.log(JSON.stringify({ enqueued: jobs / enqueued * 1e3, burned: jobs / burned * 1e3, p50: at(0.5), p99: at(0.99) }));
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
"""


def measure(place):
    home = place.npm(PACKAGE)
    url = place.postgres()
    (home / "burn.js").write_text(SCRIPT)
    jobs, light = ("10000", "100") if place.quick else ("50000", "500")
    found = json.loads(place.run(["node", "burn.js", url, jobs, light], cwd=home).strip().splitlines()[-1])
    version = json.loads((home / "node_modules/graphile-worker/package.json").read_text())["version"]
    return version, {
        "burn_down_per_s": (found["burned"], "/s"),
        "enqueued_in_batches_per_s": (found["enqueued"], "/s"),
        "enqueue_to_start_p50_ms": (found["p50"], "ms"),
        "enqueue_to_start_p99_ms": (found["p99"], "ms"),
    }
