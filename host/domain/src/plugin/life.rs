//! The life of one version of a plugin, from the first look at its bytes until nobody needs them any more.
//!
//! ```text
//!                         Approve                 Retry
//!  needs_approval ───────────────┐     ┌──────────────── quarantined ◀─┐
//!      ▲                         ▼     ▼                               │ Trip
//!      │ Park                   found              Retry               │
//!      ├──────────────────────────┤ ◀──────────── rolled_back          │
//!      │                          │                   ▲ Rollback       │
//!      │            Try           ▼ Begin             │                │
//!      │        ┌─────────────────┼───────────────────┼────────────────┤
//!      │        ▼                 ▼                   │                │
//!      │    probation ──Outlast─▶ active ─────────────┴────────────────┘
//!      │        │                 │   ▲
//!      │        └────Supersede────┤   └──Begin── kept, disabled, removed, refused
//!      │                          ▼
//!  any of these                  kept
//! ```
//!
//! What is seen (`Refuse`, `Park`, `Begin`, `Try`, `Disable`, `Supersede`, `Remove`) is a level: the same sight
//! twice changes nothing. What was held back, by the breaker or by a person, stays so until a person says
//! otherwise: no sight of its bytes brings it back.
//!
//! Invariant: total; every pair of state and happening is decided here and nowhere else.

use std::fmt;

/// Where a version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// Seen, and not judged yet.
    Found,
    /// It may not serve before somebody consents.
    NeedsApproval,
    /// A gate said no to it.
    Refused,
    /// Its plugin is switched off.
    Disabled,
    /// It serves, and is sent back by the first sign of trouble.
    Probation,
    /// It serves.
    Active,
    /// It served well and another serves now; it can come back.
    Kept,
    /// It failed too often.
    Quarantined,
    /// Somebody sent it back.
    RolledBack,
    /// Its file is gone, or it was replaced before it ever served.
    Removed,
}

/// What may happen to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A gate says no.
    Refuse,
    /// It asks for more than anybody consented to.
    Park,
    /// It may serve, and there is nothing to go back to or nothing to prove.
    Begin,
    /// It may serve, and an earlier version waits in case it fails.
    Try,
    /// Its plugin is switched off.
    Disable,
    /// Another version has its place.
    Supersede,
    /// Its file is gone.
    Remove,
    /// The breaker opened.
    Trip,
    /// Its probation is over.
    Outlast,
    /// Somebody consents.
    Approve,
    /// Somebody wants it tried again.
    Retry,
    /// Somebody sends it back.
    Rollback,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It stands there now.
    To(Life),
    /// Nothing changes.
    Stay,
    /// The order makes no sense here.
    No,
}

impl Life {
    /// All of them.
    pub const ALL: [Life; 10] = [
        Life::Found,
        Life::NeedsApproval,
        Life::Refused,
        Life::Disabled,
        Life::Probation,
        Life::Active,
        Life::Kept,
        Life::Quarantined,
        Life::RolledBack,
        Life::Removed,
    ];

    /// The name used in JSON, SQL and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Life::Found => "found",
            Life::NeedsApproval => "needs_approval",
            Life::Refused => "refused",
            Life::Disabled => "disabled",
            Life::Probation => "probation",
            Life::Active => "active",
            Life::Kept => "kept",
            Life::Quarantined => "quarantined",
            Life::RolledBack => "rolled_back",
            Life::Removed => "removed",
        }
    }

    /// The one called `name`, if there is one.
    pub fn parse(name: &str) -> Option<Life> {
        Life::ALL.into_iter().find(|life| life.as_str() == name)
    }

    /// Whether requests reach it.
    pub fn serves(self) -> bool {
        matches!(self, Life::Probation | Life::Active)
    }

    /// Whether it is held back until a person says otherwise.
    pub fn is_held_back(self) -> bool {
        matches!(self, Life::Quarantined | Life::RolledBack)
    }

    /// What follows when `happening` happens.
    pub fn step(self, happening: Happening) -> Step {
        use Happening::*;
        use Life::*;
        let to = match (self, happening) {
            (Found | NeedsApproval | Disabled | Probation | Active | Removed, Refuse) => Refused,
            (Refused | Kept | Quarantined | RolledBack, Refuse) => return Step::Stay,

            (Found | Refused | Disabled | Probation | Active | Kept | Removed, Park) => NeedsApproval,
            (NeedsApproval | Quarantined | RolledBack, Park) => return Step::Stay,

            (Found | NeedsApproval | Refused | Disabled | Kept | Removed, Begin) => Active,
            (Probation | Active | Quarantined | RolledBack, Begin) => return Step::Stay,

            (Found | NeedsApproval | Refused | Disabled | Kept | Removed, Try) => Probation,
            (Probation | Active | Quarantined | RolledBack, Try) => return Step::Stay,

            (Found | NeedsApproval | Probation | Active, Disable) => Disabled,
            (Refused | Disabled | Kept | Quarantined | RolledBack | Removed, Disable) => return Step::Stay,

            (Probation | Active | Disabled, Supersede) => Kept,
            (Found | NeedsApproval | Refused, Supersede) => Removed,
            (Kept | Quarantined | RolledBack | Removed, Supersede) => return Step::Stay,

            (Found | NeedsApproval | Refused | Disabled | Probation | Active, Remove) => Removed,
            (Kept | Quarantined | RolledBack | Removed, Remove) => return Step::Stay,

            // One that is kept may still be asked what its output means, and must not be returned to then.
            (Probation | Active | Kept, Trip) => Quarantined,
            (Found | NeedsApproval | Refused | Disabled | Quarantined | RolledBack | Removed, Trip) => {
                return Step::Stay;
            }

            (Probation, Outlast) => Active,
            (
                Found | NeedsApproval | Refused | Disabled | Active | Kept | Quarantined | RolledBack | Removed,
                Outlast,
            ) => return Step::Stay,

            (NeedsApproval, Approve) => Found,
            (Found | Refused | Disabled | Probation | Active | Kept | Quarantined | RolledBack | Removed, Approve) => {
                return Step::No;
            }

            (Refused | Quarantined | RolledBack, Retry) => Found,
            (Found | NeedsApproval | Disabled | Probation | Active | Kept | Removed, Retry) => return Step::No,

            (Probation | Active, Rollback) => RolledBack,
            (Found | NeedsApproval | Refused | Disabled | Kept | Quarantined | RolledBack | Removed, Rollback) => {
                return Step::No;
            }
        };
        Step::To(to)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAPPENINGS: [Happening; 12] = [
        Happening::Refuse,
        Happening::Park,
        Happening::Begin,
        Happening::Try,
        Happening::Disable,
        Happening::Supersede,
        Happening::Remove,
        Happening::Trip,
        Happening::Outlast,
        Happening::Approve,
        Happening::Retry,
        Happening::Rollback,
    ];

    /// Rows are states, columns happenings, both in the order of their lists. `.` stays, `!` is refused.
    const TABLE: &str = "
        found          refused needs_approval active probation disabled removed removed .           .      !     !     !
        needs_approval refused .              active probation disabled removed removed .           .      found !     !
        refused        .       needs_approval active probation .        removed removed .           .      !     found !
        disabled       refused needs_approval active probation .        kept    removed .           .      !     !     !
        probation      refused needs_approval .      .         disabled kept    removed quarantined active !     !     rolled_back
        active         refused needs_approval .      .         disabled kept    removed quarantined .      !     !     rolled_back
        kept           .       needs_approval active probation .        .       .       quarantined .      !     !     !
        quarantined    .       .              .      .         .        .       .       .           .      !     found !
        rolled_back    .       .              .      .         .        .       .       .           .      !     found !
        removed        refused needs_approval active probation .        .       .       .           .      !     !     !
    ";

    #[test]
    fn every_state_and_every_happening_have_one_answer() {
        let rows: Vec<Vec<&str>> = TABLE.trim().lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows.len(), Life::ALL.len());
        for (row, life) in rows.iter().zip(Life::ALL) {
            assert_eq!((row[0], row.len()), (life.as_str(), HAPPENINGS.len() + 1));
            for (cell, happening) in row[1..].iter().zip(HAPPENINGS) {
                let expected = match *cell {
                    "." => Step::Stay,
                    "!" => Step::No,
                    name => Step::To(Life::parse(name).expect("a state")),
                };
                assert_eq!(life.step(happening), expected, "{life} {happening:?}");
            }
        }
    }

    #[test]
    fn the_same_sight_twice_changes_nothing() {
        let levels = &HAPPENINGS[..7];
        for (life, happening) in Life::ALL.into_iter().flat_map(|life| levels.iter().map(move |level| (life, *level))) {
            if let Step::To(after) = life.step(happening) {
                assert_eq!(after.step(happening), Step::Stay, "{life} {happening:?} {after}");
            }
        }
    }

    #[test]
    fn what_is_held_back_comes_back_by_an_order_alone() {
        for life in Life::ALL.into_iter().filter(|life| life.is_held_back()) {
            for happening in HAPPENINGS {
                assert_eq!(matches!(life.step(happening), Step::To(_)), happening == Happening::Retry);
            }
        }
    }
}
