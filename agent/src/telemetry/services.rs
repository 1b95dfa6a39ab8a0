//! Units that the machine's operator wants watched, as systemd tells of them.

use std::path::Path;
use std::process::{Command, Stdio};

use wire::sample::Service;

/// Where systemd's tool is; the agent never reads `PATH`.
const PLACES: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];

/// The state of each unit.
///
/// # Errors
/// Why it is not known, for people.
pub fn look(units: &[String]) -> Result<Vec<Service>, String> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let program = PLACES.into_iter().find(|place| Path::new(place).exists()).ok_or("there is no systemctl here")?;
    let mut command = Command::new(program);
    command.args(["show", "--no-pager", "--property=Id,LoadState,ActiveState", "--"]).args(units);
    let asked = command.env_clear().stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let output = asked.map_err(|error| format!("{program} does not start: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program}: {}", said.lines().next().unwrap_or("it failed and did not say why")));
    }
    Ok(read(units, &String::from_utf8_lossy(&output.stdout)))
}

/// What `systemctl show` says: one block a unit, in the order they were asked for.
fn read(units: &[String], said: &str) -> Vec<Service> {
    let blocks = said.split("\n\n").map(|block| {
        let of = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        match (of("LoadState"), of("ActiveState")) {
            (Some("not-found"), _) => "missing",
            (_, Some(state)) => state,
            (_, None) => "unknown",
        }
    });
    let services = units.iter().zip(blocks);
    services.map(|(unit, state)| Service { unit: unit.clone(), state: state.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_in_the_order_of_the_question() {
        let units = ["nginx.service", "gone.service", "cron.service"].map(str::to_owned);
        let said = "Id=nginx.service\nLoadState=loaded\nActiveState=failed\n\nId=gone.service\nLoadState=not-found\n\
            ActiveState=inactive\n\nActiveState=active\nId=cron.service\nLoadState=loaded\n";
        let states: Vec<String> = read(&units, said).into_iter().map(|service| service.state).collect();
        assert_eq!(states, ["failed", "missing", "active"]);
    }

    #[test]
    fn nothing_to_watch_asks_nobody() {
        assert_eq!(look(&[]), Ok(vec![]));
    }
}
