//! The one engine: how guests are compiled, how their memory is laid out, and what they may import.
//!
//! Invariant: one engine for each tier, and that of the compat tier only where somebody consented to it; no
//! WASI but the kind that answers with nothing; Cranelift only.

use std::sync::{Arc, OnceLock};

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy};

use crate::guest::Guest;
use crate::ticker::{Running, Ticker};
use crate::tier::Tier;
use crate::world::{self, nothing};

/// Most bytes of stack a guest may use; threads that run guests have at least eight times as much.
const GUEST_STACK: usize = 512 * 1024;
/// Least instances that can live at once when memory is pooled.
const LEAST_SLOTS: u32 = 64;
/// Second wall behind the store's own limit on memory.
const POOLED_MEMORY: usize = 64 * 1024 * 1024;

/// The sandbox could not be set up at all.
#[derive(Clone, Debug, thiserror::Error)]
#[error("wasm engine cannot be set up: {0}")]
pub struct EngineError(String);

/// How instances get their memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From slots reserved at start: a fresh instance costs microseconds.
    Pooled,
    /// From the operating system each time: correct but several times slower.
    OnDemand,
}

/// Where guests run. Cloning it is cheap and gives the same sandbox.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    native: Room,
    /// Made when the first guest of its kind comes.
    compat: OnceLock<Result<Room, EngineError>>,
    allocation: Allocation,
    metered: bool,
}

/// One engine, its clock, and what guests in it may import.
pub(crate) struct Room {
    engine: Engine,
    linker: Linker<Guest>,
    ticker: Ticker,
    tier: Tier,
}

impl Sandbox {
    /// Sets the engine up for `threads` threads that run guests, and starts its clock.
    ///
    /// Pooling reserves about 6 GiB of address space per slot. Where that is not to be had (small
    /// address spaces, strict limits), instances are allocated on demand and a warning says so.
    ///
    /// # Errors
    /// When neither way of allocation works on this machine.
    pub fn new(threads: usize) -> Result<Sandbox, EngineError> {
        let slots = u32::try_from(threads.saturating_mul(4)).unwrap_or(LEAST_SLOTS).clamp(LEAST_SLOTS, 512);
        let mut pooled = config(Tier::Native);
        pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(slots)));
        let (engine, allocation) = match Engine::new(&pooled) {
            Ok(engine) => (engine, Allocation::Pooled),
            Err(error) => {
                tracing::warn!(
                    error = %error, slots,
                    "cannot reserve address space for pooled plugin instances; every plugin call will be slower"
                );
                (
                    Engine::new(&config(Tier::Native)).map_err(|error| EngineError(error.to_string()))?,
                    Allocation::OnDemand,
                )
            }
        };
        Sandbox::on(engine, allocation, false)
    }

    /// One that counts what guests do, the same on every machine; several times slower.
    ///
    /// # Errors
    /// When this machine cannot run guests.
    pub(crate) fn metered() -> Result<Sandbox, EngineError> {
        let mut counting = config(Tier::Native);
        counting.consume_fuel(true);
        let engine = Engine::new(&counting).map_err(|error| EngineError(error.to_string()))?;
        Sandbox::on(engine, Allocation::OnDemand, true)
    }

    fn on(engine: Engine, allocation: Allocation, metered: bool) -> Result<Sandbox, EngineError> {
        let native = Room::new(engine, Tier::Native)?;
        Ok(Sandbox { inner: Arc::new(Inner { native, compat: OnceLock::new(), allocation, metered }) })
    }

    /// How instances get their memory on this machine.
    pub fn allocation(&self) -> Allocation {
        self.inner.allocation
    }

    /// Where guests of this tier run.
    pub(crate) fn room(&self, tier: Tier) -> Result<&Room, EngineError> {
        match tier {
            Tier::Native => Ok(&self.inner.native),
            Tier::Compat => self.inner.compat.get_or_init(Room::compat).as_ref().map_err(Clone::clone),
        }
    }

    /// Whether it counts.
    pub(crate) fn is_metered(&self) -> bool {
        self.inner.metered
    }

    /// Where most guests run.
    #[cfg(test)]
    pub(crate) fn native(&self) -> &Room {
        &self.inner.native
    }
}

impl Room {
    fn new(engine: Engine, tier: Tier) -> Result<Room, EngineError> {
        let ticker = Ticker::start(&engine).map_err(|error| EngineError(error.to_string()))?;
        let mut linker = Linker::new(&engine);
        world::link(&mut linker).map_err(|error| EngineError(error.to_string()))?;
        Ok(Room { engine, linker, ticker, tier })
    }

    /// Few guests, each large: their memory comes from the operating system each time.
    fn compat() -> Result<Room, EngineError> {
        let engine = Engine::new(&config(Tier::Compat)).map_err(|error| EngineError(error.to_string()))?;
        Room::new(engine, Tier::Compat)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Checks what `component` imports against what there is.
    ///
    /// # Errors
    /// What is missing or of another type.
    pub(crate) fn instantiate_pre(&self, component: &Component) -> wasmtime::Result<InstancePre<Guest>> {
        match self.tier {
            Tier::Native => self.linker.instantiate_pre(component),
            // What it gets of WASI is made to its measure.
            Tier::Compat => {
                let mut linker = Linker::new(&self.engine);
                world::link(&mut linker)?;
                nothing::link(&mut linker, &self.engine, component)?;
                linker.instantiate_pre(component)
            }
        }
    }

    /// Keeps the deadline clock ticking while the answer lives.
    pub(crate) fn running(&self) -> Running<'_> {
        self.ticker.running()
    }
}

/// What decides machine code. The compile worker uses the same, so that its artefacts fit this engine.
pub(crate) fn config(tier: Tier) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Equal inputs give equal outputs, floats included.
        .cranelift_nan_canonicalization(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(GUEST_STACK)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_multi_memory(tier == Tier::Compat)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false);
    config
}

fn pooling(slots: u32) -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(slots)
        .total_core_instances(slots * 4)
        .total_memories(slots)
        .total_tables(slots * 2)
        .max_core_instances_per_component(8)
        .max_memories_per_component(2)
        .max_tables_per_component(8)
        .table_elements(Tier::Native.table_elements())
        .max_memory_size(POOLED_MEMORY)
        // Where the kernel can tell which pages were touched, those are wiped in place: giving memory back
        // costs an interrupt of every core and a fault for each page at the next call. Elsewhere the
        // first of them are wiped, touched or not, and the rest is given back.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(256 * 1024)
        .table_keep_resident(64 * 1024)
        .max_unused_warm_slots(32)
        .decommit_batch_size(1);
    pooling
}
