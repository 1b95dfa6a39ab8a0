//! Containers of a project as either flavour lists them: `docker compose ps --format json`, an array
//! or one object a line, and `docker ps` with [`FORMAT`].

use viworks_sdk::outputs::cut;
use viworks_sdk::prelude::*;

/// `docker ps` in the words of `docker compose ps`: labels one by one, because their list cannot be
/// taken apart again.
pub const FORMAT: &str = r#"--format={"ID":{{json .ID}},"Name":{{json .Names}},"Service":{{json (.Label "com.docker.compose.service")}},"Image":{{json .Image}},"State":{{json .State}},"Status":{{json .Status}},"Ports":{{json .Ports}}}"#;

/// One container of the project.
#[derive(Output, Debug, PartialEq)]
pub struct Container {
    /// The service it runs.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its image, where compose says it.
    pub image: Option<String>,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
    /// `starting`, `healthy` or `unhealthy`; absent without a health check.
    pub health: Option<String>,
    /// Once it has exited.
    pub exit_code: Option<i64>,
    /// Its state in the engine's words, e.g. `Up 3 minutes`.
    pub status: Option<String>,
    /// Ports it exposes or publishes.
    pub ports: Vec<Port>,
}

/// One port of a container.
#[derive(Output, Debug, PartialEq)]
pub struct Port {
    /// Inside; the first of a range.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address of the machine, if published.
    pub host_ip: Option<String>,
    /// Port of the machine, if published; the first of a range.
    pub host_port: Option<u16>,
}

/// As printed.
#[derive(Output)]
struct Row {
    #[output(from = "ID", default)]
    id: String,
    #[output(from = "Name", default)]
    name: String,
    #[output(from = "Service", default)]
    service: String,
    #[output(from = "Image")]
    image: Option<String>,
    #[output(from = "State", default)]
    state: String,
    #[output(from = "Status")]
    status: Option<String>,
    #[output(from = "Health")]
    health: Option<String>,
    #[output(from = "ExitCode")]
    exit_code: Option<i64>,
    #[output(from = "Ports")]
    ports: Option<String>,
    #[output(from = "Publishers")]
    publishers: Option<Vec<Publisher>>,
}

#[derive(Output)]
struct Publisher {
    #[output(from = "URL", default)]
    url: String,
    #[output(from = "TargetPort", default)]
    target: u16,
    #[output(from = "PublishedPort", default)]
    published: u16,
    #[output(from = "Protocol", default)]
    protocol: String,
}

/// Reads a list of containers, sorted by name.
///
/// # Errors
/// When it is neither of the known forms.
pub fn read(printed: Printed<'_>) -> Result<Vec<Container>> {
    let rows = match printed.text()?.trim_start() {
        array if array.starts_with('[') => printed.json::<Vec<Row>>()?,
        _ => printed.json_lines::<Row>()?,
    };
    let mut containers: Vec<Container> = Vec::with_capacity(rows.len());
    for row in rows {
        let container = container(row);
        // In place: sorting would bring its machinery into the component for a handful of rows.
        let at = containers.iter().position(|other| other.name > container.name).unwrap_or(containers.len());
        containers.insert(at, container);
    }
    Ok(containers)
}

fn container(row: Row) -> Container {
    let Row { id, name, service, image, state, status, health, exit_code, ports, publishers } = row;
    // A container that others link to has further names, with a slash.
    let name = name.split(',').find(|name| !name.contains('/')).unwrap_or_default().to_owned();
    let words = status.as_deref().unwrap_or_default();
    let health = health.filter(|health| !health.is_empty()).or_else(|| health_in(words).map(str::to_owned));
    let exited = matches!(state.as_str(), "exited" | "dead");
    let exit_code = exited.then(|| exit_code.or_else(|| exit_code_in(words))).flatten();
    let ports = match publishers {
        Some(publishers) => publishers.into_iter().map(published).collect(),
        None => ports.as_deref().unwrap_or_default().split(',').map(str::trim).filter_map(port).collect(),
    };
    let status = status.filter(|words| !words.is_empty());
    Container { service, name, id, image, state, health, exit_code, status, ports }
}

/// Of `Up 5 seconds (health: starting)`.
fn health_in(status: &str) -> Option<&str> {
    let inner = status.rsplit_once('(')?.1.strip_suffix(')')?;
    let word = inner.strip_prefix("health: ").unwrap_or(inner);
    ["starting", "healthy", "unhealthy"].contains(&word).then_some(word)
}

/// Of `Exited (137) 2 minutes ago`.
fn exit_code_in(status: &str) -> Option<i64> {
    status.strip_prefix("Exited (")?.split_once(')')?.0.parse().ok()
}

fn published(publisher: Publisher) -> Port {
    let Publisher { url, target, published, protocol } = publisher;
    let public = published != 0;
    Port {
        container_port: target,
        protocol,
        host_ip: Some(url).filter(|url| public && !url.is_empty()),
        host_port: public.then_some(published),
    }
}

/// Of `0.0.0.0:8080->80/tcp`, `:::8080->80/tcp`, `80/tcp`, `8000-8002/tcp`.
fn port(text: &str) -> Option<Port> {
    let (host, inner) = match cut(text, "->") {
        Some((host, inner)) => (Some(host), inner),
        None => (None, text),
    };
    let (range, protocol) = inner.split_once('/')?;
    let first = |range: &str| range.split('-').next()?.parse::<u16>().ok();
    let host = host.and_then(|host| host.rsplit_once(':'));
    Some(Port {
        container_port: first(range)?,
        protocol: protocol.to_owned(),
        host_ip: host.map(|(ip, _)| ip.to_owned()),
        host_port: host.and_then(|(_, range)| first(range)),
    })
}

/// One JSON string a line.
///
/// # Errors
/// When a line is something else.
pub fn names(printed: Printed<'_>) -> Result<Vec<String>> {
    printed.json_lines()
}
