//! What a plugin author uses: arguments and results as plain structs, a verb as one trait, programs
//! as argv that no shell ever reads, and a test kit that needs neither wasm nor host.
//!
//! ```
//! use viworks_sdk::prelude::*;
//!
//! /// Says how full the file systems are.
//! #[derive(Args)]
//! struct Df {
//!     /// Only this path's file system.
//!     #[arg(pattern = "^/")]
//!     path: Option<String>,
//! }
//!
//! /// One file system.
//! #[derive(Output)]
//! struct FileSystem {
//!     /// Where it is mounted.
//!     mount: String,
//!     /// Bytes in use.
//!     used: u64,
//! }
//!
//! #[verb(name = "disk.df", effect = Read, example = json!({ "path": "/srv" }))]
//! impl Verb for Df {
//!     type Output = Vec<FileSystem>;
//!
//!     fn plan(&self, _: &Context) -> Result<Plan> {
//!         program("df").args(["-B1", "--output=target,used"]).operand(&self.path).plan()
//!     }
//!
//!     fn interpret(&self, out: &Outputs) -> Result<Self::Output> {
//!         let rows = out.ok()?.lines().skip(1);
//!         rows.map(|row| {
//!             let (mount, used) = row.rsplit_once(' ').ok_or_else(|| Failure::parse("a row has two columns"))?;
//!             Ok(FileSystem { mount: mount.trim().into(), used: used.parse()? })
//!         })
//!         .collect()
//!     }
//! }
//!
//! plugin!(name = "disk", summary = "Disk space", verbs: [Df], grants: [allow("df")]);
//!
//! let plan = viworks_sdk::test::plan::<Df>(json!({ "path": "/srv" })).unwrap();
//! assert_eq!(plan.steps[0].args, ["-B1", "--output=target,used", "--", "/srv"]);
//! viworks_sdk::test::check(&PLUGIN);
//! ```
//!
//! A rule of alerts is another kind of plugin: see [`mod@rule`].
//!
//! Invariant: a plugin is a pure function. Nothing here reads a file, a clock, the network or chance;
//! a component built from it imports `viworks:plugin/log` and nothing else.

#![warn(missing_docs)]

// The derives name this crate from outside; its own tests use them too.
extern crate self as viworks_sdk;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
pub mod builder;
pub mod context;
pub mod failure;
mod finish;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;
pub mod log;
pub mod manifest;
#[cfg(target_family = "wasm")]
mod memory;
pub mod outputs;
pub mod rule;
pub mod schema;
#[cfg(not(target_family = "wasm"))]
pub mod test;
mod text;
pub mod value;
pub mod verb;

pub use plan::effect::Effect;
pub use plan::step;
pub use viworks_sdk_macros::{Args, Choice, Output, plugin, rule, verb};

pub use crate::builder::Plan;
pub use crate::context::{Context, Profile};
pub use crate::failure::{Failure, Issue, Issues, Result};
pub use crate::manifest::Plugin;
pub use crate::outputs::{Outputs, Printed};
pub use crate::verb::{Verb, Verdict};

/// JSON values, as every plugin sees them.
pub mod json {
    pub use serde_json::{Map, Number, Value, from_str, json};

    pub use crate::text::parse;
}

/// The arguments of a verb: written by `#[derive(Args)]`.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// Which container.
/// #[derive(Args)]
/// struct Named {
///     name: String,
/// }
/// assert_eq!(viworks_sdk::value::read::<Named>(json!({ "name": "web" })).unwrap().name, "web");
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is not a verb's arguments", note = "add #[derive(Args)] to it")]
pub trait Args: schema::Schema + value::FromJson {}

/// A typed result: anything with a schema that can be written as JSON, usually by `#[derive(Output)]`.
///
/// ```
/// use viworks_sdk::prelude::*;
///
/// /// A size.
/// #[derive(Output)]
/// struct Size {
///     bytes: u64,
/// }
/// fn is_output<T: Output>(_: &T) {}
/// is_output(&vec![Size { bytes: 1 }]);
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is not a typed result", note = "add #[derive(Output)] to it")]
pub trait Output: schema::Schema + value::ToJson {}

impl<T: schema::Schema + value::ToJson> Output for T {}

/// Everything a plugin's file needs: `use viworks_sdk::prelude::*;`.
pub mod prelude {
    pub use std::collections::BTreeMap;
    pub use std::time::Duration;

    pub use viworks_sdk_macros::{Choice, plugin, rule, verb};

    pub use crate::builder::{Plan, program};
    pub use crate::context::{Context, Profile};
    pub use crate::failure::{Failure, Issue, Issues, Result};
    pub use crate::json::{Value, json};
    pub use crate::log;
    pub use crate::manifest::allow;
    pub use crate::outputs::{Outputs, Printed};
    pub use crate::rule::{Agent, Levels, Rule, Severity, Watch};
    pub use crate::verb::{Verb, Verdict};
    pub use crate::{Args, Effect, Output};
}
