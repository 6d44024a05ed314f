//! Imports whose leader is killed in the middle: sent again until one says that it is done, and nothing
//! is in twice.

use std::{collections::BTreeMap, io};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, stream};
use pygmy::{
    api::{Import, ItemRow, LedgerPage},
    client::{Client, ClientError, Exported, FileFormat, ImportOptions},
};
use tokio::sync::mpsc;

use crate::harness::{
    cluster::{Cluster, Spec},
    until,
};

/// Far more than goes into one burst of entries.
const ROWS: u64 = 6_000;
const HEAD: &str = "id,title,topic,price_cents,stock\n";

fn row(id: u64) -> ItemRow {
    let (title, topic) = (format!("Item {id}"), "Imported".to_owned());
    ItemRow { id, title, topic, price_cents: 100 + id % 7, stock: Some(1 + id % 5) }
}

fn csv(ids: impl Iterator<Item = u64>) -> String {
    let lines = ids.map(|id| {
        let ItemRow { id, title, topic, price_cents, stock } = row(id);
        format!("{id},{title},{topic},{price_cents},{}\n", stock.unwrap())
    });
    lines.collect()
}

fn whole(file: String) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::iter([Ok(Bytes::from(file))])
}

fn pieces(from: mpsc::Receiver<String>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(from, async |mut from| Some((Ok(Bytes::from(from.recv().await?)), from)))
}

/// All items by number, with their versions.
async fn items(cluster: &Cluster, node: &str) -> BTreeMap<u64, (ItemRow, u64)> {
    let mut all = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let url = cluster.node(node, &format!("/v1/items?limit=1000{cursor}"));
        let page: pygmy::api::ItemPage =
            serde_json::from_str(&cluster.http.get(&url).await.body).unwrap();
        for item in page.items {
            let pygmy::api::Item { id, title, topic, price_cents, stock, version, .. } = item;
            let row = ItemRow { id, title, topic, price_cents, stock: Some(stock) };
            assert!(all.insert(id, (row, version)).is_none(), "item {id} is there twice");
        }
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// Sends a file, kills the leader when a part of it is in, and sends it again until it is done.
async fn import_over_a_death(
    cluster: &mut Cluster,
    to: &str,
    first: u64,
    options: ImportOptions,
) -> Import {
    let key = format!("import-{first}");
    let ids = first..first + ROWS;
    let leader = cluster.leader().await;
    let (sender, receiver) = mpsc::channel(4);
    let started = {
        let (store, key) = (Client::new(to).unwrap(), key.clone());
        tokio::spawn(async move { store.import(pieces(receiver), options, &key).await })
    };
    let middle = first + ROWS / 2;
    sender.send(HEAD.to_owned() + &csv(first..middle)).await.unwrap();
    let url = cluster.node(&leader, &format!("/v1/items/{first}"));
    until("a part of the file is in", async || {
        cluster.http.try_get(&url).await.filter(|reply| reply.status == 200)
    })
    .await;
    cluster.kill(&leader);
    // Whoever reads it may have given up.
    let _ = sender.send(csv(middle..ids.end)).await;
    drop(sender);
    if let Ok(done) = started.await.unwrap() {
        assert_eq!(done.rows, ROWS, "what is done is all of it: {done:?}");
    }

    let file = HEAD.to_owned() + &csv(ids);
    let store = Client::new(to).unwrap();
    let done = until("an import comes to its end", async || {
        match store.import(whole(file.clone()), options, &key).await {
            Ok(done) => Some(done),
            Err(ClientError::Refused(problem)) => panic!("{problem:?}"),
            Err(_) => None,
        }
    })
    .await;
    cluster.start_node(&leader);
    cluster.await_serving().await;
    done
}

#[tokio::test]
async fn an_import_over_the_leaders_death_is_in_once_when_it_says_so() {
    let mut cluster = Cluster::start(Spec::three()).await;
    let mut expected: BTreeMap<u64, ItemRow> =
        items(&cluster, "node1").await.into_iter().map(|(id, (row, _))| (id, row)).collect();
    for (first, set_stock) in [(10_000, false), (20_000, true)] {
        let options = ImportOptions { set_stock, ..ImportOptions::default() };
        let leader = cluster.leader().await;
        let follower = cluster.names().into_iter().find(|name| *name != leader).unwrap();
        // The facade passes a file to the leader, which dies with it; a follower goes on.
        let to = if set_stock { cluster.node(&follower, "") } else { cluster.facade("") };
        let done = import_over_a_death(&mut cluster, &to, first, options).await;
        assert_eq!((done.rows, done.refused), (ROWS, 0), "{done:?}");
        assert_eq!(done.created + done.replaced + done.unchanged, ROWS, "{done:?}");
        expected.extend((first..first + ROWS).map(|id| (id, row(id))));

        let found = items(&cluster, &follower).await;
        let rows: BTreeMap<u64, ItemRow> =
            found.iter().map(|(id, (row, _))| (*id, row.clone())).collect();
        assert!(rows == expected, "what is there is not what the files say");
        for id in [first, first + ROWS / 2 - 1, first + ROWS / 2, first + ROWS - 1] {
            let url = cluster.node(&follower, &format!("/v1/items/{id}/ledger"));
            let ledger: LedgerPage =
                serde_json::from_str(&cluster.http.get(&url).await.body).unwrap();
            let deltas: Vec<i64> = ledger.rows.iter().map(|row| row.delta).collect();
            assert_eq!(deltas, [row(id).stock.unwrap().cast_signed()], "item {id}");
        }

        // The same file again, as another request.
        let store = Client::new(&cluster.facade("")).unwrap();
        let file = HEAD.to_owned() + &csv(first..first + ROWS);
        let again = store.import(whole(file), options, &format!("again-{first}")).await.unwrap();
        assert_eq!((again.unchanged, again.refused), (ROWS, 0), "{again:?}");
        assert_eq!(items(&cluster, &follower).await, found, "not even a version has changed");
    }
    // What goes out is what went in.
    let store = Client::new(&cluster.facade("")).unwrap();
    let exported = store.export(Exported::Items, FileFormat::Ndjson).await.unwrap();
    let exported: Vec<Bytes> = exported.try_collect().await.unwrap();
    let exported = String::from_utf8(exported.concat()).unwrap();
    let exported: BTreeMap<u64, ItemRow> = exported
        .lines()
        .map(|line| serde_json::from_str::<ItemRow>(line).unwrap())
        .map(|row| (row.id, row))
        .collect();
    assert!(exported == expected, "the export is not what the files say");
    cluster.verify().await;
}
