//! What waits for a lock, and what stands behind it.

use super::*;

/// Whether the store is to be read now.
fn loads(session: &mut Session) -> bool {
    drain(session).iter().any(|output| matches!(output, Output::Load))
}

#[test]
fn what_waits_for_a_lock_takes_no_place_of_what_wants_none() {
    let mut session = ready(2);
    for number in 1..=5 {
        session.handle(Input::Offer(wanting(number, Priority::Normal, "compose:shop")), now());
    }
    session.handle(Input::Offer(wanting(6, Priority::Normal, "")), now());
    session.handle(Input::Offer(wanting(7, Priority::Low, "compose:blog")), now());
    assert_eq!(sent(&drain(&mut session)), [key(1), key(6)]);
    session.handle(result(6), now());
    assert_eq!(sent(&drain(&mut session)), [key(7)], "another lock is another matter");
    session.handle(result(1), now());
    assert_eq!(sent(&drain(&mut session)), [key(2)], "in order, as soon as the lock is given back");
    session.handle(Input::Settle(vec![(open(3), Settle::Cancel)]), now());
    session.handle(result(2), now());
    assert_eq!(sent(&drain(&mut session)), [key(4)], "what was cancelled meanwhile holds up nobody");
}

#[test]
fn nobody_overtakes_another_that_wants_the_same_lock() {
    let mut session = ready(4);
    session.handle(Input::Offer(wanting(1, Priority::Normal, "a")), now());
    assert_eq!(sent(&drain(&mut session)), [key(1)]);
    session.handle(Input::Offer(wanting(2, Priority::Normal, "a")), now());
    session.handle(Input::Offer(wanting(3, Priority::Critical, "a")), now());
    assert_eq!(sent(&drain(&mut session)), []);
    session.handle(result(1), now());
    assert_eq!(sent(&drain(&mut session)), [key(3)], "the more urgent one first, as everywhere");
    session.handle(result(3), now());
    assert_eq!(sent(&drain(&mut session)), [key(2)]);
}

#[test]
fn what_another_host_took_in_behind_a_wanted_lock_is_looked_for_ever_more_rarely() {
    let mut session = ready(2);
    session.handle(Input::Offer(wanting(1, Priority::Normal, "a")), now());
    session.handle(Input::Offer(wanting(2, Priority::Normal, "a")), now());
    assert_eq!(sent(&drain(&mut session)), [key(1)]);
    // The first of what waits is known, and the store says no more.
    let looks = |session: &mut Session, count: usize| {
        let found = (0..count).filter(|_| {
            session.handle(Input::Look(key(2)), now());
            let load = loads(session);
            if load {
                session.handle(Input::Loaded { due: vec![wanting(2, Priority::Normal, "a")], more: false }, now());
            }
            load
        });
        found.count()
    };
    assert_eq!(looks(&mut session, 64), 8, "1, 2, 4, 8, 16, 32, 48, 64");
    assert_eq!(looks(&mut session, 16), 1);
    session.handle(Input::Look(key(2)), now());
    let found = vec![wanting(2, Priority::Normal, "a"), wanting(3, Priority::Low, "")];
    session.handle(Input::Loaded { due: found, more: false }, now());
    assert_eq!(sent(&drain(&mut session)), [key(3)]);
    session.handle(result(3), now());
    session.handle(Input::Look(key(2)), now());
    assert!(loads(&mut session), "something went, so it is looked for at once again");
    // Without a look there is nothing new behind it.
    session.handle(Input::Loaded { due: vec![], more: false }, now());
    session.handle(Input::Freed, now());
    assert!(!loads(&mut session));
}
