//! The journal: power cuts that keep any sectors, damage, segments that go.

use std::{fs::File, os::unix::fs::FileExt};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Small, so that a test fills many.
const SMALL: u64 = 8 << 10;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(number: u64) -> [u8; KEY_BYTES] {
    crate::key::Key::LogEntries(number).encode(0)
}

fn all() -> RangeInclusive<[u8; KEY_BYTES]> {
    [0; KEY_BYTES]..=[0xff; KEY_BYTES]
}

fn contents(journal: &JournalEngine) -> Model {
    journal.scan(&all()).map(Result::unwrap).collect()
}

fn apply(model: &mut Model, batch: &Batch) {
    for (key, value) in batch.writes.clone() {
        match value {
            Some(value) => model.insert(key, value),
            None => model.remove(&key),
        };
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    segment::list(dir).unwrap().0.into_iter().map(|number| segment_path(dir, number)).collect()
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.seg"))
}

/// What a log does: appends at its end, purges at its beginning, and now and then a vote.
struct Log {
    first: u64,
    next: u64,
    random: ChaCha8Rng,
}

impl Log {
    fn new(seed: u64) -> Self {
        Self { first: 0, next: 0, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..self.random.random_range(1..4) {
            let bytes = self.random.random_range(0..600);
            batch.put(key(self.next), (0..bytes).map(|_| self.random.random()).collect());
            self.next += 1;
        }
        if self.random.random_bool(0.1) {
            batch.put(crate::key::Key::LogVote.encode(0), vec![self.random.random(); 20]);
        }
        if self.random.random_bool(0.1) {
            for _ in 0..self.random.random_range(0..=self.next - self.first) {
                batch.delete(key(self.first));
                self.first += 1;
            }
        }
        batch
    }
}

#[test]
fn segments_that_nobody_wants_go_and_their_files_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = JournalEngine::open_with(dir.path(), SMALL).unwrap();
    let (mut log, mut model) = (Log::new(1), Model::new());
    for _ in 0..3000 {
        let batch = log.batch();
        apply(&mut model, &batch);
        journal.write(batch).unwrap();
    }
    assert_eq!(contents(&journal), model);
    let wanted: usize = model.iter().map(|(key, value)| key.len() + value.len()).sum();
    let bound = 4 * wanted as u64 + 8 * SMALL;
    assert!(journal.disk_bytes() < bound, "{} bytes for {wanted}", journal.disk_bytes());
    let oldest = segments(dir.path()).remove(0);
    assert_ne!(oldest, segment_path(dir.path(), 0));
    drop(journal);
    let journal = JournalEngine::open_with(dir.path(), SMALL).unwrap();
    assert_eq!(contents(&journal), model, "after a restart");
}

#[test]
fn a_batch_that_is_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let journal = JournalEngine::open_with(dir.path(), SMALL).unwrap();
    let mut batch = Batch::default();
    for n in 0..20 {
        batch.put(key(n), vec![7; 3000]);
    }
    journal.write(batch).unwrap();
    let mut batch = Batch::default();
    batch.put(key(99), vec![9]);
    journal.write(batch).unwrap();
    journal.sync().unwrap();
    drop(journal);
    let journal = JournalEngine::open_with(dir.path(), SMALL).unwrap();
    assert_eq!(contents(&journal).len(), 21);
}

/// Of what was written after the last sync a power cut leaves any sectors, in any order.
#[test]
fn a_power_cut_leaves_a_prefix_that_holds_everything_that_was_synced() {
    const SECTOR: usize = 512;
    for seed in 0..150 {
        let dir = tempfile::tempdir().unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut log = Log::new(seed);
        // The state after each frame.
        let mut models = vec![Model::new()];
        for life in 0..4 {
            let journal = JournalEngine::open_with(dir.path(), SMALL).unwrap();
            let found = contents(&journal);
            let kept = models.iter().rposition(|model| *model == found);
            let kept = kept.unwrap_or_else(|| panic!("seed {seed}, life {life}: no such state"));
            models.truncate(kept + 1);

            let mut durable = kept;
            let image_of_last = || {
                let last = segments(dir.path()).pop().unwrap();
                let image = fs::read(&last).unwrap();
                (last, image)
            };
            let mut image = image_of_last();
            for _ in 0..random.random_range(1..40) {
                let batch = log.batch();
                let mut model = models.last().unwrap().clone();
                apply(&mut model, &batch);
                journal.write(batch).unwrap();
                models.push(model);
                if random.random_bool(0.3) {
                    journal.sync().unwrap();
                }
                // The journal also syncs by itself, before it lets go of a segment.
                let inner = journal.lock();
                if inner.durable == inner.next {
                    durable = models.len() - 1;
                    image = image_of_last();
                }
            }
            drop(journal);
            // Everything before the last segment is durable; of the last one what was synced is, and
            // of the rest some sectors.
            let last = segments(dir.path()).pop().unwrap();
            let now = fs::read(&last).unwrap();
            let mut after = match image {
                (path, image) if path == last => image,
                _ => {
                    let mut empty = now.clone();
                    empty[usize::try_from(segment::HEADER_BYTES).unwrap()..].fill(0);
                    empty
                }
            };
            for (sector, newer) in now.chunks(SECTOR).enumerate() {
                if random.random_bool(0.5) {
                    after[sector * SECTOR..][..newer.len()].copy_from_slice(newer);
                }
            }
            fs::write(&last, &after).unwrap();
            let journal = JournalEngine::open_with(dir.path(), SMALL).unwrap();
            let found = contents(&journal);
            let kept = models.iter().rposition(|model| *model == found);
            let kept = kept.unwrap_or_else(|| panic!("seed {seed}, life {life}: no such state"));
            assert!(
                kept >= durable,
                "seed {seed}, life {life}: {kept} of {durable} durable frames"
            );
        }
    }
}

/// A journal with a durable row of frames, and the file that holds them.
fn durable(dir: &Path) -> PathBuf {
    let journal = JournalEngine::open_with(dir, SMALL).unwrap();
    for n in 0..10 {
        let mut batch = Batch::default();
        batch.put(key(n), vec![1; 200]);
        journal.write(batch).unwrap();
        journal.sync().unwrap();
    }
    segment_path(dir, 0)
}

#[test]
fn damage_to_what_was_durable_is_told_from_an_end_that_was_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = durable(dir.path());
    let file = File::options().write(true).open(&path).unwrap();
    // In the third of ten frames.
    file.write_all_at(&[0xee], segment::HEADER_BYTES + 600).unwrap();
    let error = JournalEngine::open_with(dir.path(), SMALL).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("durable once"), "{error}");
}

#[test]
fn a_damaged_header_a_missing_segment_and_a_foreign_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = durable(dir.path());
    fs::write(&path, b"short").unwrap();
    assert!(JournalEngine::open_with(dir.path(), SMALL).unwrap_err().is_damage());
    let noise: Vec<u8> = (0..SMALL).map(|n| (n * 31 % 251) as u8).collect();
    fs::write(&path, noise).unwrap();
    assert!(JournalEngine::open_with(dir.path(), SMALL).unwrap_err().is_damage());

    let dir = tempfile::tempdir().unwrap();
    let journal = JournalEngine::open_with(dir.path(), SMALL).unwrap();
    for n in 0..200 {
        let mut batch = Batch::default();
        batch.put(key(n), vec![1; 200]);
        journal.write(batch).unwrap();
    }
    drop(journal);
    fs::remove_file(segment_path(dir.path(), 1)).unwrap();
    let error = JournalEngine::open_with(dir.path(), SMALL).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("is missing"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    drop(JournalEngine::open_with(dir.path(), SMALL).unwrap());
    fs::write(dir.path().join("copy of 1.seg"), b"").unwrap();
    assert!(JournalEngine::open_with(dir.path(), SMALL).unwrap_err().is_damage());
}

#[test]
fn a_newer_format_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = durable(dir.path());
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&9u64.to_le_bytes(), 8).unwrap();
    let error = JournalEngine::open_with(dir.path(), SMALL).unwrap_err();
    assert!(matches!(error, Error::UnknownFormat { version: 9, .. }), "{error}");
}

#[test]
fn a_scan_goes_on_while_its_segments_are_purged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = JournalEngine::open_with(dir.path(), SMALL).unwrap();
    let fill = |from: u64, to: u64| {
        for n in from..to {
            let mut batch = Batch::default();
            batch.put(key(n), n.to_le_bytes().to_vec());
            batch.put(key(1 << 40), vec![1; 500]);
            journal.write(batch).unwrap();
        }
    };
    fill(0, 100);
    let mut scan = journal.scan(&(key(0)..=key(1 << 30)));
    assert_eq!(scan.next().unwrap().unwrap().1, 0u64.to_le_bytes());
    let mut batch = Batch::default();
    for n in 0..50 {
        batch.delete(key(n));
    }
    journal.write(batch).unwrap();
    fill(100, 200);
    let rest: Vec<u64> =
        scan.map(|pair| u64::from_le_bytes(pair.unwrap().1.try_into().unwrap())).collect();
    assert!(rest.into_iter().eq(50..200));
}
