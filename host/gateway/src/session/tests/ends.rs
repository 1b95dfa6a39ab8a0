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

fn over(number: u128, outcome: Outcome) -> Input {
    Input::Frame(AgentFrame::Result { attempt: key(number), outcome, traceparent: None })
}

#[test]
fn an_end_that_cannot_be_ends_the_session_and_nothing_of_it_is_stored() {
    let good = || Outcome::not_started(End::Exited);
    let step = plan::outcome::StepEnd::default();
    let stdout = plan::outcome::StreamEnd { bytes: 5, head: 10, tail: 0, sha256: String::new() };
    for (outcome, is_good) in [
        (Outcome { steps: vec![step; plan::step::MAX_STEPS], ..good() }, true),
        (Outcome { steps: vec![step; plan::step::MAX_STEPS + 1], ..good() }, false),
        (Outcome { stdout, ..good() }, false),
    ] {
        let mut session = ready(1);
        session.handle(Input::Offer(due(1, Priority::Normal)), now());
        drain(&mut session);
        session.handle(over(1, outcome), now());
        let outputs = drain(&mut session);
        match outputs.as_slice() {
            [Output::Finish { .. }] if is_good => {}
            [Output::Send(HostFrame::Error(_)), Output::Close(fault)] if !is_good => {
                assert_eq!(fault.code, "bad_result");
            }
            _ => panic!("{outputs:?}"),
        }
    }
}

#[test]
fn results_that_wait_are_bounded_by_what_they_say_too() {
    let mut session = ready(1);
    let message = "m".repeat(plan::outcome::MAX_MESSAGE_BYTES);
    let most = STORING_MAX + PARKED_BYTES / plan::outcome::MAX_MESSAGE_BYTES;
    for number in 1..=most as u128 {
        assert!(!session.closed, "at {number}");
        session.handle(over(number, Outcome::not_started(End::Interrupted { message: message.clone() })), now());
    }
    let outputs = drain(&mut session);
    assert!(matches!(outputs.last(), Some(Output::Close(fault)) if fault.code == "too_many_results"));
}

#[test]
fn output_that_nobody_asked_to_keep_ends_the_session_and_what_passes_by_does_not() {
    let chunk = MAX_OUTPUT_CHUNK_BYTES as u64;
    let data = STANDARD.encode(vec![b'x'; MAX_OUTPUT_CHUNK_BYTES]);
    let piece = |offset: u64, gone| {
        let (stream, data) = (Stream::Stderr, data.clone());
        Input::Frame(AgentFrame::Output(frame::Output { attempt: key(1), stream, offset, data, gone }))
    };
    let begin = || {
        let mut session = ready(1);
        session.handle(Input::Offer(due(1, Priority::Normal)), now());
        drain(&mut session);
        session
    };
    let mut session = begin();
    for number in 0..2 * HELD_BYTES / chunk {
        let end = (number + 1) * chunk;
        let gone = (end > 8 * chunk).then(|| frame::Gone { from: 4 * chunk, until: end - 4 * chunk });
        session.handle(piece(number * chunk, gone), now());
        drain(&mut session);
    }
    assert!(!session.closed, "what passes by is let go of");

    let mut session = begin();
    for number in 0..HELD_BYTES / chunk {
        // Holes do not help, nor does saying the same again.
        session.handle(piece([0, 5 * number * chunk][(number % 2) as usize], None), now());
        assert!(matches!(drain(&mut session)[..], [Output::Append { .. }]), "{number}");
    }
    session.handle(piece(0, None), now());
    let outputs = drain(&mut session);
    assert!(matches!(&outputs[..], [Output::Send(_), Output::Close(fault)] if fault.code == "bad_output"));
}
