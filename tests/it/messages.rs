//! Messages of alerts under a clock that is turned by hand: the store, the way out and who is told are real.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bus::local::Local;
use domain::access::{Caller, Role};
use domain::alert::channel::{Kind, Settings};
use domain::alert::flap::Limits;
use domain::alert::mute::Matcher;
use domain::alert::standing::Alert;
use domain::alert::{Finding, Seen, Severity};
use plan::id::{AlertId, UserId};
use ports::alerts::{Alerts, Kept};
use ports::channels::{Channels, Notice, NoticeState};
use ports::clock::Clock as _;
use ports::journal::Journal;
use serde_json::{Value, json};
use server::clock::RandomIds;
use server::courier::HttpCourier;
use server::keys::SecretKey;
use services::digest::sha256_hex;
use services::notify::{Notifier, Tries};
use services::origin::Origin;
use services::telling::{About, Quiet};
use tests::receiver::{Message, Receiver};
use tests::store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixtures;
use crate::windows::Hand;

tests::on_both_stores![
    a_message_that_is_refused_is_tried_again_later_and_delivered_once,
    what_comes_together_goes_together_as_often_as_the_channel_allows_and_nothing_is_lost,
    a_message_that_nobody_takes_is_given_up_after_nine_hours_and_shown,
    a_slack_channel_is_told_as_slack_reads_it,
];

/// A host's telling, and nothing else of it.
struct Ground {
    clock: Arc<Hand>,
    alerts: Arc<dyn Alerts>,
    channels: Arc<dyn Channels>,
    notifier: Arc<Notifier>,
    people: services::channels::Channels,
    receiver: Receiver,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Ground {
    async fn new(store: Store) -> Ground {
        let folder = tempfile::tempdir().expect("a folder");
        let (stop, live, mut tasks) = (CancellationToken::new(), Arc::new(Local::default()), JoinSet::new());
        let (alerts, channels, journal): (Arc<dyn Alerts>, Arc<dyn Channels>, Arc<dyn Journal>) = match store {
            Store::Sqlite => {
                let options = storage::sqlite::Options::new(folder.path().join("viworks.db"));
                let (store, writer) = storage::sqlite::open(options, live).await.expect("opens");
                tasks.spawn(writer.run(stop));
                (Arc::new(store.clone()), Arc::new(store.clone()), Arc::new(store))
            }
            Store::Postgres(url) => {
                let (store, writer) =
                    storage::postgres::open(storage::postgres::Options::new(url), live).await.expect("opens");
                tasks.spawn(writer.run(stop));
                (Arc::new(store.clone()), Arc::new(store.clone()), Arc::new(store))
            }
        };
        let clock = Arc::new(Hand::default());
        let courier = Arc::new(HttpCourier { private: true });
        std::fs::create_dir(folder.path().join("keys")).expect("a folder");
        let vault = Arc::new(SecretKey::in_data(folder.path(), sha256_hex).expect("a key"));
        let notifier = Arc::new(Notifier {
            channels: channels.clone(),
            courier: courier.clone(),
            vault: vault.clone(),
            clock: clock.clone(),
            ids: Arc::new(RandomIds),
            tries: Tries::default(),
        });
        let people = services::channels::Channels {
            channels: channels.clone(),
            courier,
            journal,
            notifier: notifier.clone(),
            vault,
            clock: clock.clone(),
            ids: Arc::new(RandomIds),
        };
        let receiver = Receiver::start().await;
        Ground { clock, alerts, channels, notifier, people, receiver, _folder: folder, _tasks: tasks }
    }

    /// A channel that leads to the receiver.
    async fn channel(&self, kind: Kind, template: Option<&str>) {
        let settings = Settings {
            kind,
            url: self.receiver.url.clone(),
            matcher: Matcher::default(),
            at_least: Severity::Warning,
            template: template.map(str::to_owned),
            per_minute: 6,
        };
        let admin = Caller::user(UserId(fixtures::uuid()), "ada", Role::Admin, &[]);
        self.people.create(&admin, "ops", settings, None, &Origin::default()).await.expect("made");
    }

    /// That second a rule finds disks full on one machine.
    async fn fire(&self, second: i64, disks: Range<u32>) {
        self.clock.0.store(second, Ordering::SeqCst);
        let quiet = Quiet { silences: Vec::new(), now: self.clock.now() };
        let about = About { name: "web-1".into(), site: "eu".into(), ..About::default() };
        let changes = disks.map(|n| {
            let seen = Seen::Wrong(Severity::Critical);
            let key = format!("/srv/{n}");
            let finding = Finding { key: key.clone(), seen, since_ms: 1, value: Some(97.0), message: "full".into() };
            let (alert, lines) = Alert::new(&finding, Limits::default(), quiet.now);
            let kept = Kept {
                id: AlertId(fixtures::uuid()),
                rule: "disk".into(),
                agent: None,
                agent_name: String::new(),
                site: String::new(),
                key,
                alert,
                muted: None,
                revision: 0,
            };
            quiet.change(kept, &about, &lines, None)
        });
        let left = self.alerts.keep_alerts(changes.collect(), Vec::new(), None).await.expect("kept");
        assert!(left.is_empty(), "nobody else writes here");
    }

    /// Looks once, that second. Answers how many messages came.
    async fn look(&self, second: i64) -> usize {
        self.clock.0.store(second, Ordering::SeqCst);
        let before = self.receiver.messages().len();
        self.notifier.turn(false).await.expect("looked");
        self.receiver.messages().len() - before
    }

    /// The channel's messages, as an admin sees them.
    async fn kept(&self, state: NoticeState) -> Vec<Notice> {
        let channel = self.channels.channels().await.expect("read").remove(0).id;
        self.channels.notices(channel, Some(state), None, 100).await.expect("read")
    }
}

/// How many alerts a message is about: those that it shows, and those that it counts.
fn about(message: &Message) -> (usize, u64) {
    let data = message.json()["data"].clone();
    (data["alerts"].as_array().expect("a list").len(), data["left_out"].as_u64().expect("a number"))
}

/// When a message was sent, seconds after the fixtures' noon.
fn second(message: &Message) -> i64 {
    let at: i64 = message.header("webhook-timestamp").parse().expect("a number");
    at - fixtures::at(0).as_millis() / 1_000
}

async fn a_message_that_is_refused_is_tried_again_later_and_delivered_once(store: Store) {
    let ground = Ground::new(store).await;
    ground.channel(Kind::Webhook, None).await;
    ground.receiver.answer(&[500, 500], 200);
    ground.fire(0, 0..1).await;
    let mut came = Vec::new();
    for second in 1..200 {
        came.extend((0..ground.look(second).await).map(|_| second));
    }
    assert_eq!(came, [4, 9, 39], "made once it cannot come late, then five seconds, then thirty");
    let messages = ground.receiver.messages();
    let statuses: Vec<u16> = messages.iter().map(|message| message.status.as_u16()).collect();
    assert_eq!(statuses, [500, 500, 200]);
    for message in &messages {
        assert_eq!(message.header("webhook-id"), messages[0].header("webhook-id"), "whoever has it knows it again");
        assert_eq!(message.body, messages[0].body);
    }
    assert_eq!(messages.iter().map(second).collect::<Vec<_>>(), came, "a try is dated when it is made");
    let sent = ground.kept(NoticeState::Sent).await;
    assert_eq!(sent.iter().map(|notice| notice.attempts).collect::<Vec<_>>(), [3]);
    assert_eq!(format!("msg_{}", sent[0].id), messages[0].header("webhook-id"));
    assert_eq!(ground.notifier.tries.read(), [("sent", 1), ("failed", 2), ("dead", 0)]);
}

async fn what_comes_together_goes_together_as_often_as_the_channel_allows_and_nothing_is_lost(store: Store) {
    let ground = Ground::new(store).await;
    ground.channel(Kind::Webhook, None).await;
    ground.fire(0, 0..30).await;
    ground.fire(2, 30..60).await;
    let mut fired = 60;
    let mut came = Vec::new();
    for now in 3..200 {
        // One by one for a while, then a flood of more than is read at once.
        let more = match now {
            20..30 => 1,
            60 => 1_200,
            _ => 0,
        };
        if more > 0 {
            ground.fire(now, fired..fired + more).await;
            fired += more;
        }
        came.extend((0..ground.look(now).await).map(|_| now));
    }
    let messages = ground.receiver.messages();
    assert_eq!(came.first(), Some(&4), "what is three seconds old");
    assert_eq!(about(&messages[0]), (30, 0), "one message about thirty alerts of one rule");
    assert_eq!(about(&messages[1]), (30, 0), "what came while it might not speak waits for the next");
    assert!(came.windows(2).all(|two| two[1] - two[0] >= 10), "six a minute: {came:?}");
    assert!(messages.iter().any(|message| about(message) == (50, 450)), "what a message has no room for is counted");
    let told: u64 = messages.iter().map(about).map(|(shown, left_out)| shown as u64 + left_out).sum();
    assert_eq!(told, u64::from(fired), "every alert is told of, once");
    let mut ids: Vec<&str> = messages.iter().map(|message| message.header("webhook-id")).collect();
    ids.dedup();
    assert_eq!((ids.len(), ground.kept(NoticeState::Sent).await.len()), (messages.len(), messages.len()));
}

async fn a_message_that_nobody_takes_is_given_up_after_nine_hours_and_shown(store: Store) {
    let ground = Ground::new(store).await;
    ground.channel(Kind::Webhook, None).await;
    ground.receiver.answer(&[], 500);
    ground.fire(0, 0..1).await;
    let (mut due, mut tries) = (4, 0);
    for wait in [5, 30, 120, 600, 1_800, 7_200, 21_600, 0] {
        assert_eq!(ground.look(due - 1).await, 0, "not before its time");
        tries += ground.look(due).await;
        due += wait;
    }
    assert_eq!(tries, 8);
    for second in [due + 1, due + 100_000] {
        assert_eq!(ground.look(second).await, 0, "never again");
    }
    let dead = ground.kept(NoticeState::Dead).await;
    let seen: Vec<_> = dead.iter().map(|notice| (notice.attempts, notice.error.as_deref())).collect();
    assert_eq!(seen, [(8, Some("it answered 500"))]);
    assert_eq!(ground.notifier.tries.read(), [("sent", 0), ("failed", 7), ("dead", 1)]);
    // Whoever answers again hears of what comes then.
    ground.receiver.answer(&[], 200);
    ground.fire(due + 100_010, 1..2).await;
    assert_eq!(ground.look(due + 100_014).await, 1);
    assert_eq!((ground.kept(NoticeState::Sent).await.len(), ground.kept(NoticeState::Dead).await.len()), (1, 1));
}

async fn a_slack_channel_is_told_as_slack_reads_it(store: Store) {
    let ground = Ground::new(store).await;
    let template = "{{ count }} disks: {% for alert in alerts %}{{ alert.key }} {% endfor %}";
    ground.channel(Kind::Slack, Some(template)).await;
    ground.fire(0, 0..3).await;
    assert_eq!(ground.look(4).await, 1);
    let message = ground.receiver.messages().remove(0);
    let said: Value = message.json();
    assert_eq!(said, json!({ "text": "3 disks: /srv/0 /srv/1 /srv/2 " }), "one field and no other");
    assert_eq!(message.header("content-type"), "application/json");
    let ours = message.headers.keys().filter(|name| name.as_str().starts_with("webhook-")).count();
    assert_eq!(ours, 0, "its address is its secret, and nothing is signed");
}
