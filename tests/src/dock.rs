//! A machine with a container engine, its host, and the docker plugin between them.

use std::path::Path;

use domain::attempt::State;
use serde_json::{Value, json};

use crate::client::{Api, state_of};
use crate::compiled;
use crate::host::TestHost;
use crate::machine::TestAgent;

/// The machine's name.
pub const MACHINE: &str = "dock-1";

/// One host with the docker plugin and one machine. Dropped, both are killed; the engine is not theirs.
pub struct Dock {
    /// The host.
    pub host: TestHost,
    /// Its first administrator.
    pub admin: Api,
    /// The machine.
    pub agent: TestAgent,
}

impl Dock {
    /// Starts both; the machine's containers are those of the engine at `endpoint`.
    pub async fn at(endpoint: &str) -> Dock {
        Dock::with(endpoint, &["docker"], None).await
    }

    /// Starts both with these plugins, and `folder` for docker's configuration and plugins on the machine.
    pub async fn with(endpoint: &str, plugins: &[&str], folder: Option<&Path>) -> Dock {
        let mut host = TestHost::new();
        for plugin in plugins {
            host.put_plugin(plugin).await;
        }
        compiled::give(&host.data(), plugins);
        host.launch().await;
        let admin = host.admin().await;
        for plugin in plugins {
            host.serves_plugin(&admin, plugin).await;
        }
        compiled::keep(&host.data(), plugins);
        let agent = TestAgent::start_with_tools(&host, &admin, MACHINE, endpoint, folder).await;
        Dock { host, admin, agent }
    }

    /// Submits a verb for the machine; the command's id.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn submit(&self, verb: &str, args: &Value) -> String {
        self.admin.submit(&body(verb, args)).await
    }

    /// Runs a verb to its end; the invocation.
    ///
    /// # Panics
    /// When it is not accepted, or does not end.
    pub async fn run(&self, verb: &str, args: &Value) -> Value {
        let id = self.submit(verb, args).await;
        self.admin.ended(&id, MACHINE).await
    }

    /// Runs a verb that succeeds; its typed result.
    ///
    /// # Panics
    /// When it does not succeed, or its output could not be read.
    pub async fn result(&self, verb: &str, args: &Value) -> Value {
        let invocation = self.run(verb, args).await;
        assert_eq!(state_of(&invocation), State::Succeeded, "{verb} {args}: {invocation:#}");
        assert_eq!(invocation["parsed"], true, "{verb} {args}: {invocation:#}");
        invocation["result"].clone()
    }

    /// Runs a verb that fails; the invocation.
    ///
    /// # Panics
    /// When it does not fail.
    pub async fn failure(&self, verb: &str, args: &Value) -> Value {
        let invocation = self.run(verb, args).await;
        assert_eq!(state_of(&invocation), State::Failed, "{verb} {args}: {invocation:#}");
        invocation
    }
}

/// Body of a submission of a verb for the machine.
pub fn body(verb: &str, args: &Value) -> Value {
    json!({ "verb": verb, "args": args, "target": { "agents": [MACHINE] } })
}

/// What an invocation says of its end in one line.
///
/// # Panics
/// When it says nothing.
pub fn summary(invocation: &Value) -> &str {
    invocation["summary"].as_str().unwrap_or_else(|| panic!("no summary: {invocation:#}"))
}
