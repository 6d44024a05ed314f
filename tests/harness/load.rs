//! Buyers who keep what they were promised, to hold the store to it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use futures_util::future::join_all;
use pygmy::api::OrderPage;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    http::{Http, Reply},
    until,
};

/// What buyers were told, by the reference of their order.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Confirmed: the order as the reply showed it.
    pub(crate) confirmed: RefCell<BTreeMap<String, Value>>,
    /// Refused for good, or certainly not done.
    pub(crate) refused: RefCell<BTreeMap<String, String>>,
    /// Neither: no reply, or one that says `unknown`.
    pub(crate) open: RefCell<BTreeMap<String, String>>,
}

/// Buyers at work. They stop when told, or when this is dropped.
pub(crate) struct Buyers {
    pub(crate) told: Rc<Told>,
    stop: Rc<Cell<bool>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Buyers {
    /// Starts so many, each buying one piece after the other of one of the items, in turn at the
    /// stores at these addresses. Inside a `LocalSet`.
    pub(crate) fn start(count: usize, stores: &[String], items: &[u64]) -> Self {
        let (told, stop) = (Rc::new(Told::default()), Rc::new(Cell::new(false)));
        let tasks = (0..count)
            .map(|buyer| {
                let (told, stop) = (told.clone(), stop.clone());
                let (stores, items) = (stores.to_vec(), items.to_vec());
                tokio::task::spawn_local(async move {
                    let http = Http::new();
                    let run: u32 = rand::random();
                    for n in 0.. {
                        if stop.get() {
                            return;
                        }
                        let reference = format!("{run:08x}-{buyer}-{n}");
                        let store = &stores[(buyer + n) % stores.len()];
                        let item = items[n % items.len()];
                        told.note(&reference, buy(&http, store, item, &reference).await);
                    }
                })
            })
            .collect();
        Self { told, stop, tasks }
    }

    /// Waits until so many more orders are confirmed.
    pub(crate) async fn await_confirmed(&self, more: usize) {
        let wanted = self.told.confirmed.borrow().len() + more;
        let what = format!("{more} more orders are confirmed");
        until(&what, async || {
            for task in &self.tasks {
                assert!(!task.is_finished(), "a buyer gave up");
            }
            (self.told.confirmed.borrow().len() >= wanted).then_some(())
        })
        .await;
    }

    /// Lets each finish what it does, and gives what all were told.
    pub(crate) async fn stop(self) -> Rc<Told> {
        self.stop.set(true);
        for ended in join_all(self.tasks).await {
            ended.expect("a buyer does not panic");
        }
        self.told
    }
}

async fn buy(http: &Http, store: &str, item: u64, reference: &str) -> Result<Reply, String> {
    let order = json!({ "lines": [{ "item": item, "quantity": 1 }], "reference": reference });
    let url = format!("{store}/v1/orders");
    let reply = http.send(Method::POST, &url, Some(&order), Some(reference)).await;
    if reply.is_err() {
        // Nobody there: do not spin.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    reply.map_err(|error| format!("{error:?}"))
}

impl Told {
    fn note(&self, reference: &str, reply: Result<Reply, String>) {
        let reference = reference.to_owned();
        match reply {
            Ok(reply) if reply.status == 201 => {
                self.confirmed.borrow_mut().insert(reference, reply.json());
            }
            Ok(reply) if reply.json()["outcome"] == "not_applied" => {
                self.refused.borrow_mut().insert(reference, reply.body);
            }
            Ok(reply) => drop(self.open.borrow_mut().insert(reference, format!("{reply:?}"))),
            Err(error) => drop(self.open.borrow_mut().insert(reference, error)),
        }
    }

    /// Holds a store to what it has promised: every confirmed order is there as it was shown, every
    /// refused one is not, and none is there twice.
    pub(crate) async fn check(&self, http: &Http, store: &str) {
        let mut found: BTreeMap<String, Value> = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let url = format!("{store}/v1/orders?limit=1000{cursor}");
            let reply = http.get(&url).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let page: OrderPage = serde_json::from_str(&reply.body).unwrap();
            for order in page.orders {
                let Some(reference) = order.reference.clone() else { continue };
                let twice = found.insert(reference.clone(), serde_json::to_value(order).unwrap());
                assert!(twice.is_none(), "{reference} was booked twice");
            }
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let confirmed = self.confirmed.borrow();
        let lost: Vec<_> =
            confirmed.iter().filter(|(reference, _)| !found.contains_key(*reference)).collect();
        assert!(
            lost.is_empty(),
            "{} of {} confirmed orders are lost, the first is {:?}",
            lost.len(),
            confirmed.len(),
            lost[0]
        );
        for (reference, order) in confirmed.iter() {
            assert_eq!(&found[reference], order, "{reference} is another order now");
        }
        for (reference, why) in self.refused.borrow().iter() {
            assert!(!found.contains_key(reference), "{reference} was booked, though: {why}");
        }
    }
}
