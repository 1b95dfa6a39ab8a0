//! Channels: each is told what comes after it was made, each message once, whoever makes or carries it.

use domain::alert::Severity;
use domain::alert::channel::{Kind, Settings};
use domain::alert::mute::Matcher;
use plan::id::{AgentId, ChannelId, NoticeId};
use ports::channels::{Channel, Notice, NoticeState};

use super::alerts::began;
use super::fixtures::*;
use super::{Ground, Store};

fn channel(n: u128, name: &str) -> Channel {
    let settings = Settings {
        kind: Kind::Webhook,
        url: "https://hooks.example.org/x".into(),
        matcher: Matcher { sites: vec!["eu".into()], ..Matcher::default() },
        at_least: Severity::Warning,
        template: None,
        per_minute: 6,
    };
    Channel {
        id: ChannelId(uuid::Uuid::from_u128(n)),
        name: name.into(),
        settings,
        secret: "sealed".into(),
        created_by: "ada".into(),
        created_at: at(1),
        changed_by: "ada".into(),
        changed_at: at(1),
        told_up_to: 0,
        told_at: None,
    }
}

fn notice(n: u128, channel: &Channel, due: i64) -> Notice {
    Notice {
        id: NoticeId(uuid::Uuid::from_u128(n)),
        channel: channel.id,
        created_at: at(2),
        state: NoticeState::Waiting,
        due_at: at(due),
        attempts: 0,
        body: "{}".into(),
        error: None,
    }
}

pub async fn of_two_that_change_a_channel_at_once_one_does<S: Store>(Ground { store, .. }: Ground<S>) {
    assert!(store.add_channel(channel(1, "ops"), entry("channels.create"), None).await.expect("added"));
    let was = store.channels().await.expect("read").remove(0);
    let settings = Settings { per_minute: 60, ..was.settings.clone() };
    let (changed_by, secret) = ("bob".to_owned(), "another".to_owned());
    let changed = Channel { settings, secret, changed_by, changed_at: at(2), ..was.clone() };
    let change = async |read_at| {
        store.change_channel(changed.clone(), read_at, entry("channels.change")).await.expect("answered")
    };
    assert!(change(was.changed_at).await);
    assert!(!change(was.changed_at).await, "it has another state by now");
    assert_eq!(store.channels().await.expect("read"), std::slice::from_ref(&changed));
    assert!(store.remove_channel(was.id, entry("channels.delete")).await.expect("removed"));
    assert!(!change(at(2)).await, "it is gone");
}

pub async fn a_channel_hears_of_what_comes_after_it_once<S: Store>(Ground { store, .. }: Ground<S>) {
    let alert = |n: u128| vec![began(n, Some(AgentId(uuid::Uuid::from_u128(n))), "", Severity::Warning)];
    store.keep_alerts(alert(1), Vec::new(), None).await.expect("kept");
    assert!(store.add_channel(channel(1, "ops"), entry("channels.create"), None).await.expect("added"));
    assert!(!store.add_channel(channel(2, "ops"), entry("channels.create"), None).await.expect("answered"));
    let kept = store.channels().await.expect("read").remove(0);
    assert_eq!(kept, Channel { told_up_to: kept.told_up_to, ..channel(1, "ops") });
    store.keep_alerts(alert(2), Vec::new(), None).await.expect("kept");
    assert!(store.news(kept.told_up_to, at(7), 10).await.expect("read").is_empty(), "it may still come late");
    let news = store.news(kept.told_up_to, at(8), 10).await.expect("read");
    assert_eq!(news.iter().map(|(_, subject)| subject.as_str()).collect::<Vec<_>>(), [r#"{"rule":"disk"}"#]);
    // A host whose clock is behind writes after one whose clock is ahead: neither is passed over.
    let dated = |n: u128, second: i64| {
        let mut change = alert(n).remove(0);
        change.moments.iter_mut().for_each(|moment| moment.at = at(second));
        vec![change]
    };
    for (n, second) in [(3, 12), (4, 10)] {
        store.keep_alerts(dated(n, second), Vec::new(), None).await.expect("kept");
    }
    assert!(store.news(news[0].0, at(11), 10).await.expect("read").is_empty(), "the second waits with the first");
    assert_eq!(store.news(news[0].0, at(13), 10).await.expect("read").len(), 2);

    let up_to = news[0].0;
    assert!(store.tell_channel(&kept, up_to, Some(notice(5, &kept, 3)), at(9)).await.expect("told"));
    assert!(!store.tell_channel(&kept, up_to, Some(notice(6, &kept, 3)), at(9)).await.expect("answered"), "once");
    let told = store.channels().await.expect("read").remove(0);
    assert_eq!((told.told_up_to, told.told_at), (up_to, Some(at(9))));
    assert_eq!(store.notices(kept.id, None, None, 10).await.expect("read"), [notice(5, &kept, 3)]);
    store.forget_notices(at(100)).await.expect("forgotten");
    assert!(store.news(0, at(100), 10).await.expect("read").is_empty());
    assert_eq!(store.notices(kept.id, None, None, 10).await.expect("read").len(), 1, "what waits is not forgotten");

    assert!(store.remove_channel(kept.id, entry("channels.delete")).await.expect("removed"));
    assert!(!store.remove_channel(kept.id, entry("channels.delete")).await.expect("answered"));
    assert!(store.notices(kept.id, None, None, 10).await.expect("read").is_empty());
}

pub async fn a_message_is_carried_by_one_and_given_up_in_the_end<S: Store>(Ground { store, .. }: Ground<S>) {
    let ops = channel(1, "ops");
    store.add_channel(ops.clone(), entry("channels.create"), None).await.expect("added");
    let kept = store.channels().await.expect("read").remove(0);
    let waiting = notice(5, &ops, 3);
    assert!(store.tell_channel(&kept, 1, Some(waiting.clone()), at(2)).await.expect("told"));
    assert!(store.due_notices(at(2), 10).await.expect("read").is_empty());
    assert_eq!(store.due_notices(at(3), 10).await.expect("read"), std::slice::from_ref(&waiting));
    assert!(store.claim_notice(&waiting, at(60)).await.expect("claimed"));
    assert!(!store.claim_notice(&waiting, at(60)).await.expect("answered"), "another has it");
    assert!(store.due_notices(at(59), 10).await.expect("read").is_empty(), "who has it may take so long");
    let failed = Notice {
        attempts: 1,
        state: NoticeState::Dead,
        error: Some("the answer was 500".into()),
        due_at: at(60),
        ..waiting
    };
    store.settle_notice(&failed).await.expect("settled");
    let dead = store.notices(ops.id, Some(NoticeState::Dead), None, 10).await.expect("read");
    assert_eq!(dead, std::slice::from_ref(&failed));
    assert!(store.notices(ops.id, Some(NoticeState::Sent), None, 10).await.expect("read").is_empty());
    assert!(store.notices(ops.id, None, Some(failed.id), 10).await.expect("read").is_empty());
}
