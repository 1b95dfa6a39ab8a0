//! `viworks dev`: a host and an agent on this machine, on data of their own, until Ctrl-C.
//!
//! It starts the programs that lie beside this one, and speaks to them as everybody does: what works here works
//! with an installed host.

mod children;
mod place;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::agent::NewJoinToken;
use clap::Args;
use serde::Serialize;
use viworks_client::{Client, Nobody, Persistence, ServerUrl, Trusted};

use crate::context::{LoginOptions, Store, login};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape, table};
use crate::schema::quote;
use children::Children;
use place::Place;

/// From starting the host to its readiness; a first start compiles plugins.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// From starting the agent to its session.
const ONLINE_WITHIN: Duration = Duration::from_secs(60);
/// What the agent is called.
const NAME: &str = "local";

/// How to start.
#[derive(Clone, Debug, Args)]
pub struct DevOptions {
    /// The plugin folder to watch; one with the plugins that lie beside this program when absent
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Port of the API; any free one when absent
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub port: u16,
    /// Leave the data where it is at the end
    #[arg(long)]
    pub keep: bool,
}

/// What is up.
#[derive(Clone, Debug, Serialize)]
struct Up {
    api: String,
    agents: String,
    agent: String,
    plugins: PathBuf,
    contexts: PathBuf,
    data: PathBuf,
}

/// Starts both, says so, and stays until told to stop.
///
/// # Errors
/// When a step fails; what was started is stopped again.
pub async fn run(options: DevOptions, sink: &Sink) -> Result<Exit, Failure> {
    let place = Place::make(options.plugins.as_deref(), options.keep)?;
    let mut children = Children::new()?;
    let began = Instant::now();
    let outcome = match start(&options, &place, &mut children, sink).await {
        Ok(up) => {
            sink.one(&up, &up.api, || banner(&up))?;
            sink.say(&format!("up after {:.1} s; Ctrl-C ends both", began.elapsed().as_secs_f64()))?;
            children.wait().await
        }
        Err(failure) => Err(failure),
    };
    for line in children.stop().await {
        sink.say(&line)?;
    }
    place.end_supervisor();
    if options.keep {
        sink.say(&format!("data is kept in {}", place.dir().display()))?;
    }
    match outcome {
        // Asked to stop, it stopped: nothing went wrong.
        Err(failure) if failure.exit == Exit::Interrupted => Ok(Exit::Ok),
        other => other.map(|()| Exit::Ok),
    }
}

async fn start(options: &DevOptions, place: &Place, children: &mut Children, sink: &Sink) -> Result<Up, Failure> {
    place.write_host_config(options.port)?;
    let config = place.host_config().display().to_string();
    children.start("host", &place.program("viworks-host")?, &["serve", "--config", &config], &place.log("host"))?;
    let (api, agents) =
        children.until(READY_WITHIN, "the host does not say where it listens", async || place.listening()).await?;
    let server = ServerUrl::parse(&format!("http://{api}")).map_err(|error| Failure::usage(error.to_string()))?;
    let nobody = Client::new(server.clone(), &Trusted::System, Arc::new(Nobody))?.persisting(Persistence::NONE);
    let ready = async || nobody.checkup().await.ok().filter(|checkup| checkup.health.status == "ok").map(drop);
    children.until(READY_WITHIN, "the host does not become ready", ready).await?;

    let store = Store::at(place.contexts());
    let options = LoginOptions {
        url: server.to_string(),
        name: Some("dev".to_owned()),
        user: None,
        password_file: None,
        credential: Some(place.credential()),
        api_key_file: None,
        ca: None,
        pin: None,
    };
    login(options, &store, sink).await?;
    let client = crate::context::Choice::default().client(&store)?;
    children.until(READY_WITHIN, "the host does not judge its plugins", async || judged(&client, place).await).await?;

    let token = client.create_join_token(&NewJoinToken::default()).await?;
    place.write_policy()?;
    let program = place.program("viworks-agent")?;
    let data = place.agent().display().to_string();
    let url = format!("http://{agents}");
    // By the environment, because everybody may read a command line.
    let secret = token.token.token.unwrap_or_default();
    children::finish(&program, &["join", &url, "--name", NAME, "--data", &data], ("VIWORKS_JOIN_TOKEN", &secret))
        .await?;
    let policy = place.policy().display().to_string();
    children.start("agent", &program, &["run", "--data", &data, "--policy", &policy], &place.log("agent"))?;
    let online = async || client.agent(NAME).await.ok().filter(|agent| agent.status == "online").map(drop);
    children.until(ONLINE_WITHIN, "the agent does not come online", online).await?;
    Ok(Up {
        api: server.to_string(),
        agents: url,
        agent: NAME.to_owned(),
        plugins: place.plugins().to_owned(),
        contexts: place.contexts(),
        data: place.dir().to_owned(),
    })
}

/// Whether every file in the plugin folder has been looked at, well or not.
async fn judged(client: &Client, place: &Place) -> Option<()> {
    let known = client.plugins().await.ok()?.items;
    place.plugin_files().iter().all(|file| known.iter().any(|plugin| plugin.file == *file)).then_some(())
}

fn banner(up: &Up) -> String {
    let logs = up.data.join("host.log").display().to_string();
    let mut text = table::card(&[
        ("API", up.api.clone()),
        ("description", format!("{}/docs", up.api)),
        ("agents", up.agents.clone()),
        ("agent", up.agent.clone()),
        ("plugin folder", up.plugins.display().to_string()),
        ("logs", logs),
    ]);
    let contexts = escape::line(&quote(&up.contexts.display().to_string()));
    text += &format!("\nin another shell:\n  export VIWORKS_CONFIG={contexts}\n  viworks verb list\n");
    text += &format!("  viworks run exec.run -a {} -- uname -a\n", up.agent);
    text
}
