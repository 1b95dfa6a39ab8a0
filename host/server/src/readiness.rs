//! How the parts of a host are, in words that strangers may read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::redis::Line;
use ports::journal::Installation;
use tokio_util::sync::CancellationToken;

use crate::{calls, store};

/// Asks each of them.
pub fn of(whole: Arc<dyn Installation>, line: Option<Line>, leave: CancellationToken) -> rest::Readiness {
    Arc::new(move || {
        let (whole, line, leaving) = (whole.clone(), line.clone(), leave.is_cancelled());
        Box::pin(async move {
            let lifecycle = if leaving { "leaving" } else { "ok" };
            let mut parts = BTreeMap::from([
                ("database".to_owned(), store::health(whole.as_ref()).await),
                ("lifecycle".to_owned(), lifecycle.to_owned()),
            ]);
            parts.extend(line.map(|line| ("redis".to_owned(), calls::health(&line))));
            parts
        })
    })
}
