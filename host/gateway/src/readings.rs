//! An agent's sample as series: what the wire calls by field, the house calls by metric.

use domain::telemetry::metric::Metric;
use domain::telemetry::report::{MAX_SERIES, Reading, Refusal, check};
use wire::sample::{Sample, Usage};

/// How a frame begins that holds a sample, whatever else is wrong with it.
const BEGINS: &str = "{\"type\":\"TELEMETRY\"";
/// So many bytes are looked at for that.
const LOOK: usize = 64;

/// Whether text that is no frame was meant to be a sample: then the sample is lost, and not the session.
pub fn is_sample(text: &str) -> bool {
    let begin: String = text.chars().take(LOOK).filter(|letter| !letter.is_whitespace()).collect();
    begin.starts_with(BEGINS)
}

/// The same of text as agents write it, found without looking any further.
pub fn begins_as_sample(text: &str) -> bool {
    text.starts_with(BEGINS)
}

/// The series of a sample, if all of it can be.
///
/// # Errors
/// Why it is not believed.
pub fn readings(sample: &Sample) -> Result<Vec<Reading>, Refusal> {
    let Sample {
        at_ms: _,
        cpu_percent,
        cores_percent,
        cpu_limit_cores,
        load,
        memory,
        swap,
        disks,
        networks,
        containers,
        services,
        missing: _,
        agent,
    } = sample;
    let entries =
        cores_percent.len() + disks.len() + networks.len() + containers.as_ref().map_or(0, Vec::len) + services.len();
    if entries > MAX_SERIES {
        return Err(Refusal::TooManySeries);
    }
    let mut all = Vec::with_capacity(16 + 3 * entries);
    all.extend(cpu_percent.map(|percent| Reading::new(Metric::CpuTotal, percent)));
    let cores = cores_percent.iter().enumerate();
    all.extend(cores.map(|(core, percent)| Reading::labelled(Metric::CpuCore, core.to_string(), *percent)));
    all.extend(cpu_limit_cores.map(|cores| Reading::new(Metric::CpuLimit, cores)));
    if let Some(load) = load {
        let metrics = [Metric::Load1, Metric::Load5, Metric::Load15];
        all.extend(metrics.into_iter().zip(load).map(|(metric, load)| Reading::new(metric, *load)));
    }
    for (of, [used_pct, used, total]) in [
        (memory, [Metric::MemUsedPct, Metric::MemUsed, Metric::MemTotal]),
        (swap, [Metric::SwapUsedPct, Metric::SwapUsed, Metric::SwapTotal]),
    ] {
        let Some(usage) = of else { continue };
        all.push(Reading::new(used_pct, percent(usage)));
        all.push(Reading::new(used, usage.used_bytes as f64));
        all.push(Reading::new(total, usage.total_bytes as f64));
    }
    for disk in disks {
        all.push(Reading::labelled(Metric::DiskUsedPct, &disk.mount, percent(&disk.usage)));
        all.push(Reading::labelled(Metric::DiskUsed, &disk.mount, disk.usage.used_bytes as f64));
        all.push(Reading::labelled(Metric::DiskTotal, &disk.mount, disk.usage.total_bytes as f64));
    }
    for network in networks {
        all.push(Reading::labelled(Metric::NetRx, &network.interface, network.rx_bytes_per_s));
        all.push(Reading::labelled(Metric::NetTx, &network.interface, network.tx_bytes_per_s));
    }
    if let Some(containers) = containers {
        all.push(Reading::new(Metric::ContainerCount, containers.len() as f64));
        for container in containers {
            let mut put = |metric, value| all.push(Reading::labelled(metric, &container.name, value));
            put(Metric::ContainerState, Metric::ContainerState.unit().number(&container.state));
            if let Some(health) = &container.health {
                put(Metric::ContainerHealth, Metric::ContainerHealth.unit().number(health));
            }
            if let Some(restarts) = container.restarts {
                put(Metric::ContainerRestarts, restarts as f64);
            }
            if let Some(code) = container.exit_code {
                put(Metric::ContainerExitCode, f64::from(code));
            }
            if let Some(percent) = container.cpu_percent {
                put(Metric::ContainerCpu, percent);
            }
            if let Some(bytes) = container.memory_bytes {
                put(Metric::ContainerMem, bytes as f64);
            }
        }
    }
    for service in services {
        let state = Metric::ServiceState.unit().number(&service.state);
        all.push(Reading::labelled(Metric::ServiceState, &service.unit, state));
    }
    all.push(Reading::new(Metric::AgentRss, agent.rss_bytes as f64));
    all.push(Reading::new(Metric::AgentSpool, agent.spool_bytes as f64));
    all.push(Reading::new(Metric::AgentQueue, f64::from(agent.attempts)));
    check(&all)?;
    Ok(all)
}

/// Over 100 when more is used than there is, which is then refused; of nothing, nothing is used.
fn percent(usage: &Usage) -> f64 {
    if usage.total_bytes == 0 && usage.used_bytes == 0 {
        return 0.0;
    }
    usage.used_bytes as f64 / usage.total_bytes as f64 * 100.0
}

#[cfg(test)]
mod tests {
    use wire::codec::decode;
    use wire::frame::AgentFrame;
    use wire::sample::{Container, Disk, Network, Service};

    use super::*;

    type Change = fn(&mut Sample);

    fn disk(mount: &str, used_bytes: u64, total_bytes: u64) -> Disk {
        Disk { mount: mount.into(), usage: Usage { used_bytes, total_bytes } }
    }

    #[test]
    fn a_sample_becomes_series() {
        let sample = Sample {
            cpu_percent: Some(12.5),
            cores_percent: vec![20.0, 5.0],
            cpu_limit_cores: Some(1.5),
            load: Some([0.5, 0.4, 0.3]),
            memory: Some(Usage { used_bytes: 1, total_bytes: 4 }),
            swap: Some(Usage::default()),
            disks: vec![disk("/", 3, 4)],
            networks: vec![Network { interface: "eth0".into(), rx_bytes_per_s: 1.5, tx_bytes_per_s: 0.0 }],
            containers: Some(vec![Container {
                name: "web".into(),
                state: "exited".into(),
                exit_code: Some(-1),
                ..Container::default()
            }]),
            services: vec![Service { unit: "nginx.service".into(), state: "failed".into() }],
            ..Sample::default()
        };
        let shown: Vec<String> = readings(&sample)
            .expect("it can be")
            .iter()
            .map(|reading| match reading.series.metric.word(reading.value) {
                Some(word) => format!("{} {word}", reading.series),
                None => format!("{} {}", reading.series, reading.value),
            })
            .collect();
        let expected = "cpu.total 12.5, cpu.core{0} 20, cpu.core{1} 5, cpu.limit 1.5, load.1 0.5, load.5 0.4, load.15 0.3, mem.used_pct 25, \
            mem.used 1, mem.total 4, swap.used_pct 0, swap.used 0, swap.total 0, disk.used_pct{/} 75, disk.used{/} 3, \
            disk.total{/} 4, net.rx{eth0} 1.5, net.tx{eth0} 0, container.count 1, container.state{web} exited, \
            container.exit_code{web} -1, service.state{nginx.service} failed, agent.rss 0, agent.spool 0, agent.queue 0";
        assert_eq!(shown.join(", "), expected);
    }

    #[test]
    fn what_cannot_be_is_refused_as_a_whole() {
        let of = |change: Change| {
            let mut sample = Sample::default();
            change(&mut sample);
            readings(&sample).err()
        };
        let cases: [(Option<Refusal>, Change); 10] = [
            (None, |_| ()),
            (Some(Refusal::OutOfRange), |sample| sample.cpu_percent = Some(-1.0)),
            (Some(Refusal::NotANumber), |sample| sample.cpu_percent = Some(f64::NAN)),
            (Some(Refusal::OutOfRange), |sample| sample.cpu_limit_cores = Some(-0.5)),
            (Some(Refusal::OutOfRange), |sample| sample.disks = vec![disk("/", 5, 4)]),
            (Some(Refusal::NotANumber), |sample| sample.disks = vec![disk("/", 5, 0)]),
            (Some(Refusal::OutOfRange), |sample| sample.agent.rss_bytes = u64::MAX),
            (Some(Refusal::Twice), |sample| sample.disks = vec![disk("/", 1, 4), disk("/", 1, 4)]),
            (Some(Refusal::LongLabel), |sample| sample.disks = vec![disk(&"x".repeat(10_240), 1, 4)]),
            (Some(Refusal::TooManySeries), |sample| {
                sample.disks = (0..10_000).map(|n| disk(&n.to_string(), 1, 4)).collect();
            }),
        ];
        for (expected, change) in cases {
            assert_eq!(of(change), expected);
        }
    }

    #[test]
    fn a_sample_with_wrong_types_is_known_for_a_sample() {
        for text in [
            r#"{"type":"TELEMETRY","sample":{"at_ms":"noon"}}"#,
            "{ \"type\": \"TELEMETRY\", \"sample\": { \"at_ms\": 1, \"cpu_percent\": NaN } }",
            r#"{"type":"TELEMETRY","#,
        ] {
            assert!(decode::<AgentFrame>(text).is_err() && is_sample(text), "{text}");
        }
        assert!(!is_sample(r#"{"type":"HEARTBEAT","attempts":"TELEMETRY"}"#));
    }
}
