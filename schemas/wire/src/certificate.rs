//! What a certificate says of the agent that shows it: one URI among its names, and the agent's own key.

use plan::id::{AgentId, ClusterId};

/// The name of one agent of one installation in its certificate.
pub fn uri(cluster: ClusterId, agent: AgentId) -> String {
    format!("viworks://{cluster}/agents/{agent}")
}

/// Whose name that is, if it is one of this installation's agents.
pub fn named(cluster: ClusterId, uri: &str) -> Option<AgentId> {
    let agent = uri.strip_prefix(&format!("viworks://{cluster}/agents/"))?.parse().ok()?;
    // One spelling only.
    (self::uri(cluster, agent) == uri).then_some(agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_names_nobody_elsewhere() {
        let id = |last: char| format!("0193f2a4-7c1f-7abc-8def-01234567890{last}");
        let (ours, theirs): (ClusterId, ClusterId) = (id('a').parse().expect("an id"), id('b').parse().expect("an id"));
        let agent: AgentId = id('c').parse().expect("an id");
        let name = uri(ours, agent);
        assert_eq!(named(ours, &name), Some(agent));
        assert_eq!(named(theirs, &name), None);
        for bad in [name.to_uppercase(), name.replace("agents/", "agents//"), format!("{name}/"), name.replace('-', "")]
        {
            assert_eq!(named(ours, &bad), None, "{bad}");
        }
    }
}
