//! A cluster that comes from a backup of another one.

use std::{
    io::{Cursor, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use pygmy_raft::{
    identity::Identity,
    node::{Backup, Freshness, StartError},
    restore::{Phase, RestoreError, Restored, restore},
    types::{Member, NodeId, Tokio},
};
use pygmy_storage::{
    Error, Result,
    command::Outcome,
    engine::Engine,
    snapshot,
    volume::{MemoryVolume, NewFile, Scratch, Volume},
};

use crate::harness::{Cluster, DEADLINE, Disk, Load, eventually, refused};

/// A backup as a node gives it, whole.
async fn backup_of(cluster: &Cluster, id: NodeId) -> Vec<u8> {
    cluster.ask(id, |node| async move { taken(node.backup(&node.view()).unwrap()).await }).await
}

async fn taken(mut backup: Backup<Tokio>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((piece, rest)) = backup.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
        backup = rest;
    }
    bytes
}

fn fill(volume: Arc<dyn Volume>, whose: (NodeId, Member), backup: &[u8]) -> Outcomes {
    let mut phases = Vec::new();
    let bytes: Arc<[u8]> = backup.into();
    let mut open = || Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read>);
    let restored = restore::<Tokio>(&volume, whose, &mut open, &mut |phase| phases.push(phase));
    phases.dedup();
    (restored, phases)
}

type Outcomes = (std::result::Result<Restored, RestoreError>, Vec<Phase>);

fn whose(cluster: &Cluster, id: NodeId) -> (NodeId, Member) {
    let seat = cluster.seats.iter().find(|seat| seat.id == id).unwrap();
    (id, seat.member.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_from_a_backup_that_was_taken_under_load() {
    let old = Arc::new(Cluster::started(3, 100_000).await);
    // More than the log keeps, so that there are snapshots and purges as well.
    let mut before = old.buy_many("before", 120).await;
    let load = Load::start(&old, 3);
    load.goes_on(10).await;
    let leader = old.leader().await;
    let from = old.others(leader)[0];
    let backup = backup_of(&old, from).await;
    load.goes_on(10).await;
    let bought = load.finish().await;
    let header = snapshot::verify(&mut &backup[..]).unwrap();
    let index = header.applied.unwrap();
    assert!(header.orders > 120);
    for id in old.ids() {
        old.crash(id).await;
    }

    let new = Cluster::seats(3).await;
    let (restored, phases) = fill(Arc::new(new.memory(2)), whose(&new, 2), &backup);
    let restored = restored.unwrap();
    assert_eq!(phases, [Phase::Checking, Phase::Copying, Phase::Loading]);
    assert_eq!((restored.index, restored.orders, restored.items), (index, header.orders, 1));
    new.start(2).await;
    new.all_serve().await;
    // Its log begins behind the backup.
    assert_eq!(new.node(2).status().purged_index, Some(index));
    // What came of every order is known: it is in the backup, or it came after it.
    before.extend(bought.into_iter().filter(|(_, order)| *order <= header.orders));
    let view = new.assert_equal().await;
    assert_eq!(view.state.order_count(), header.orders);
    for (name, order) in &before {
        let again = new.buy(2, name, DEADLINE).await.unwrap();
        assert!(again.replayed, "{name}");
        assert_eq!(again.outcome, Outcome::Ordered(*order), "{name}");
    }
    let first = new.buy(2, "after", DEADLINE).await.unwrap();
    assert!(first.index > index && !first.replayed, "{first:?}");
    assert_eq!(first.outcome, Outcome::Ordered(header.orders + 1));

    // The others come in with empty disks, and get what the log does not have.
    for id in [1, 3] {
        new.adjust(id, |settings| settings.join = true);
        new.start(id).await;
    }
    new.all_serve().await;
    eventually("all three vote", || async {
        let members = new.node(2).members();
        members.len() == 3 && members.iter().all(|(_, _, voter)| *voter)
    })
    .await;
    before.extend(new.buy_many("with all", 20).await);
    before.insert("after".to_owned(), header.orders + 1);
    new.assert_bought(&before).await;
    // The one that was restored is one of three now: the others go on without it, and it comes back.
    new.crash(2).await;
    new.buy_surely("without it").await;
    new.start(2).await;
    new.all_serve().await;
    new.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_old_cluster_takes_no_part_in_the_new_one() {
    let cluster = Cluster::started(3, 100).await;
    cluster.buy_many("before", 3).await;
    let backup = backup_of(&cluster, 1).await;
    cluster.buy_many("lost", 3).await;
    for id in cluster.ids() {
        cluster.crash(id).await;
    }
    // The same addresses, names and secret; one disk is new.
    let volume = MemoryVolume::new();
    let (restored, _) = fill(Arc::new(volume.clone()), whose(&cluster, 1), &backup);
    let identity = Identity::load(&volume).unwrap().unwrap();
    assert_eq!(identity.cluster, restored.unwrap().cluster);
    assert_ne!(
        Some(identity.cluster),
        Identity::load(&cluster.memory(2)).unwrap().map(|i| i.cluster)
    );
    cluster.set_disk(1, Disk::Memory(volume));
    for id in cluster.ids() {
        cluster.start(id).await;
    }
    cluster.leader_among(&[2, 3]).await;
    cluster.leader_among(&[1]).await;
    // What each shows as the newest; a leader that has just been elected may not have applied it yet.
    cluster.all_serve().await;
    for (id, orders) in [(1, 3), (2, 6), (3, 6)] {
        let view = cluster.read(id, Freshness::Linearizable, DEADLINE).await.unwrap();
        assert_eq!(view.state.order_count(), orders, "node {id}");
    }
    // Without `--join` an empty disk is refused, as in any cluster that exists.
    cluster.crash(3).await;
    cluster.crash(2).await;
    cluster.set_disk(2, Disk::Memory(MemoryVolume::new()));
    let error = refused(cluster.try_start(2).await);
    assert!(matches!(error, StartError::DataGone { .. }), "{error}");
}

/// A backup of a cluster of one, which has stopped.
async fn some_backup() -> (Cluster, Vec<u8>) {
    let cluster = Cluster::started(1, 100).await;
    cluster.buy_many("before", 30).await;
    let backup = backup_of(&cluster, 1).await;
    cluster.crash(1).await;
    (cluster, backup)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_backup_is_refused_before_anything_is_written() {
    let (cluster, backup) = some_backup().await;
    let volume = MemoryVolume::new();
    let attempt = |bytes: &[u8]| {
        let (result, _) = fill(Arc::new(volume.clone()), whose(&cluster, 1), bytes);
        assert!(volume.files().unwrap().is_empty() && volume.engines().unwrap().is_empty());
        refused(result)
    };
    let cuts = (0..backup.len()).step_by(97).chain([8, backup.len() - 1]);
    for length in cuts {
        let error = attempt(&backup[..length]);
        assert!(matches!(error, RestoreError::Damaged(_)), "{length}: {error}");
    }
    for place in (0..backup.len()).step_by(89) {
        let mut bytes = backup.clone();
        bytes[place] ^= 0x10;
        let error = attempt(&bytes);
        // Only a format of the future cannot be told from damage.
        let is_known = matches!(
            error,
            RestoreError::Damaged(_) | RestoreError::Storage(Error::UnknownFormat { .. })
        );
        assert!(is_known, "{place}: {error}");
    }
    let error = attempt(b"id,title,topic,price_cents,stock\n1,a,b,2,3\n");
    assert!(error.to_string().contains("pygmy backup --check"), "{error}");
    let mut longer = backup.clone();
    longer.push(0);
    assert!(matches!(attempt(&longer), RestoreError::Damaged(_)));

    // A state of before the first entry.
    let mut nothing = Vec::new();
    let (_, view, _) =
        pygmy_storage::store::StateStore::open(Arc::new(MemoryVolume::new())).unwrap();
    snapshot::export(&view, &mut nothing).unwrap();
    assert!(matches!(attempt(&nothing), RestoreError::Nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_something_in_it_is_refused_and_left_as_it_is() {
    let (cluster, backup) = some_backup().await;
    let used = cluster.memory(1);
    let (result, phases) = fill(Arc::new(used.clone()), whose(&cluster, 1), &backup);
    let error = refused(result);
    assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
    assert!(error.to_string().contains("move the directory away"), "{error}");
    assert!(phases.is_empty());
    cluster.start(1).await;
    cluster.all_serve().await;
    assert_eq!(cluster.node(1).view().state.order_count(), 30);
    // One that was restored is one that has something in it.
    let restored = Arc::new(MemoryVolume::new());
    assert!(fill(restored.clone(), whose(&cluster, 1), &backup).0.is_ok());
    let again = refused(fill(restored, whose(&cluster, 1), &backup).0);
    assert!(matches!(again, RestoreError::NotEmpty { .. }), "{again}");
}

/// Wherever a restore is cut off, the directory is as empty as before, or one that no node starts on; and the
/// same restore again makes it whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cut_off_is_no_node_and_is_done_again() {
    let (cluster, backup) = some_backup().await;
    let mut refusals = 0;
    let mut writes = 0;
    loop {
        let volume = MemoryVolume::new();
        let failing = Failing { volume: volume.clone(), left: Arc::new(AtomicUsize::new(writes)) };
        let (result, _) = fill(Arc::new(failing), whose(&cluster, 1), &backup);
        if result.is_ok() {
            break;
        }
        let is_begun = !volume.files().unwrap().is_empty();
        cluster.set_disk(1, Disk::Memory(volume.clone()));
        if is_begun {
            let error = refused(cluster.try_start(1).await);
            assert!(matches!(error, StartError::HalfRestored { .. }), "{writes}: {error}");
            assert!(error.to_string().contains("Run it again"), "{error}");
            refusals += 1;
        }
        let (result, _) = fill(Arc::new(volume), whose(&cluster, 1), &backup);
        result.unwrap_or_else(|error| panic!("cut off after {writes} writes: {error}"));
        cluster.start(1).await;
        cluster.all_serve().await;
        assert_eq!(cluster.node(1).view().state.order_count(), 30, "{writes}");
        cluster.crash(1).await;
        writes += 1;
    }
    assert!(refusals > 6, "it was cut off in {refusals} places only");
}

/// A volume that takes so many writes of files, openings and removals, and then nothing more.
#[derive(Debug, Clone)]
struct Failing {
    volume: MemoryVolume,
    left: Arc<AtomicUsize>,
}

impl Failing {
    fn one_less(&self) -> Result<()> {
        let one_less = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::io("writing", std::io::Error::other("the power is gone"))),
        }
    }
}

impl Volume for Failing {
    fn open_engine(&self, name: &str) -> Result<Arc<dyn Engine>> {
        self.one_less()?;
        self.volume.open_engine(name)
    }
    fn engines(&self) -> Result<Vec<String>> {
        self.volume.engines()
    }
    fn remove_engine(&self, name: &str) -> Result<()> {
        self.one_less()?;
        self.volume.remove_engine(name)
    }
    fn create_file(&self, name: &str) -> Result<Box<dyn NewFile>> {
        self.one_less()?;
        let (file, volume) = (self.volume.create_file(name)?, self.clone());
        Ok(Box::new(FailingFile { file, volume }))
    }
    fn open_file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        self.volume.open_file(name)
    }
    fn files(&self) -> Result<Vec<String>> {
        self.volume.files()
    }
    fn remove_file(&self, name: &str) -> Result<()> {
        self.one_less()?;
        self.volume.remove_file(name)
    }
    fn rename_file(&self, from: &str, to: &str) -> Result<()> {
        self.one_less()?;
        self.volume.rename_file(from, to)
    }
    fn scratch(&self) -> Result<Scratch> {
        self.volume.scratch()
    }
    fn location(&self) -> String {
        self.volume.location()
    }
}

struct FailingFile {
    file: Box<dyn NewFile>,
    volume: Failing,
}

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for FailingFile {
    fn commit(self: Box<Self>) -> Result<()> {
        self.volume.one_less()?;
        self.file.commit()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_of_one_index_however_slowly_it_is_taken() {
    let cluster = Cluster::started(1, 1000).await;
    cluster.buy_many("before", 20).await;
    let (whole, at_once) = cluster
        .ask(1, |node| async move {
            let view = node.view();
            let mut at_once = Vec::new();
            snapshot::export(&view, &mut at_once).unwrap();
            let dropped = node.backup(&view).unwrap();
            drop(dropped.next().await.unwrap());
            (node.backup(&view).unwrap(), at_once)
        })
        .await;
    cluster.buy_many("meanwhile", 100).await;
    let whole = cluster.ask(1, |_| taken(whole)).await;
    assert!(whole == at_once, "it is the snapshot of its view");
    assert_eq!(cluster.node(1).view().state.order_count(), 120);
}
