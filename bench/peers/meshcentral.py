"""MeshCentral from npm: its server, ten of its own agents, and a client that stays connected and has a shell run `true` on
one of them. Nothing is durable: an order to an agent that is away is forgotten, and one that is busy drops it."""

import json
import os
import shutil
import ssl
import urllib.request

from place import Skipped, connects, free_port, rss_mib, until

PACKAGE = "meshcentral@1.1.55"
AGENTS = 10
WHO = ("bench", "Correct-horse-7")

CLIENT = """
const WebSocket = require("ws");
const [url, user, pass, agents, seconds] = process.argv.slice(2);
const b64 = (text) => Buffer.from(text).toString("base64");
const ws = new WebSocket(url, { rejectUnauthorized: false, headers: { "x-meshauth": b64(user) + "," + b64(pass) } });
const now = () => Number(process.hrtime.bigint()) / 1e6;
const waiting = new Map();
let nodes = null, number = 0;
ws.on("message", (data) => {
  const said = JSON.parse(data);
  if (said.action === "nodes" && nodes) nodes(Object.values(said.nodes).flat().filter((node) => node.conn & 1));
  if (said.action === "msg" && said.type === "runcommands") {
    const done = waiting.get(said.responseid);
    if (done) { waiting.delete(said.responseid); done(); }
  }
});
const once = (node) => new Promise((resolve, reject) => {
  const responseid = `b${++number}`;
  const late = setTimeout(() => { waiting.delete(responseid); reject(new Error("no answer in 10 s")); }, 10000);
  waiting.set(responseid, () => { clearTimeout(late); resolve(); });
  ws.send(JSON.stringify({ action: "runcommands", nodeids: [node], type: 0, cmds: "true", runAsUser: 0, reply: true, responseid }));
});
ws.on("open", async () => {
  try {
    let all = [];
    for (const end = now() + 120000; all.length < +agents;) {
      if (now() > end) throw new Error(`${all.length} of ${agents} agents`);
      await new Promise((resolve) => setTimeout(resolve, 500));
      all = await new Promise((resolve) => { nodes = resolve; ws.send(JSON.stringify({ action: "nodes" })); });
    }
    all = all.map((node) => node._id);
    const took = [];
    for (const end = now() + seconds * 1000; now() < end;) {
      const began = now();
      await once(all[0]);
      took.push(now() - began);
    }
    took.splice(0, 5);
    took.sort((a, b) => a - b);
    let done = 0;
    const began = now(), end = began + seconds * 1000;
    await Promise.all(all.map(async (node) => { while (now() < end) { await once(node); done++; } }));
    const rate = done / (now() - began) * 1e3;
    const whole = [];
    for (let n = 0; n < 10; n++) { const at = now(); await Promise.all(all.map(once)); whole.push(now() - at); }
    whole.sort((a, b) => a - b);
    const at = (share) => took[Math.floor((took.length - 1) * share)];
    console.log(JSON.stringify({ p50: at(0.5), p90: at(0.9), rate, all: whole[5] }));
    process.exit(0);
  } catch (error) { console.error(error.message); process.exit(1); }
});
ws.on("error", (error) => { console.error(error.message); process.exit(1); });
"""


def measure(place):
    if os.uname().machine != "x86_64":
        raise Skipped("its agent is taken for x86-64 alone here")
    home = place.npm(PACKAGE)
    package = home / "node_modules/meshcentral"
    data, port = place.folder / "data", free_port()
    data.mkdir()
    settings = {
        "cert": "127.0.0.1", "port": port, "aliasPort": port, "exactPorts": True, "redirPort": 0, "mpsPort": 0,
        "WANonly": True, "selfUpdate": False, "agentPing": 120, "noUsers": False, "maxInvalidLogin": False,
        "autoBackup": False,
        # Nobody outside of this machine is asked for anything.
        "signAgents": False, "agentTimeStampServer": False,
    }
    (data / "config.json").write_text(json.dumps({"settings": settings, "domains": {"": {"newAccounts": False}}}))
    command = ["node", package / "meshcentral.js", "--datapath", data, "--filespath", place.folder / "files"]
    environment = {**os.environ, "NODE_ENV": "production"}
    for words in (["--createaccount", WHO[0], "--pass", WHO[1]], ["--adminaccount", WHO[0]]):
        place.run([*command, *words], cwd=home, env=environment)
    server = place.start(command, "server.log", cwd=home, env=environment)
    until(lambda: connects(port), 180, "MeshCentral listens", server)
    url = f"wss://127.0.0.1:{port}"
    login = ["--url", url, "--loginuser", WHO[0], "--loginpass", WHO[1]]
    told = place.run(["node", package / "meshctrl.js", "adddevicegroup", "--name", "bench", *login], cwd=home)
    if "mesh//" not in told:
        raise Skipped(f"no device group: {told.strip()[-200:]}")
    group = told.split("mesh//")[1].split()[0]

    settings = fetched(f"https://127.0.0.1:{port}/meshsettings?id={group}")
    for number in range(AGENTS):
        folder = place.folder / f"agent-{number}"
        folder.mkdir()
        program = folder / "meshagent"
        shutil.copy(package / "agents/meshagent_x86-64", program)
        program.chmod(0o755)
        (folder / "meshagent.msh").write_bytes(settings + f"\nagentName=machine-{number}\n".encode())
        place.start([program], f"agent-{number}.log", cwd=folder)
    (home / "client.js").write_text(CLIENT)
    seconds = "5" if place.quick else "20"
    client = ["node", "client.js", f"{url}/control.ashx", *WHO, str(AGENTS), seconds]
    found = json.loads(place.run(client, cwd=home).strip().splitlines()[-1])
    return json.loads((package / "package.json").read_text())["version"], {
        "commands_per_s": (found["rate"], "/s"),
        "p50_ms": (found["p50"], "ms"),
        "p90_ms": (found["p90"], "ms"),
        "to_all_ms": (found["all"], "ms"),
        "server_rss_mib": (rss_mib(server), "MiB"),
    }


def fetched(url):
    """Its certificate is its own: this is this very machine."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(url, context=anybody, timeout=20) as answer:
        return answer.read()
