//! What happened in the walks.

/// What happened, over all seeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub starts: u64,
    pub duplicates: u64,
    pub cuts: u64,
    pub agent_kills: u64,
    pub supervisor_kills: u64,
    pub reboots: u64,
    pub expired: u64,
    pub abandoned: u64,
    pub interrupted: u64,
    pub cancelled_unstarted: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.starts += other.starts;
        self.duplicates += other.duplicates;
        self.cuts += other.cuts;
        self.agent_kills += other.agent_kills;
        self.supervisor_kills += other.supervisor_kills;
        self.reboots += other.reboots;
        self.expired += other.expired;
        self.abandoned += other.abandoned;
        self.interrupted += other.interrupted;
        self.cancelled_unstarted += other.cancelled_unstarted;
    }
}
