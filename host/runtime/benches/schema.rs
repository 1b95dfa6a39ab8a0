//! What it costs to hold arguments against a verb's schema: `cargo bench -p runtime --bench schema`.

use criterion::{Criterion, criterion_group, criterion_main};
use runtime::schema::Schema;
use serde_json::{Value, json};

/// The schemas of `exec.run`, as its plugin says them.
const EXEC: &str = include_str!("../../../schemas/json/verbs/exec.run.json");

fn schemas(c: &mut Criterion) {
    let file: Value = serde_json::from_str(EXEC).expect("a file of JSON");
    let text = &file["args_schema"];
    c.bench_function("schema compiled", |b| b.iter(|| Schema::compile(text).expect("a schema")));
    let schema = Schema::compile(text).expect("a schema");
    let few = json!({ "program": "uname", "args": ["-s"] });
    c.bench_function("few arguments judged", |b| b.iter(|| schema.check(&few)));
    let many = json!({ "program": "echo", "args": vec!["x".repeat(30); 32], "env": { "LANG": "C", "TZ": "UTC" } });
    c.bench_function("a kilobyte of them judged", |b| b.iter(|| schema.check(&many)));
    let wrong = json!({ "program": "", "shell": true });
    c.bench_function("wrong ones refused", |b| b.iter(|| schema.check(&wrong).expect_err("wrong")));
}

criterion_group!(benches, schemas);
criterion_main!(benches);
