//! What a call knows besides its arguments: the machine's profile and the operator's configuration.

use serde_json::Value;

use crate::Args;
use crate::failure::Result;
use crate::value::read;

/// What a call knows besides its arguments.
///
/// ```
/// let context = viworks_sdk::test::context();
/// assert_eq!(context.profile.os, "linux");
/// assert!(context.config.is_object());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// The kind of machine the plan is for.
    pub profile: Profile,
    /// The operator's configuration of the plugin, an object.
    pub config: Value,
}

/// The kind of machine a plan is for. One plan serves all agents with an equal profile.
///
/// ```
/// use viworks_sdk::Profile;
///
/// let machine = Profile { os: "linux".into(), arch: "aarch64".into(), container_engine: None, compose: None };
/// assert!(machine.compose.is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// e.g. `linux`.
    pub os: String,
    /// e.g. `x86_64`.
    pub arch: String,
    /// Container engine without its version, e.g. `docker`; absent when there is none.
    pub container_engine: Option<String>,
    /// `v1` (docker-compose 1.x), `v2` (docker compose) or `v2-standalone` (the same as a program called
    /// docker-compose); absent when there is none.
    pub compose: Option<String>,
}

/// Hosts may come to say more of a machine, so what is not known here is ignored.
#[cfg(target_family = "wasm")]
impl Profile {
    pub(crate) fn read(value: &serde_json::Value) -> Profile {
        let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        Profile {
            os: text("os").unwrap_or_default(),
            arch: text("arch").unwrap_or_default(),
            container_engine: text("container_engine"),
            compose: text("compose"),
        }
    }
}

impl Context {
    /// The operator's configuration as the type named in `plugin!(config: …)`.
    ///
    /// # Errors
    /// What of it cannot be read, with pointers into the configuration.
    ///
    /// ```
    /// use viworks_sdk::prelude::*;
    ///
    /// /// How to reach the engine.
    /// #[derive(Args)]
    /// struct Config {
    ///     #[arg(default = "docker")]
    ///     program: String,
    /// }
    ///
    /// let context = viworks_sdk::test::context();
    /// assert_eq!(context.config::<Config>().unwrap().program, "docker");
    /// ```
    pub fn config<C: Args>(&self) -> Result<C> {
        read(self.config.clone())
    }
}
