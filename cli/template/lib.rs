//! The `NAME` plugin.

use viworks_sdk::prelude::*;

/// Says which kernel a machine runs.
#[derive(Args)]
struct Kernel {
    /// Its release too, e.g. 6.1.0.
    #[arg(default)]
    release: bool,
}

/// A kernel.
#[derive(Output)]
struct Found {
    /// e.g. `Linux`.
    name: String,
    /// e.g. `6.1.0`.
    release: Option<String>,
}

#[verb(name = "NAME.kernel", effect = Read, idempotent, timeout = "10s", example = json!({ "release": true }))]
impl Verb for Kernel {
    type Output = Found;

    fn plan(&self, _: &Context) -> Result<Plan> {
        program("uname").arg("-s").flag("-r", self.release).plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Found> {
        let mut words = out.ok()?.text()?.split_whitespace().map(str::to_owned);
        let name = words.next().ok_or_else(|| Failure::parse("uname printed nothing"))?;
        Ok(Found { name, release: words.next() })
    }
}

plugin!(summary = "Says what a machine is", verbs: [Kernel], grants: [allow("uname")]);

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn a_host_would_load_this_plugin() {
        test::check(&PLUGIN);
    }

    #[test]
    fn the_golden_cases_come_out_as_recorded() {
        test::golden(&PLUGIN, env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn the_release_is_asked_for_by_a_flag() {
        let plan = test::plan::<Kernel>(json!({ "release": true })).unwrap();
        assert_eq!(plan.steps[0].args, ["-s", "-r"]);
    }

    #[test]
    fn an_empty_answer_is_no_kernel() {
        let refused = test::interpret::<Kernel>(json!({}), &test::exited(0)).unwrap_err();
        assert_eq!(refused.message, "uname printed nothing");
    }
}
