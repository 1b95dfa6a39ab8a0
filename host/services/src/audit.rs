//! The audit log for those who read it: pages of it, whether it is whole, and all of it to take away.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::access::{Caller, Forbidden, Permission};
use domain::audit::Entry;
use domain::audit::chain::{Chain, Linked};
use domain::audit::check::{Check, Report};
use plan::id::ChainId;
use ports::clock::Clock;
use ports::error::StoreError;
use ports::journal::{AuditFilter, Journal, Trail};
use ports::seal::Notary;
use tokio::sync::Semaphore;

use crate::origin::Origin;

/// Entries read at a time.
const PAGE: u32 = 500;
/// How often the log is read from its beginning because some of it was pruned under way.
const READS: usize = 5;

/// The use cases.
pub struct Audit {
    /// Where entries are read and recorded.
    pub journal: Arc<dyn Journal>,
    /// The chains they hang on.
    pub trail: Arc<dyn Trail>,
    /// Whose seals they are under.
    pub notary: Arc<dyn Notary>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Held while the log is verified: that reads all of it, so once at a time is enough.
    pub verifying: Semaphore,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// Not allowed to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Somebody else is at it.
    #[error("the log is being verified; ask again")]
    Busy,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All of the log up to one moment, page by page.
pub struct Export {
    trail: Arc<dyn Trail>,
    /// The chains as they ended at that moment.
    pub chains: Vec<Chain>,
    /// The chain that is read, and how far it was; after the last one come the strays.
    at: (usize, u64),
}

impl Audit {
    /// What was done and refused, newest first, entries below `before`.
    ///
    /// # Errors
    /// See [`AuditError`].
    pub async fn list(
        &self,
        caller: &Caller,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Entry)>, AuditError> {
        caller.may(Permission::ReadAudit)?;
        Ok(self.journal.audits_where(filter, before, limit).await?)
    }

    /// The key that seals the log: its public half.
    pub fn public_key(&self) -> String {
        self.notary.public_key()
    }

    /// Reads the whole log and holds it against its seals. Entries that are added meanwhile do no harm.
    ///
    /// # Errors
    /// See [`AuditError`]; a row that cannot be read at all is [`StoreError::Corrupt`].
    pub async fn verify(&self, caller: &Caller) -> Result<Report, AuditError> {
        caller.may(Permission::ReadAudit)?;
        let _permit = self.verifying.try_acquire().map_err(|_| AuditError::Busy)?;
        self.read().await
    }

    /// The same, for whoever needs no leave.
    ///
    /// # Errors
    /// See [`AuditError`].
    pub async fn read(&self) -> Result<Report, AuditError> {
        for _ in 0..READS {
            if let Some(report) = self.read_once().await? {
                return Ok(report);
            }
        }
        Err(AuditError::Busy)
    }

    /// `None`: entries were pruned meanwhile, and would be missed.
    async fn read_once(&self) -> Result<Option<Report>, AuditError> {
        let key = self.notary.public_key();
        let chains = self.trail.chains().await?;
        let mut check = Check::begin(&[&key], &[], &chains);
        for chain in &chains {
            self.follow(&mut check, chain.genesis.chain, None).await?;
        }
        // Whatever was read above was committed, and its chain's end with it, before the ends are read here.
        let now = self.trail.chains().await?;
        for chain in &now {
            check.follow(chain);
            self.follow(&mut check, chain.genesis.chain, Some(chain.head.position)).await?;
        }
        let mut last = 0;
        loop {
            let strays = self.trail.strays(last, PAGE).await?;
            check.strays(strays.len() as u64);
            let Some(stray) = strays.last() else { break };
            last = stray.id;
        }
        let cut = |chain: &Chain| (chain.genesis.chain, chain.cut());
        let before: BTreeMap<ChainId, u64> = chains.iter().map(cut).collect();
        let after = self.trail.chains().await?;
        let same = |chain: &Chain| before.get(&chain.genesis.chain).is_none_or(|before| *before == chain.cut());
        Ok(after.iter().all(same).then(|| check.end(&now)))
    }

    /// Follows one chain as far as it goes, or up to a place.
    async fn follow(&self, check: &mut Check<'_>, chain: ChainId, to: Option<u64>) -> Result<(), AuditError> {
        loop {
            let after = check.position(chain);
            if to.is_some_and(|to| after >= to) {
                return Ok(());
            }
            let wanted = to.map_or(u64::from(PAGE), |to| (to - after).min(u64::from(PAGE)));
            let page = self.trail.links(chain, after, u32::try_from(wanted).unwrap_or(PAGE)).await?;
            let within = |linked: &&Linked| to.is_none_or(|to| linked.link.is_some_and(|link| link.position <= to));
            let mut found = page.iter().filter(within).peekable();
            if found.peek().is_none() {
                return Ok(());
            }
            found.for_each(|linked| check.entry(linked));
        }
    }

    /// Begins an export; that it was asked for is in the log, and in the export.
    ///
    /// # Errors
    /// See [`AuditError`]; nothing is exported then.
    pub async fn export(&self, caller: &Caller, origin: &Origin) -> Result<Export, AuditError> {
        caller.may(Permission::ReadAudit)?;
        self.journal.audit(origin.entry(self.clock.now(), "audit.export", Some(&caller.name))).await?;
        let chains = self.trail.chains().await?;
        for chain in &chains {
            let (end, position) = (chain.end(), chain.head.position);
            tracing::info!(chain = %end.chain, position, hash = %end.hash, by = caller.name, "audit log exported");
        }
        Ok(Export { trail: self.trail.clone(), chains, at: (0, 0) })
    }
}

impl Export {
    /// The next entries, at least one; `None` at the end. What was added since the export began is left out.
    ///
    /// # Errors
    /// The store's.
    pub async fn next(&mut self) -> Result<Option<Vec<Linked>>, StoreError> {
        while let Some(chain) = self.chains.get(self.at.0) {
            let (id, after) = (chain.genesis.chain, self.at.1.max(chain.cut()));
            let left = chain.head.position.saturating_sub(after).min(u64::from(PAGE));
            let limit = u32::try_from(left).unwrap_or(PAGE);
            let mut page = if limit == 0 { Vec::new() } else { self.trail.links(id, after, limit).await? };
            page.retain(|linked| linked.link.is_some_and(|link| link.position <= chain.head.position));
            let first = page.first().and_then(|linked| linked.link).map(|link| link.position);
            if limit > 0 && first != Some(after + 1) {
                self.missed(id, after).await?;
            }
            let last = page.last().and_then(|linked| linked.link);
            match last {
                Some(link) => {
                    self.at.1 = link.position;
                    return Ok(Some(page));
                }
                None => self.at = (self.at.0 + 1, 0),
            }
        }
        // After the chains, the second number is that of the last stray.
        let strays = self.trail.strays(self.at.1, PAGE).await?;
        Ok(strays.last().map(|stray| stray.id).map(|last| {
            self.at.1 = last;
            strays
        }))
    }

    /// Entries after this place are not there: tampering is for whoever verifies the export to find, but an export
    /// that was pruned under way would look like it.
    async fn missed(&self, id: ChainId, after: u64) -> Result<(), StoreError> {
        let now = self.trail.chains().await?;
        match now.iter().find(|chain| chain.genesis.chain == id) {
            Some(chain) if chain.cut() > after => {
                Err(StoreError::Unavailable("entries were pruned while they were exported; export again".to_owned()))
            }
            Some(_) | None => Ok(()),
        }
    }
}
