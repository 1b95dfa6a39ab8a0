//! The audit log's chains for people and for other programs.

use api::audit::{AuditFault, AuditLink, AuditReport, ExportChain, ExportCheckpoint, ExportEntry};
use api::system::AuditEntry;
use domain::audit::Entry;
use domain::audit::chain::{Chain, Checkpoint, Genesis, Head, Link, Linked};
use domain::audit::check::{Fault, Report};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::instant;

/// A line of the audit log.
pub fn listed(id: u64, entry: Entry) -> AuditEntry {
    let Entry { at, level, category, action, actor, resource, details, ip_address, user_agent, correlation_id } = entry;
    let (resource_type, resource_id) = resource.map(|(kind, id)| (kind.to_owned(), id)).unzip();
    AuditEntry {
        id,
        at: instant::text(at),
        level: level.as_str().to_owned(),
        category: category.to_owned(),
        action: action.to_owned(),
        actor,
        resource_type,
        resource_id,
        details: serde_json::from_str(&details).unwrap_or(Value::Null),
        ip_address,
        user_agent,
        correlation_id,
    }
}

/// What verifying found.
pub fn report(report: Report, public_key: String) -> AuditReport {
    let Report { entries, unchained, pruned, heads, faults, faults_in_all, given_up: _ } = report;
    AuditReport {
        whole: faults_in_all == 0,
        entries,
        unchained,
        pruned,
        heads: heads.iter().map(link).collect(),
        faults: faults.iter().map(fault).collect(),
        faults_in_all,
        public_key,
    }
}

/// A row that cannot be read is no error of the host's here, but what was asked for.
pub fn unreadable(message: String, public_key: String) -> AuditReport {
    let fault = AuditFault { what: "changed".to_owned(), message, id: None, chain: None, position: None };
    AuditReport { whole: false, faults: vec![fault], faults_in_all: 1, ..report(Report::default(), public_key) }
}

fn fault(fault: &Fault) -> AuditFault {
    let (what, id, at) = match fault {
        Fault::Changed { id, at } => ("changed", Some(*id), Some(at)),
        Fault::Missing { at, .. } => ("missing", None, Some(at)),
        Fault::Added { id, at } => ("added", Some(*id), Some(at)),
        Fault::End { at } => ("end", None, Some(at)),
        Fault::Seal { at } => ("seal", None, Some(at)),
        Fault::Gone { at, .. } => ("gone", None, Some(at)),
        Fault::Rewritten { at, .. } => ("rewritten", None, Some(at)),
        Fault::Strays { .. } => ("strays", None, None),
        Fault::Key => ("key", None, None),
    };
    AuditFault {
        what: what.to_owned(),
        message: fault.to_string(),
        id,
        chain: at.map(|at| at.chain.to_string()),
        position: at.map(|at| at.position),
    }
}

fn link(link: &Link) -> AuditLink {
    let Link { chain, position, hash } = link;
    AuditLink { chain: chain.to_string(), position: *position, hash: hash.to_string() }
}

/// A chain's line of an export.
pub fn chain(chain: &Chain) -> ExportChain {
    let Chain { genesis, head, seal, checkpoint } = chain;
    let Genesis { chain, begun_at, cause, unchained, after } = genesis;
    let cut = |Checkpoint { head: Head { position, hash, at }, seal }: &Checkpoint| ExportCheckpoint {
        position: *position,
        hash: hash.to_string(),
        at: instant::text(*at),
        seal: seal.clone(),
    };
    ExportChain {
        kind: "chain".to_owned(),
        chain: chain.to_string(),
        begun_at: instant::text(*begun_at),
        cause: cause.as_str().to_owned(),
        unchained: *unchained,
        after: after.iter().map(link).collect(),
        position: head.position,
        hash: head.hash.to_string(),
        sealed_at: instant::text(head.at),
        seal: seal.clone(),
        checkpoint: checkpoint.as_ref().map(cut),
    }
}

/// An entry's line of an export.
pub fn entry(linked: Linked) -> ExportEntry {
    let Linked { id, entry, link: at } = linked;
    let Entry { at: when, level, category, action, actor, resource, details, ip_address, user_agent, correlation_id } =
        entry;
    let (resource_type, resource_id) = resource.map(|(kind, id)| (kind.to_owned(), id)).unzip();
    let quoted = |text: &str| RawValue::from_string(Value::from(text).to_string()).unwrap_or_default();
    ExportEntry {
        kind: "entry".to_owned(),
        id,
        at: instant::text(when),
        level: level.as_str().to_owned(),
        category: category.to_owned(),
        action: action.to_owned(),
        actor,
        resource_type,
        resource_id,
        // What is no JSON any more was changed, and stays changed.
        details: RawValue::from_string(details.clone()).unwrap_or_else(|_| quoted(&details)),
        ip_address,
        user_agent,
        correlation_id,
        link: at.as_ref().map(link),
    }
}
