//! The two kinds of guests. A native one asks for nothing but the log and is small; one of the compat tier
//! was made by a toolchain that brings an interpreter and WASI along. It gets more room and more time, WASI
//! that answers with nothing, and a place to run only where its operator says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// How long a guest may run. Processor time is the guest's own; wall time also counts the machine being
/// busy, so it is only the last resort.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// Most bytes the guest may hand to the host in one call.
    pub(crate) transfer: usize,
}

impl Budget {
    const fn new(cpu_ms: u64, wall_ms: u64, transfer: usize) -> Budget {
        Budget { cpu: Duration::from_millis(cpu_ms), wall: Duration::from_millis(wall_ms), transfer }
    }

    /// The same where work is counted, which takes several times as long.
    pub(crate) fn counted(self) -> Budget {
        Budget { cpu: self.cpu * 10, wall: self.wall * 10, ..self }
    }

    /// The same for one call. Where nobody waits for its answer, the machine may be busy with other things for a
    /// while; an operator may leave it less processor time, and never more.
    pub(crate) fn of_a_call(self, unhurried: bool, most: Option<Duration>) -> Budget {
        let wall = if unhurried { Duration::from_secs(30) } else { self.wall };
        Budget { cpu: most.map_or(self.cpu, |most| most.min(self.cpu)), wall, ..self }
    }
}

/// Which kind of guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Made with `viworks-sdk`, or as small as if it were.
    #[default]
    Native,
    /// Made by a toolchain that needs more.
    Compat,
}

impl Tier {
    /// The name used in files and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Native => "native",
            Tier::Compat => "compat",
        }
    }

    /// Most bytes of a plugin file.
    pub(crate) const fn file_bytes(self) -> u64 {
        match self {
            Tier::Native => 4 * MIB as u64,
            Tier::Compat => 48 * MIB as u64,
        }
    }

    /// Most bytes of linear memory.
    pub(crate) const fn memory_bytes(self) -> usize {
        match self {
            Tier::Native => 16 * MIB,
            Tier::Compat => 128 * MIB,
        }
    }

    /// Most elements of one table. An interpreter has a function for everything.
    pub(crate) const fn table_elements(self) -> usize {
        match self {
            Tier::Native => 20_000,
            Tier::Compat => 200_000,
        }
    }

    /// Most core instances, and tables, of one guest: a language's libraries are linked inside it.
    pub(crate) const fn instances(self) -> usize {
        match self {
            Tier::Native => 8,
            Tier::Compat => 64,
        }
    }

    /// How much processor time compiling may take.
    pub(crate) const fn compile_time(self) -> Duration {
        match self {
            Tier::Native => Duration::from_secs(20),
            Tier::Compat => Duration::from_secs(180),
        }
    }

    /// How long compiling may take on the wall, beside whatever else the machine does.
    pub(crate) const fn compile_wall(self) -> Duration {
        match self {
            Tier::Native => Duration::from_secs(60),
            Tier::Compat => Duration::from_secs(540),
        }
    }

    /// Address space of a compiler.
    pub(crate) const fn compile_bytes(self) -> u64 {
        match self {
            Tier::Native => 1024 * MIB as u64,
            Tier::Compat => 4 * 1024 * MIB as u64,
        }
    }

    /// For start functions.
    pub(crate) const fn instantiate(self) -> Budget {
        match self {
            Tier::Native => Budget::new(50, 2_000, 64 * KIB),
            Tier::Compat => Budget::new(500, 4_000, 256 * KIB),
        }
    }

    /// For `describe`.
    pub(crate) const fn describe(self) -> Budget {
        match self {
            Tier::Native => Budget::new(250, 30_000, 2 * MIB),
            Tier::Compat => Budget::new(2_000, 30_000, 2 * MIB),
        }
    }

    /// For `plan`.
    pub(crate) const fn plan(self) -> Budget {
        match self {
            Tier::Native => Budget::new(10, 2_000, MIB),
            Tier::Compat => Budget::new(250, 2_000, MIB),
        }
    }

    /// For `evaluate` of one batch.
    pub(crate) const fn evaluate(self) -> Budget {
        match self {
            Tier::Native => Budget::new(50, 1_000, 8 * MIB),
            Tier::Compat => Budget::new(1_000, 8_000, 8 * MIB),
        }
    }

    /// For `interpret` of `bytes` of output: more for each MiB begun.
    pub(crate) fn interpret(self, bytes: usize) -> Budget {
        let (least, each) = match self {
            Tier::Native => (50, 20),
            Tier::Compat => (1_000, 100),
        };
        let cpu = least + each * u64::try_from(bytes.div_ceil(MIB)).unwrap_or(u64::MAX / 1000);
        Budget::new(cpu, cpu.saturating_mul(8).max(1_000), 10 * MIB)
    }
}

/// Who may be of the compat tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Consents {
    /// Nobody.
    #[default]
    Nobody,
    /// Plugins of these names.
    Plugins(BTreeSet<String>),
    /// Whatever is looked at: its author does the looking.
    Everybody,
}

impl Consents {
    /// What operators' files say, by plugin name. One that cannot be read consents to nothing.
    pub(crate) fn of(operators: &BTreeMap<String, String>) -> Consents {
        /// The only line of interest here; the others are for gate 9.
        #[derive(Deserialize)]
        struct Said {
            #[serde(default)]
            tier: Tier,
        }
        let says = |text: &String| toml::from_str::<Said>(text).is_ok_and(|said| said.tier == Tier::Compat);
        let names: BTreeSet<String> =
            operators.iter().filter(|(_, text)| says(text)).map(|(name, _)| name.clone()).collect();
        if names.is_empty() { Consents::Nobody } else { Consents::Plugins(names) }
    }

    /// Whether a file whose stamp names this plugin may be.
    pub(crate) fn cover(&self, plugin: Option<&str>) -> bool {
        match self {
            Consents::Nobody => false,
            Consents::Plugins(names) => plugin.is_some_and(|plugin| names.contains(plugin)),
            Consents::Everybody => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_operator_who_says_so_consents() {
        let file = |text: &str| BTreeMap::from([("py".to_owned(), text.to_owned())]);
        let yes = Consents::of(&file("tier = \"compat\"\nenabled = true\n[grants]\n"));
        assert!(yes.cover(Some("py")) && !yes.cover(Some("js")) && !yes.cover(None));
        for no in [
            "",
            "tier = \"native\"",
            "tier = \"any\"",
            "tier = 1",
            "[config]\ntier = \"compat\"",
            "tier = \"compat\"\n= ",
        ] {
            assert_eq!(Consents::of(&file(no)), Consents::Nobody, "{no}");
        }
    }

    #[test]
    fn an_operator_leaves_a_call_less_time_and_never_more() {
        let budget = Tier::Native.plan();
        let cpu = |most: Option<u64>| budget.of_a_call(false, most.map(Duration::from_millis)).cpu.as_millis();
        assert_eq!([cpu(None), cpu(Some(3)), cpu(Some(500))], [10, 3, 10]);
        let patient = budget.of_a_call(true, None);
        assert!(patient.wall > budget.wall && patient.cpu == budget.cpu, "only the wall is more patient");
    }

    #[test]
    fn a_machine_that_is_busy_for_a_while_is_no_fault_of_a_plugin() {
        let second = Duration::from_secs(1);
        for tier in [Tier::Native, Tier::Compat] {
            for budget in [tier.instantiate(), tier.describe(), tier.plan(), tier.evaluate(), tier.interpret(0)] {
                assert!(budget.wall >= second.max(budget.cpu * 8), "{budget:?} of {tier:?}");
            }
            assert!(tier.compile_wall() >= tier.compile_time() * 3, "{tier:?}");
        }
    }

    #[test]
    fn time_to_interpret_grows_with_the_output() {
        let ms = |tier: Tier, bytes| tier.interpret(bytes).cpu.as_millis();
        let native = [0, 1, 1 << 20, (1 << 20) + 1, 8 << 20].map(|bytes| ms(Tier::Native, bytes));
        assert_eq!(native, [50, 70, 70, 90, 210]);
        assert_eq!((ms(Tier::Compat, 0), ms(Tier::Compat, 8 << 20)), (1_000, 1_800));
    }
}
