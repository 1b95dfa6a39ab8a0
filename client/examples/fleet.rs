//! Lists machines one by one, whatever their number, and how loaded each one is.
//!
//! ```text
//! VIWORKS_TOKEN=… cargo run -p viworks-client --example fleet -- http://127.0.0.1:8080
//! ```

use std::error::Error;

use viworks_client::{Client, ClientError, ServerUrl, Trusted};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: fleet URL")?;
    let client = Client::with_token(ServerUrl::parse(&url)?, &Trusted::System, &std::env::var("VIWORKS_TOKEN")?)?;
    fleet(&client, |line| println!("{line}")).await?;
    Ok(())
}

/// Tells each machine in a line; how many there are.
///
/// # Errors
/// What the host refuses.
pub async fn fleet(client: &Client, mut tell: impl FnMut(&str)) -> Result<usize, ClientError> {
    let mut agents = client.each_agent(Vec::new());
    let mut count = 0;
    while let Some(agent) = agents.next().await {
        let agent = agent?;
        let sample = client.telemetry(&agent.name).await?.sample;
        let cpu = sample.as_ref().and_then(|sample| sample["cpu_percent"].as_f64());
        let cpu = cpu.map_or_else(|| "unknown".to_owned(), |percent| format!("{percent:.0} %"));
        tell(&format!("{} at {} is {}, CPU {cpu}", agent.name, agent.site, agent.status));
        count += 1;
    }
    Ok(count)
}
