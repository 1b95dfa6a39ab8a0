//! Lists that change while somebody turns their pages: what was there at the first page and stays comes once, in the
//! same order.

use std::cell::Cell;

use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Api, exec_body};
use tests::host::TestHost;
use tests::played::Played;
use tests::store::Store;

tests::on_both_stores![a_list_that_grows_between_its_pages_shows_what_was_there_once];

/// What an item is known by.
fn keys(page: &Value, field: &str) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item[field].to_string()).collect()
}

/// The whole list, in one page.
async fn whole(admin: &Api, path: &str, field: &str) -> Vec<String> {
    let page = admin.get(&format!("{path}?limit=500")).await.expect(200);
    assert!(page["next_cursor"].is_null(), "a small list");
    keys(&page, field)
}

/// The whole list in pages of two; `between` happens before each but the first.
async fn in_pages(admin: &Api, path: &str, field: &str, between: impl AsyncFn(u32)) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), String::new());
    for turned in 1.. {
        let page = admin.get(&format!("{path}?limit=2{next}")).await.expect(200);
        found.extend(keys(&page, field));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("&cursor={cursor}");
        between(turned).await;
    }
    found
}

async fn a_list_that_grows_between_its_pages_shows_what_was_there_once(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    Played::away(&host, &admin, "box", |_| ()).await;
    let run = exec_body("box", &json!({ "program": "true" }));
    let submit = async |_: u32| drop(admin.submit(&run).await);

    // The newest comes first, so what is added stands before every page that is still to come.
    for _ in 0..5 {
        submit(0).await;
    }
    for (path, field) in [("/api/v1/commands", "id"), ("/api/v1/agents/box/commands", "id"), ("/api/v1/audit", "id")] {
        let before = whole(&admin, path, field).await;
        assert!(before.len() >= 5, "{path}: {before:?}");
        assert_eq!(in_pages(&admin, path, field, &submit).await, before, "{path}");
        assert!(whole(&admin, path, field).await.len() > before.len() + 1, "{path}: it grew meanwhile");
    }

    // By name: before the page that was seen, right behind it, and at the end.
    for name in ["d", "f", "h", "j"] {
        Played::join(&host, &admin, name).await;
    }
    let text = |names: &[&str]| names.iter().map(|name| json!(name).to_string()).collect::<Vec<_>>();
    assert_eq!(whole(&admin, "/api/v1/agents", "name").await, text(&["box", "d", "f", "h", "j"]));
    let happened = Cell::new(0);
    let change = async |turned: u32| {
        happened.set(turned);
        match turned {
            1 => {
                for name in ["a", "e", "k"] {
                    Played::join(&host, &admin, name).await;
                }
            }
            // The one that the cursor names goes, and the next page begins behind its place.
            2 => {
                assert!(admin.post("/api/v1/agents/f/revoke", &json!({})).await.status < 300);
                let gone = admin.send(admin.request(Method::DELETE, "/api/v1/agents/f")).await;
                assert_eq!(gone.status, 204, "{gone:?}");
            }
            _ => {}
        }
    };
    let found = in_pages(&admin, "/api/v1/agents", "name", &change).await;
    assert_eq!(found, text(&["box", "d", "e", "f", "h", "j", "k"]));
    assert_eq!(happened.get(), 3);
    assert_eq!(whole(&admin, "/api/v1/agents", "name").await, text(&["a", "box", "d", "e", "h", "j", "k"]));
}
