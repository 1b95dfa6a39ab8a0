//! What goes to the store with an attempt's end.

use super::*;

fn ended(number: u128, bytes: u64) -> Input {
    let stdout = plan::outcome::StreamEnd { bytes, head: bytes, tail: 0, sha256: String::new() };
    let outcome = Outcome { stdout, ..Outcome::not_started(End::Exited) };
    Input::Frame(AgentFrame::Result { attempt: key(number), outcome, traceparent: None })
}

#[test]
fn output_of_an_attempt_that_ended_without_a_session_is_kept_with_its_result() {
    let mut session = begun(1, &[key(7)]);
    assert!(matches!(session.poll(), Some(Output::Load)));
    session.handle(Input::Loaded { due: vec![due(7, Priority::Normal), due(8, Priority::Normal)], more: false }, now());
    assert_eq!(sent(&drain(&mut session)), [key(8)], "it is not sent again, and takes no slot");
    session.handle(output(7, b"late"), now());
    assert!(matches!(drain(&mut session).as_slice(), [Output::Append { .. }]));
    session.handle(ended(7, 4), now());
    let done = drain(&mut session);
    let [Output::Finish { kept: Some(kept), .. }] = done.as_slice() else {
        panic!("its end is stored with its output");
    };
    assert_eq!(kept.stdout, b"late");
}

#[test]
fn what_an_agent_said_along_with_an_end_is_told_with_it_and_nothing_of_others() {
    let mut session = begun(2, &[]);
    assert!(matches!(session.poll(), Some(Output::Load)));
    session.handle(Input::Loaded { due: vec![due(7, Priority::Normal), due(8, Priority::Normal)], more: false }, now());
    assert_eq!(sent(&drain(&mut session)), [key(7), key(8)]);
    for attempt in [key(7), key(8)] {
        session.handle(Input::Frame(AgentFrame::Ack { attempt }), now());
    }
    session.handle(output(7, b"all"), now());
    session.handle(ended(7, 3), now());
    let outputs = drain(&mut session);
    let [Output::Note(noted, Event::Acknowledge, _), Output::Finish { key: over, before, kept: Some(_), .. }] =
        &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert_eq!((*noted, *over), (key(8), key(7)));
    assert!(matches!(before[..], [Output::Note(_, Event::Acknowledge, _), Output::Append { .. }]), "{before:?}");
    // Output that is not all here is read back from the store: it has to be there before.
    session.handle(output(8, b"some"), now());
    session.handle(ended(8, 9), now());
    let outputs = drain(&mut session);
    assert!(
        matches!(&outputs[..], [Output::Append { .. }, Output::Finish { kept: None, before, .. }] if before.is_empty())
    );
}

#[test]
fn a_session_that_has_nothing_to_say_keeps_no_room_for_it() {
    let mut session = ready(4);
    session.handle(Input::AskKey, now());
    while session.poll().is_some() {}
    assert_eq!(session.out.capacity(), 0);
}
