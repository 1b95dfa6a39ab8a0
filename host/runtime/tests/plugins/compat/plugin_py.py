"""The smallest honest plugin in Python: one verb, `py.hello`."""

import json

from wit_world.exports import verbs

MANIFEST = json.dumps({
    "abi": "1.0", "name": "py", "version": "1.0.0", "summary": "A plugin written in Python.",
    "grants": {"effects": ["read"], "programs": [{"program": "echo", "args": [["*"]]}]},
    "verbs": [{
        "name": "py.hello", "summary": "Greets.", "effect": "read", "idempotent": True, "cancel": "clean",
        "default_timeout_ms": 10000,
        "args_schema": {"type": "object", "additionalProperties": False, "required": ["name"],
                        "properties": {"name": {"type": "string", "maxLength": 100}}},
        "result_schema": {"type": "object", "required": ["said"], "properties": {"said": {"type": "string"}}},
        "examples": [{"args": {"name": "you"},
                      "golden": {"exit_code": 0, "stdout": "hello you\n", "result": {"said": "hello you"}}}],
    }],
})


class Verbs:
    def describe(self):
        return MANIFEST

    def plan(self, _ctx, args):
        name = json.loads(args)["name"]
        step = verbs.Step("echo", [f"hello {name}"], [], None, None, None)
        return verbs.AgentPlan([step], "read", [], f"greet {name}")

    def interpret(self, _ctx, _args, outputs):
        said = outputs.stdout.decode().strip()
        succeeded = all(step.exit_code == 0 for step in outputs.steps)
        return verbs.Interpretation(succeeded, json.dumps({"said": said}), said)
