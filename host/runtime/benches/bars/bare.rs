//! The same component in plain Wasmtime: pooled and compiled as the host does it, and nothing besides. No deadline, no
//! limit of memory or of what is copied, no log kept, no look at what comes back.

use std::time::{Duration, Instant};

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Store};

mod world {
    wasmtime::component::bindgen!({ path: "../../sdk/wit/1.0", world: "verb-plugin" });
}

use world::viworks::plugin::{log, types};

/// What a guest finds here.
struct Nothing;

impl types::Host for Nothing {}

impl log::Host for Nothing {
    fn write(&mut self, _level: String, _message: String, _fields: String) {}
}

/// A component that is ready to be called.
pub struct Bare {
    engine: Engine,
    plugin: world::VerbPluginPre<Nothing>,
}

impl Bare {
    pub fn new(component: &[u8]) -> Bare {
        let mut pooling = PoolingAllocationConfig::new();
        pooling.max_memory_size(64 << 20).linear_memory_keep_resident(256 * 1024).table_keep_resident(64 * 1024);
        pooling.pagemap_scan(Enabled::Auto).decommit_batch_size(1).total_memories(16).total_core_instances(64);
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed).concurrency_support(false).memory_init_cow(true);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
        let engine = Engine::new(&config).expect("room for pooled instances");
        let component = Component::new(&engine, component).expect("compiles");
        let mut linker = Linker::new(&engine);
        world::VerbPlugin::add_to_linker::<_, HasSelf<Nothing>>(&mut linker, |nothing| nothing).expect("links");
        let pre = linker.instantiate_pre(&component).expect("imports the log alone");
        Bare { engine, plugin: world::VerbPluginPre::new(pre).expect("exports verbs") }
    }

    /// How long each of so many calls of `plan` took, every one in a guest of its own.
    pub fn calls(&self, verb: &str, profile: &str, args: &str, rounds: usize) -> Vec<Duration> {
        let context = types::Context { verb: verb.to_owned(), config: "{}".to_owned(), profile: profile.to_owned() };
        let args = args.to_owned();
        let call = || {
            let began = Instant::now();
            let mut store = Store::new(&self.engine, Nothing);
            let plugin = self.plugin.instantiate(&mut store).expect("starts");
            let plan = plugin.viworks_plugin_verbs().call_plan(&mut store, &context, &args);
            plan.expect("returns").expect("a plan");
            drop(store);
            began.elapsed()
        };
        (0..rounds).map(|_| call()).collect()
    }
}
