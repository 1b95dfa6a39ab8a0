//! Saved groups.

use domain::audit::Entry;
use domain::expression::Written;
use domain::group::{Change, Effect, Group, GroupName, Refused, Undrawable};
use ports::groups::Changed;

use super::fixtures::*;
use super::{Ground, Store};

fn name(text: &str) -> GroupName {
    GroupName::parse(text).expect("a name")
}

fn written(text: &str) -> Written {
    Written::parse(text).expect("an expression")
}

fn create(group: &str, expr: &str) -> Change {
    Change::Create { name: name(group), expr: written(expr), description: "what \"for\"".into() }
}

fn edit(group: &str, expr: &str) -> Change {
    Change::Edit { name: name(group), expr: Some(written(expr)), description: None, if_at: None }
}

fn delete(group: &str) -> Change {
    Change::Delete { name: name(group), if_at: None }
}

async fn done<S: Store>(store: &S, change: Change, audit: Entry) -> Effect {
    match store.change_group(change, audit, None).await.expect("answered") {
        Changed::Done(effect) => effect,
        Changed::Refused(refused) => panic!("{refused}"),
    }
}

pub async fn a_group_reads_back_changes_and_goes<S: Store>(Ground { store, .. }: Ground<S>) {
    let web = Group {
        name: name("web"),
        expr: written("agent = web-* and not label.env = 'a\\'b'"),
        description: "what \"for\"".into(),
        created_by: "ada".into(),
        created_at: NOON,
        changed_by: "ada".into(),
        changed_at: NOON,
    };
    let put = done(&store, create("web", web.expr.text()), entry("groups.create")).await;
    assert_eq!(put, Effect::Put(web.clone()));
    done(&store, create("a-b", "@web"), entry("groups.create")).await;
    let names = |groups: &[Group]| groups.iter().map(|group| group.name.to_string()).collect::<Vec<_>>();
    let all = store.saved_groups().await.expect("read");
    assert_eq!((names(&all), &all[1]), (vec!["a-b".to_owned(), "web".to_owned()], &web));

    let later = Entry { at: at(5), actor: Some("eve".into()), ..entry("groups.change") };
    let after = Group { expr: written("all"), changed_by: "eve".into(), changed_at: at(5), ..web };
    assert_eq!(done(&store, edit("web", "all"), later).await, Effect::Put(after.clone()));
    assert_eq!(store.saved_groups().await.expect("read")[1], after);
    done(&store, delete("a-b"), entry("groups.delete")).await;
    done(&store, delete("web"), entry("groups.delete")).await;
    assert_eq!(store.saved_groups().await, Ok(vec![]));
    assert_eq!(store.audits(None, 10).await.expect("read").len(), 5);
}

pub async fn a_refused_change_writes_nothing_and_says_why<S: Store>(Ground { store, .. }: Ground<S>) {
    done(&store, create("web", "site = eu"), entry("groups.create")).await;
    done(&store, create("top", "@web"), entry("groups.create")).await;
    let before = store.saved_groups().await.expect("read");
    let in_use = Refused::InUse { name: name("web"), by: vec!["top".into()] };
    let unknown = Undrawable::Unknown { name: "wbe".into(), nearest: vec!["web".into()] };
    let circle = Undrawable::Circle(["web", "top", "web"].map(str::to_owned).to_vec());
    for (change, refused) in [
        (create("web", "all"), Refused::NameTaken(name("web"))),
        (create("new", "@wbe"), unknown.into()),
        (edit("web", "@top"), circle.into()),
        (edit("gone", "all"), Refused::NotFound(name("gone"))),
        (delete("web"), in_use),
        (Change::Delete { name: name("top"), if_at: Some(at(1)) }, Refused::Changed(name("top"))),
    ] {
        let answer = store.change_group(change, entry("groups.change"), None).await.expect("answered");
        assert_eq!(answer, Changed::Refused(refused));
    }
    assert_eq!(store.saved_groups().await, Ok(before));
    assert_eq!(store.audits(None, 10).await.expect("read").len(), 2, "no action, no audit");
}

pub async fn of_two_changes_that_would_close_a_circle_one_is_refused<S: Store>(Ground { store, .. }: Ground<S>) {
    for group in ["a", "b"] {
        done(&store, create(group, "all"), entry("groups.create")).await;
    }
    let (one, two) = tokio::join!(
        store.change_group(edit("a", "@b"), entry("groups.change"), None),
        store.change_group(edit("b", "@a"), entry("groups.change"), None)
    );
    let stored = [one, two].into_iter().filter(|answer| matches!(answer, Ok(Changed::Done(_)))).count();
    assert_eq!(stored, 1);
}
