//! What the gate says of a command right before it is sent.

use domain::attempt::Withdrawn;
use services::standing::Objection;

use super::*;

/// A session whose agent has ended these before, and whose gate lets everybody through.
pub(super) fn begun(concurrency: u32, ended: &[AttemptKey]) -> Session {
    let gate: Gate = Arc::new(|_, _| Verdict::May);
    Session::new(Slots::new(usize::MAX), gate, concurrency, Duration::from_secs(15), &[], ended, now())
}

/// A session that has read an empty store.
pub(super) fn ready(concurrency: u32) -> Session {
    let mut session = begun(concurrency, &[]);
    assert!(matches!(session.poll(), Some(Output::Load)));
    session.handle(Input::Loaded { due: vec![], more: false }, now());
    session
}

#[test]
fn what_its_submitter_may_no_longer_have_run_is_not_sent() {
    let gate: Gate = Arc::new(|due, _| match due.command.id.0.as_u128() {
        2 => Verdict::MayNot(Objection { why: Withdrawn::Submitter, message: "`ada` was deleted".to_owned() }),
        3 => Verdict::Unknown,
        _ => Verdict::May,
    });
    let mut session = Session::new(Slots::new(usize::MAX), gate, 8, Duration::from_secs(15), &[], &[], now());
    assert!(matches!(session.poll(), Some(Output::Load)));
    let read = vec![due(1, Priority::Normal), due(2, Priority::Normal), due(4, Priority::Normal)];
    session.handle(Input::Loaded { due: read, more: false }, now());
    let done = drain(&mut session);
    assert_eq!(sent(&done), [key(1), key(4)], "its neighbours are");
    let rejected = done.iter().filter_map(|output| match output {
        Output::Reject(key, why) => Some((*key, why.message.as_str())),
        _ => None,
    });
    assert_eq!(rejected.collect::<Vec<_>>(), [(key(2), "`ada` was deleted")]);
    session.handle(Input::Offer(due(3, Priority::Normal)), now());
    assert!(matches!(drain(&mut session).as_slice(), [Output::Load]), "whom nobody knows is looked up first");
}
