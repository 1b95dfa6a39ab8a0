//! The cluster's key is rotated: agents follow it from session to session, and never back.

use plan::envelope::seal;
use plan::keyring::{FORMER_GOOD_MS, Turn};
use plan::outcome::{End, RejectCause};
use wire::frame::{AgentFrame, Command, HostFrame};

use crate::played::{Bed, Session, command, welcome};
use crate::support::{attempt, cluster_id, cluster_key, envelope, plan, step};

fn key(seed: u8) -> ed25519_dalek::SigningKey {
    if seed == 1 { cluster_key() } else { ed25519_dalek::SigningKey::from_bytes(&[seed + 100; 32]) }
}

/// Turns from the key that was pinned to the last of `count`, all at this instant.
fn turns(count: u8, at_ms: i64) -> Vec<Turn> {
    let turn =
        |version: u8| Turn::new(cluster_id(), &key(version - 1), &key(version).verifying_key(), version.into(), at_ms);
    (2..=count).map(turn).collect()
}

/// A command signed with this key, valid for so long.
fn signed(number: u128, seed: u8, for_ms: i64) -> Command {
    let (attempt, plan) = (attempt(number, 1), plan(vec![step("sh", &["-c", "true"])]));
    let not_after_ms = agent::clock::now().wall_ms + for_ms;
    Command { envelope: seal(&envelope(attempt, plan.clone(), not_after_ms), &key(seed)), ..command(attempt, plan) }
}

async fn end(session: &mut Session, command: Command) -> End {
    let attempt = command.attempt;
    session.say(HostFrame::Command(command)).await;
    session.result(attempt).await.end
}

fn is_forged(end: &End) -> bool {
    matches!(end, End::Rejected { cause: RejectCause::Signature, .. })
}

#[tokio::test]
async fn an_agent_that_was_away_for_several_rotations_catches_up_and_never_goes_back() {
    let mut bed = Bed::new().await;
    let (mut session, _) = bed.session().await;
    assert_eq!(end(&mut session, signed(1, 1, 60_000)).await, End::Exited);
    assert!(is_forged(&end(&mut session, signed(2, 4, 60_000)).await), "nobody said that this is a key");
    bed.kill_agent();
    drop(session);

    bed.turns = turns(4, agent::clock::now().wall_ms);
    bed.start();
    let (mut session, _) = bed.session().await;
    assert_eq!(end(&mut session, signed(3, 4, 60_000)).await, End::Exited, "three turns at once");
    assert_eq!(end(&mut session, signed(4, 1, 60_000)).await, End::Exited, "signed before, and still in its time");
    let beyond = signed(5, 2, FORMER_GOOD_MS + 3_600_000);
    assert!(is_forged(&end(&mut session, beyond).await), "a former key is good for no longer than a command may wait");
    assert!(is_forged(&end(&mut session, signed(6, 5, 60_000)).await));
    bed.kill_agent();
    drop(session);

    // What it followed is on its disk.
    bed.turns = turns(2, 0);
    bed.start();
    let (mut before, _) = bed.challenge(1, None).await;
    let AgentFrame::Error(fault) = before.next().await else { panic!("an older key was taken") };
    assert_eq!(fault.code, "stale_key");
    drop(before);
    bed.turns = turns(4, 0);
    bed.turns.push(Turn::new(cluster_id(), &key(1), &key(9).verifying_key(), 5, 0));
    let (mut forged, _) = bed.challenge(1, None).await;
    let AgentFrame::Error(fault) = forged.next().await else { panic!("a turn by a former key was taken") };
    assert_eq!(fault.code, "key_chain");
    drop(forged);
    bed.turns = turns(4, 0);
    let (mut again, _) = bed.challenge(1, None).await;
    let AgentFrame::Hello(_) = again.next().await else { panic!("no HELLO") };
    again.say(HostFrame::Welcome(welcome())).await;
    assert_eq!(end(&mut again, signed(7, 4, 60_000)).await, End::Exited);
}
