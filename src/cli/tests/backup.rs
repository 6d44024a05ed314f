//! Backups as files: nothing is replaced, and nothing appears, that should not.

use std::{fs, path::Path, sync::Arc};

use pygmy_storage::{
    apply::{Effects, apply},
    command::{Command, PlaceOrder, PlaceOrderLine, Policy, Precondition, Proposal, PutItem},
    history::History,
    query::View,
    snapshot,
    state::State,
    volume::{MemoryVolume, Volume},
    working::Working,
};

use super::*;

/// A state with an item and an order, as a backup. It is of no cluster, so that it can be checked only.
fn some_backup() -> Vec<u8> {
    let mut working = Working::new(State::default());
    let line = PlaceOrderLine { item: 7, quantity: 1, expected_price_cents: None };
    let commands = [
        Command::SetPolicy(Policy::default()),
        Command::PutItem(PutItem {
            id: 7,
            title: "A title".into(),
            topic: "Tests".into(),
            price_cents: 100,
            stock: Some(10),
            precondition: Precondition::None,
        }),
        Command::PlaceOrder(PlaceOrder { lines: vec![line], customer: None, reference: None }),
    ];
    for (index, command) in (0..).zip(commands) {
        let proposal = Proposal { stamp_ms: 1_700_000_000_000, key: None, command };
        apply(&mut working, index, &proposal, &mut Effects::default());
    }
    let history = Arc::new(History::new(MemoryVolume::new().open_engine("state").unwrap()));
    let view = View { state: working.state().clone(), history };
    let mut bytes = Vec::new();
    snapshot::export(&view, &mut bytes).unwrap();
    bytes
}

/// The names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_appears_whole_and_replaces_nothing_by_itself() {
    let backup = some_backup();
    let given = backup.clone();
    let mock = Mock::start(move |seen| {
        assert_eq!(seen.line, "GET /v1/backup");
        assert_eq!(seen.headers["accept"], "application/octet-stream");
        Say::bytes(200, given.clone())
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.backup");
    let path = file.to_str().unwrap();
    let ran = pygmy(&mock.url, &["backup", path]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.error);
    let told = format!("{path}: index 2, 1 orders, 1 items, {} bytes (", backup.len());
    assert!(ran.out.starts_with(&told), "{}", ran.out);
    assert_eq!(
        (fs::read(&file).unwrap(), names(dir.path())),
        (backup.clone(), vec!["store.backup".to_owned()])
    );

    let ran = pygmy(&mock.url, &["backup", path]).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.error.contains("add --force to replace it"), "{}", ran.error);
    assert_eq!(mock.seen().len(), 1, "the store is not asked in vain");
    fs::write(&file, "an older one").unwrap();
    let ran = pygmy(&mock.url, &["backup", path, "--force", "--json"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.error);
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    let bytes = backup.len();
    assert_eq!(said, json!({ "file": path, "index": 2, "orders": 1, "items": 1, "bytes": bytes }));
    assert_eq!(fs::read(&file).unwrap(), backup);
}

#[tokio::test]
async fn what_arrives_damaged_or_not_at_all_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.backup");
    let path = file.to_str().unwrap();
    let mut damaged = some_backup();
    damaged[40] ^= 1;
    let cut = some_backup()[..60].to_vec();
    for (bytes, word) in [(damaged, "damaged"), (cut, "cut off"), (b"<html>".to_vec(), "cut off")] {
        let mock = Mock::start(move |_| Say::bytes(200, bytes.clone())).await;
        let ran = pygmy(&mock.url, &["backup", path]).await;
        assert_eq!(ran.exit, Exit::No, "{word}");
        assert!(ran.error.contains(word) && ran.error.contains("take another"), "{}", ran.error);
        assert!(names(dir.path()).is_empty());
    }
    let mock = Mock::start(|_| Say::problem(503, "overloaded", None, true)).await;
    let ran = pygmy(&mock.url, &["backup", path]).await;
    assert_eq!(ran.exit, Exit::Unavailable, "{}", ran.error);
    assert!(names(dir.path()).is_empty());
    // What an interrupted one has left is in nobody's way; a backup that is under way is.
    let partial = dir.path().join("store.backup.partial");
    fs::write(&partial, vec![0; 100_000]).unwrap();
    let mock = Mock::start(|_| Say::bytes(200, some_backup())).await;
    let held = fs::File::open(&partial).unwrap();
    held.lock().unwrap();
    let ran = pygmy(&mock.url, &["backup", path]).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.error.contains("another backup is being written"), "{}", ran.error);
    drop(held);
    let ran = pygmy(&mock.url, &["backup", path]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.error);
    assert_eq!(names(dir.path()), ["store.backup"]);
    let ran = pygmy(&mock.url, &["backup", dir.path().join("none/x").to_str().unwrap()]).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.error.contains("cannot be written"), "{}", ran.error);
}

#[tokio::test]
async fn a_file_is_checked_without_a_store() {
    let nobody = "http://127.0.0.1:1";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.backup");
    let path = file.to_str().unwrap();
    fs::write(&file, some_backup()).unwrap();
    let ran = pygmy(nobody, &["backup", "--check", path]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.error);
    assert!(ran.out.contains("index 2, 1 orders, 1 items"), "{}", ran.out);
    fs::write(&file, &some_backup()[..100]).unwrap();
    let ran = pygmy(nobody, &["backup", "--check", path]).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.error.contains("no whole backup"), "{}", ran.error);
    let ran = pygmy(nobody, &["backup", "--check", "/nowhere/x"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.error.contains("cannot be read"), "{}", ran.error);
}

/// A restore on this machine's own data, without a store.
async fn restore(data: &Path, file: &Path) -> Ran {
    let words = ["pygmy", "restore", "--single", "--data", data.to_str().unwrap()];
    let cli = Cli::try_parse_from(words.into_iter().chain([file.to_str().unwrap()])).unwrap();
    match act(cli.command).await {
        Ok(Answer { text, note, exit }) => Ran { out: text, error: note.unwrap_or_default(), exit },
        Err(Stop { message, exit }) => Ran { out: String::new(), error: message, exit },
    }
}

#[tokio::test]
async fn a_restore_refuses_what_it_cannot_do_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("store.backup"));
    let ran = restore(&data, &file).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.error.contains("cannot be read") && !data.exists(), "{}", ran.error);

    fs::write(&file, &some_backup()[..100]).unwrap();
    let ran = restore(&data, &file).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.error.contains("cut off") && ran.error.contains("--check"), "{}", ran.error);
    // Whole, but of no cluster: as of a node that has none yet.
    fs::write(&file, some_backup()).unwrap();
    let ran = restore(&data, &file).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.error.contains("nothing in the backup"), "{}", ran.error);

    fs::write(data.join("notes.txt"), "mine").unwrap();
    let ran = restore(&data, &file).await;
    assert_eq!(ran.exit, Exit::No);
    for word in ["notes.txt", data.to_str().unwrap(), "move the directory away"] {
        assert!(ran.error.contains(word), "{}", ran.error);
    }
    fs::remove_file(data.join("notes.txt")).unwrap();
    let _running = pygmy_storage::volume::DirVolume::open(&data, 8 << 20).unwrap();
    let ran = restore(&data, &file).await;
    assert_eq!(ran.exit, Exit::No);
    assert!(ran.error.contains("in use by another process"), "{}", ran.error);
}
