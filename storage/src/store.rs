//! Where a node's state lives between starts: one state engine at a time, and the newest snapshot.
//!
//! There is one way to a state: load a checkpoint, or import a snapshot and then load it; the log's
//! `apply` does the rest. An engine that cannot be read is dropped and rebuilt from the snapshot.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use crate::{
    checkpoint::{self, Dirty},
    engine::Engine,
    error::{Error, Result},
    history::History,
    query::View,
    snapshot,
    state::{Packed, State},
    volume::Volume,
};

const ENGINE_PREFIX: &str = "state-";
const SNAPSHOT_PREFIX: &str = "snapshot-";
/// A snapshot of another node that becomes this one's.
const RESTORED: &str = "restored";

/// What a start found and did, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing was there.
    Empty,
    /// The newest checkpoint.
    Checkpoint,
    /// The newest snapshot, because no checkpoint could be read; what was wrong with those.
    Snapshot {
        /// Why each state database was given up.
        damage: Vec<String>,
    },
    /// Nothing, although something was there; what was wrong with it.
    Lost {
        /// Why each state database and snapshot was given up.
        damage: Vec<String>,
    },
}

/// The state database of a node and its snapshots.
#[derive(Debug)]
pub struct StateStore {
    volume: Arc<dyn Volume>,
    generation: u64,
    /// That of every view of this engine.
    history: Arc<History>,
    packed: Packed,
}

impl StateStore {
    /// Opens what is there; rebuilds from the newest snapshot where the state database is damaged.
    ///
    /// Errors: I/O faults, and formats of newer builds. Damage is no error: it is in the origin.
    pub fn open(volume: Arc<dyn Volume>) -> Result<(Self, View, Origin)> {
        let mut damage = Vec::new();
        let mut found: Option<(u64, Loaded)> = None;
        let mut newest = 0;
        for name in volume.engines()?.into_iter().rev() {
            let Some(generation) = number_in(&name, ENGINE_PREFIX) else { continue };
            newest = newest.max(generation);
            if found.is_none() {
                match open_and_load(&*volume, &name) {
                    Ok(Some(loaded)) => {
                        found = Some((generation, loaded));
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) if error.is_damage() => damage.push(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
            volume.remove_engine(&name)?;
        }
        if let Some((generation, (history, state, packed))) = found {
            let (store, view) = Self::of(volume, generation, history, state, packed);
            return Ok((store, view, Origin::Checkpoint));
        }

        let generation = newest + 1;
        for name in snapshots(&*volume)?.into_iter().rev() {
            match import(&*volume, generation, &name, &mut || ()) {
                Ok((history, state, packed)) => {
                    let (store, view) = Self::of(volume, generation, history, state, packed);
                    return Ok((store, view, Origin::Snapshot { damage }));
                }
                Err(error) if error.is_damage() => {
                    damage.push(format!("{name}: {error}"));
                    volume.remove_engine(&engine_name(generation))?;
                }
                Err(error) => return Err(error),
            }
        }
        let engine = volume.open_engine(&engine_name(generation))?;
        let origin = match damage.is_empty() {
            true => Origin::Empty,
            false => Origin::Lost { damage },
        };
        let history = Arc::new(History::new(engine));
        let (store, view) =
            Self::of(volume, generation, history, State::default(), Packed::default());
        Ok((store, view, origin))
    }

    fn of(
        volume: Arc<dyn Volume>,
        generation: u64,
        history: Arc<History>,
        state: State,
        packed: Packed,
    ) -> (Self, View) {
        let view = View { state, history: history.clone() };
        (Self { volume, generation, history, packed }, view)
    }

    /// Writes a checkpoint of a state; `dirty` is what changed since the last one. What the state
    /// has forgotten of the changes is deleted, unless a view that is older is pinned. Rests after each piece.
    pub fn checkpoint(
        &mut self,
        state: &State,
        dirty: &Dirty,
        rest: &mut dyn FnMut(),
    ) -> Result<Packed> {
        let changes_from = self.history.give_up_changes(state.changes.first_chunk());
        let (engine, index) = (&**self.history.engine(), self.history.index());
        let packed = self.packed;
        self.packed = checkpoint::write(engine, state, dirty, packed, index, changes_from, rest)?;
        Ok(self.packed)
    }

    /// Replaces the whole state by a committed snapshot file of the volume, which becomes the newest
    /// snapshot; nothing of what was there is merged. The file is checked before anything changes. Rests after
    /// each piece.
    pub fn install(&mut self, file: &str, rest: &mut dyn FnMut()) -> Result<View> {
        let (mut input, _) = self.volume.open_file(file)?;
        let header = snapshot::verify(&mut input)?;
        let name = snapshot_name(header.applied);
        if file != name {
            self.volume.rename_file(file, &name)?;
        }
        remove_snapshots_except(&*self.volume, &name)?;
        let (history, state, packed) = import(&*self.volume, self.generation + 1, &name, rest)?;
        let old = engine_name(self.generation);
        self.generation += 1;
        self.history = history.clone();
        self.packed = packed;
        // Readers that still hold a view of the old engine read on: its files stay open.
        self.volume.remove_engine(&old)?;
        Ok(View { state, history })
    }

    /// Bytes of the state database on disk, roughly.
    pub fn disk_bytes(&self) -> u64 {
        self.history.engine().disk_bytes()
    }
}

/// Writes a snapshot of a view, makes it durable, and removes older ones. Needs no lock on anything:
/// applies and checkpoints go on meanwhile. Rests after each mebibyte. Returns the file's name and length in
/// bytes.
pub fn build_snapshot(
    volume: &dyn Volume,
    view: &View,
    rest: &mut dyn FnMut(),
) -> Result<(String, u64)> {
    let name = snapshot_name(view.state.applied());
    let mut file = volume.create_file(&name)?;
    let bytes = export_unhurried(view, &mut file, rest)?;
    file.commit()?;
    // An install may have brought a newer one meanwhile; that one stays, and this one goes.
    let newest = snapshots(volume)?.pop().unwrap_or_else(|| name.clone());
    remove_snapshots_except(volume, &newest)?;
    Ok((name, bytes))
}

/// Copies a snapshot into a volume, with something else of Raft's in it, and gives the file's name, to be
/// [installed](StateStore::install). Calls `step` after each mebibyte.
pub fn copy_snapshot(
    volume: &dyn Volume,
    from: &mut dyn Read,
    raft: &[u8],
    step: &mut dyn FnMut(),
) -> Result<&'static str> {
    let mut file = volume.create_file(RESTORED)?;
    let out = Unhurried { out: &mut file, bytes: 0, rest: step };
    let mut out = std::io::BufWriter::with_capacity(1 << 18, out);
    snapshot::rewrite(from, &mut out, raft)?;
    drop(out);
    file.commit()?;
    Ok(RESTORED)
}

/// Writes a snapshot of a view, as [`snapshot::export`] does. Rests after each mebibyte.
pub fn export_unhurried(view: &View, out: &mut dyn Write, rest: &mut dyn FnMut()) -> Result<u64> {
    let out = Unhurried { out, bytes: 0, rest };
    let mut out = std::io::BufWriter::with_capacity(1 << 18, out);
    snapshot::export(view, &mut out)
}

/// Bytes of a snapshot that are written between two rests.
const PIECE_BYTES: usize = 1 << 20;

/// Writes with rests.
struct Unhurried<'a> {
    out: &'a mut dyn Write,
    bytes: usize,
    rest: &'a mut dyn FnMut(),
}

impl Write for Unhurried<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written;
        if self.bytes >= PIECE_BYTES {
            (self.rest)();
            self.bytes = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The newest snapshot that is whole, with its header and length.
pub fn newest_snapshot(volume: &dyn Volume) -> Result<Option<(String, snapshot::Header, u64)>> {
    for name in snapshots(volume)?.into_iter().rev() {
        let (mut input, bytes) = volume.open_file(&name)?;
        match snapshot::read_header(&mut input) {
            Ok(header) => return Ok(Some((name, header, bytes))),
            // A damaged one is as none: the log still has what it held, or a peer does.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A state with the history it was loaded from.
type Loaded = (Arc<History>, State, Packed);

fn open_and_load(volume: &dyn Volume, name: &str) -> Result<Option<Loaded>> {
    load(volume.open_engine(name)?)
}

fn load(engine: Arc<dyn Engine>) -> Result<Option<Loaded>> {
    let Some((state, packed)) = checkpoint::load(&*engine)? else { return Ok(None) };
    Ok(Some((Arc::new(History::open(engine, packed)?), state, packed)))
}

fn import(
    volume: &dyn Volume,
    generation: u64,
    file: &str,
    rest: &mut dyn FnMut(),
) -> Result<Loaded> {
    let name = engine_name(generation);
    volume.remove_engine(&name)?;
    let engine = volume.open_engine(&name)?;
    let (mut input, _) = volume.open_file(file)?;
    let mut input = std::io::BufReader::with_capacity(1 << 18, &mut input);
    snapshot::import(&mut input, &*engine, rest)?;
    load(engine)?.ok_or_else(|| Error::corrupt(file, "what was imported is not there"))
}

fn engine_name(generation: u64) -> String {
    format!("{ENGINE_PREFIX}{generation:010}")
}

/// Zero-padded, so that the order of names is the order of the log.
fn snapshot_name(applied: Option<u64>) -> String {
    format!("{SNAPSHOT_PREFIX}{:020}", applied.map_or(0, |index| index + 1))
}

fn number_in(name: &str, prefix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?.parse().ok()
}

fn snapshots(volume: &dyn Volume) -> Result<Vec<String>> {
    let mut names = volume.files()?;
    names.retain(|name| number_in(name, SNAPSHOT_PREFIX).is_some());
    Ok(names)
}

fn remove_snapshots_except(volume: &dyn Volume, keep: &str) -> Result<()> {
    for name in snapshots(volume)? {
        if name != keep {
            volume.remove_file(&name)?;
        }
    }
    Ok(())
}
