// The smallest honest plugin in JavaScript: one verb, `js.hello`.
const manifest = JSON.stringify({
  abi: "1.0", name: "js", version: "1.0.0", summary: "A plugin written in JavaScript.",
  grants: { effects: ["read"], programs: [{ program: "echo", args: [["*"]] }] },
  verbs: [{
    name: "js.hello", summary: "Greets.", effect: "read", idempotent: true, cancel: "clean", default_timeout_ms: 10000,
    args_schema: { type: "object", additionalProperties: false, required: ["name"], properties: { name: { type: "string", maxLength: 100 } } },
    result_schema: { type: "object", required: ["said"], properties: { said: { type: "string" } } },
    examples: [{ args: { name: "you" }, golden: { exit_code: 0, stdout: "hello you\n", result: { said: "hello you" } } }],
  }],
});

export const verbs = {
  describe: () => manifest,
  plan(_context, args) {
    const { name } = JSON.parse(args);
    const step = { program: "echo", args: [`hello ${name}`], env: [], cwd: undefined, stdin: undefined, timeoutMs: undefined };
    return { steps: [step], effect: "read", locks: [], summary: `greet ${name}` };
  },
  interpret(_context, _args, outputs) {
    const said = new TextDecoder().decode(outputs.stdout).trim();
    return { succeeded: outputs.steps.every((step) => step.exitCode === 0), result: JSON.stringify({ said }), summary: said };
  },
};
