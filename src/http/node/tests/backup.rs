//! Backups.

use http_body_util::BodyExt;
use pygmy_storage::snapshot;

use super::{
    super::backup::BACKUPS_MAX,
    store::{PATIENCE, Store, ask, buy},
};
use crate::http::problem::Code;

#[tokio::test]
async fn a_backup_is_the_whole_store_as_of_the_index_that_it_tells() {
    let store = Store::start().await;
    for _ in 0..3 {
        assert_eq!(store.send(buy(1, 1)).await.status, 201);
    }
    let kind = "application/octet-stream";
    let reply = store.send(ask("GET", "/v1/backup").header("accept", kind)).await;
    assert_eq!(reply.status, 200, "{:?}", reply.headers);
    assert_eq!(reply.header("content-type"), kind);
    assert_eq!(reply.index(), store.mark().0);
    let name = format!("attachment; filename=\"pygmy-{}.backup\"", reply.index());
    assert_eq!(reply.header("content-disposition"), name);
    let header = snapshot::verify(&mut &reply.body[..]).unwrap();
    assert_eq!(
        (header.applied, header.orders, header.items),
        (Some(reply.index()), 3, 3),
        "{header:?}"
    );
    // It says how fresh it must be as every read does, and takes nothing else.
    let path = "/v1/backup?consistency=stale";
    assert_eq!(store.get(path).await.body, reply.body);
    let ahead = format!("/v1/backup?consistency=session&min_index={}", reply.index());
    assert_eq!(store.get(&ahead).await.body, reply.body);
    store.get("/v1/backup?format=csv").await.problem(Code::Malformed, None);
    let head = store.send(ask("HEAD", "/v1/backup")).await;
    assert_eq!((head.status.as_u16(), head.index(), head.body.len()), (200, reply.index(), 0));
}

#[tokio::test]
async fn backups_are_few_at_a_time_and_one_that_is_given_up_makes_room() {
    let store = Store::start().await;
    let begin = async || {
        let request = http::Request::get("/v1/backup").body(axum::body::Body::empty()).unwrap();
        let reply = store.app.answer(request).await;
        assert_eq!(reply.status(), 200);
        reply.into_body()
    };
    let mut under_way = Vec::new();
    for _ in 0..BACKUPS_MAX {
        under_way.push(begin().await);
    }
    let problem = store.get("/v1/backup").await.problem(Code::Overloaded, None);
    assert!(problem.detail.contains("try again later"), "{problem:?}");
    drop(under_way.pop());
    under_way.push(begin().await);
    store.get("/v1/backup").await.problem(Code::Overloaded, None);
    // Writes go on, and each is whole when it is taken at last.
    let index = store.mark().0;
    assert_eq!(store.send(buy(1, 1)).await.status, 201);
    for body in under_way {
        let taken = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap();
        let bytes = taken.unwrap().to_bytes();
        assert_eq!(snapshot::verify(&mut &bytes[..]).unwrap().applied, Some(index));
    }
    assert_eq!(store.get("/v1/backup").await.status, 200);
}
