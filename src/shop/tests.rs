//! The shop as its visitors see it: what they type, and what they read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::client::Timeouts;
use crate::client::mock::{Mock, Say, order};

/// A writer that can be read afterwards.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a visitor who types `input` sees.
async fn visit(url: &str, input: &str) -> String {
    let timeouts =
        Timeouts { total: Duration::from_millis(100), ..Timeouts::within(Duration::from_secs(5)) };
    let client = Client::with_timeouts(url, timeouts).expect("a valid address");
    let output = Shared::default();
    let pipe = Pipe::new(io::Cursor::new(input.to_owned()), output.clone());
    let shop = Shop::new(client, Handle::current(), pipe, output.clone());
    tokio::task::spawn_blocking(|| shop.visit()).await.expect("does not panic").expect("ends well");
    let bytes = output.0.lock().expect("not poisoned").clone();
    String::from_utf8(bytes).expect("text")
}

async fn store() -> Mock {
    Mock::start(|seen| match seen.line.as_str() {
        "GET /search/Misc/" => Say::json(
            200,
            json!({"items": {"Why theory classes are so \
            hard": "6", "Another": "10"}}),
        ),
        line if line.starts_with("GET /search/") => Say::json(200, json!({"items": {}})),
        "GET /lookup/5/" => Say::json(
            200,
            json!({"ItemNumber": "5", "Title": "How to finish Project 3 on \
            time", "Topic": "DistributedSystems",
                   "Cost": "9.99", "Stock": "4", "Time": "Wed, 24 Apr 2019 22:43:09 GMT"}),
        ),
        line if line.starts_with("GET /lookup/") => Say::json(200, json!({})),
        "POST /v1/orders" => match seen.body["lines"][0]["item"].as_u64() {
            Some(2) => Say::json(201, order(12, 2)),
            Some(7) => Say::problem(409, "out_of_stock", Some("not_applied"), false),
            _ => Say::problem(404, "not_found", Some("not_applied"), false),
        },
        other => panic!("{other}"),
    })
    .await
}

#[tokio::test]
async fn a_visit_reads_like_the_original() {
    let mock = store().await;
    let seen = visit(&mock.url, "2\n5\nb\n1\nMisc\nb\nq\n").await;
    let expected = "\
Welcome to Pygmy.com, the world's smallest book store!

Please select one of the following indices:
 1. Search for a topic
 2. Lookup a title with its item number
 3. Buy a title
If you wish to leave press q
> 2
Please enter an item number you wish to lookup:
If you wish to go to the main menu press b
> 5
Cost : 9.99
ItemNumber : 5
Stock : 4
Time : Wed, 24 Apr 2019 22:43:09 GMT
Title : How to finish Project 3 on time
Topic : DistributedSystems
Please enter an item number you wish to lookup:
If you wish to go to the main menu press b
> b

Please select one of the following indices:
 1. Search for a topic
 2. Lookup a title with its item number
 3. Buy a title
If you wish to leave press q
> 1
Please enter a topic you wish to search for:
If you wish to go to the main menu press b
> Misc
     6  Why theory classes are so hard
    10  Another
Please enter a topic you wish to search for:
If you wish to go to the main menu press b
> b

Please select one of the following indices:
 1. Search for a topic
 2. Lookup a title with its item number
 3. Buy a title
If you wish to leave press q
> q
Goodbye!
";
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn every_answer_to_a_purchase_is_said_in_plain_words() {
    let mock = store().await;
    let seen = visit(&mock.url, "3\n2\n7\n8\nfive\nb\n1\nNothing\nb\n2\n99\n").await;
    for line in [
        "Bought RPCs for Dummies for 19.99. Your order number is 12.",
        "Sorry, item 7 is sold out. Nothing was bought.",
        "There is no item 8. Nothing was bought.",
        "\"five\" is not an item number; please enter digits, such as 5.",
        "There are no titles under \"Nothing\". Topics are written like DistributedSystems, \
        GraduateSchool or Misc.",
        "There is no item 99.",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line:?} is not in\n{seen}");
    }
    assert!(seen.ends_with("> \nGoodbye!\n"), "the end of the input ends the visit:\n{seen}");
}

#[tokio::test]
async fn a_store_that_is_away_is_said_in_plain_words() {
    let mock = Mock::start(|_| Say::problem(503, "no_leader", Some("not_applied"), true)).await;
    let seen = visit(&mock.url, "1\nMisc\nb\n3\n2\nb\n9\n").await;
    for line in [
        "The store cannot be reached right now. Please try again in a moment. (this is no_leader \
        (no_leader))",
        "The store cannot be reached right now, so nothing was bought. Please try again in a \
        moment. \
         (this is no_leader (no_leader))",
        "\"9\" is not on the menu; please press 1, 2, 3 or q.",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line:?} is not in\n{seen}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_again_under_the_same_key() {
    let calls = AtomicUsize::new(0);
    let healthy = Arc::new(Mutex::new(false));
    let switch = healthy.clone();
    let mock = Mock::start(move |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        if *switch.lock().expect("not poisoned") {
            Say::json(201, order(12, 2))
        } else {
            Say::problem(504, "timeout", Some("unknown"), true)
        }
    })
    .await;
    let seen = visit(&mock.url, "3\n2\nb\nb\n").await;
    assert!(seen.contains("The store did not say whether it took your order."), "{seen}");
    let key = mock.seen()[0].headers["idempotency-key"].clone();
    assert!(seen.contains(&format!("pygmy buy 2 --key {key}")), "{seen}");

    let before = mock.seen().len();
    let answering = healthy.clone();
    let input = HealOnSecondLine { lines: vec!["", "2", "3"], heal: answering };
    let output = Shared::default();
    let timeouts =
        Timeouts { total: Duration::from_millis(100), ..Timeouts::within(Duration::from_secs(5)) };
    let client = Client::with_timeouts(&mock.url, timeouts).expect("valid");
    let shop = Shop::new(client, Handle::current(), input, output.clone());
    tokio::task::spawn_blocking(|| shop.visit()).await.expect("does not panic").expect("ends well");
    let seen = String::from_utf8(output.0.lock().expect("not poisoned").clone()).expect("text");
    assert!(seen.contains("Bought RPCs for Dummies for 19.99. Your order number is 12."), "{seen}");
    let keys: Vec<_> = mock.seen()[before..]
        .iter()
        .map(|request| request.headers["idempotency-key"].clone())
        .collect();
    assert!(keys.len() >= 2 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

/// Types its lines from the last to the first; the empty one comes when the store is well again.
struct HealOnSecondLine {
    lines: Vec<&'static str>,
    heal: Arc<Mutex<bool>>,
}

impl Input for HealOnSecondLine {
    fn line(&mut self, _: &str) -> io::Result<Option<String>> {
        let line = self.lines.pop();
        if line == Some("") {
            *self.heal.lock().expect("not poisoned") = true;
        }
        Ok(line.map(str::to_owned))
    }
}

#[test]
fn a_pipe_drops_what_is_too_long_and_ends_at_the_end() {
    let input = format!("{}\nnext\r\nlast", "x".repeat(10_000));
    let mut shown = Vec::new();
    let mut pipe = Pipe::new(io::Cursor::new(input), &mut shown);
    assert_eq!(pipe.line("> ").expect("reads").map(|line| line.len()), Some(4096));
    assert_eq!(pipe.line("> ").expect("reads").as_deref(), Some("next"));
    assert_eq!(pipe.line("> ").expect("reads").as_deref(), Some("last"));
    assert_eq!(pipe.line("> ").expect("reads"), None);
    assert!(shown.ends_with(b"> next\n> last\n> \n"));
}
