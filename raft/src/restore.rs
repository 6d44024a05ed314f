//! A data directory made from a backup: that of a node which is the only member of a new cluster.
//!
//! Indexes go on where the backup ends, so that versions and places in the feed of changes keep their
//! meaning; others join the node and get everything from it. The cluster's id is new: whoever is left of the
//! one that the backup is of, with entries that the backup lacks, can neither vote here nor be heard.
//!
//! A mark is in the directory from before the first write until after the last, and a node with it does not
//! start. So there is no half-way: a restore that was cut off is begun again from the start.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::Arc,
};

use openraft::Membership;
use pygmy_storage::{
    Error,
    snapshot::{self, Header},
    store::{self, StateStore},
    volume::{self, Volume},
};

use crate::{
    identity::Identity,
    log_store,
    node::LOG_ENGINE,
    state_machine::{encode_raft, snapshot_meta},
    types::{
        ClusterId, Environment, Member, NodeId,
        alias::{LogId, StoredMembership, Vote},
    },
};

/// The file that says that a restore has begun and has not ended.
const MARK: &str = "restoring";

/// What a restore is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reads the backup and checks all of it.
    Checking,
    /// Reads the backup again and copies it.
    Copying,
    /// Makes the state database from the copy.
    Loading,
}

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster.
    pub cluster: ClusterId,
    /// The newest entry in the backup.
    pub index: u64,
    /// Orders ever placed.
    pub orders: u64,
    /// Items.
    pub items: u64,
}

/// Why a directory was not made from a backup.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in the directory. Nothing was touched.
    #[error(
        "{location} is not empty: it has {found}. A restore makes a node anew and keeps nothing: move \
         the directory away, or name another one, and run it again"
    )]
    NotEmpty {
        /// The data directory.
        location: String,
        /// One of the things in it.
        found: String,
    },
    /// The backup is damaged, or is none. Nothing was touched.
    #[error(
        "{0}. Nothing was changed; take another backup, and check it with `pygmy backup --check`"
    )]
    Damaged(#[source] Error),
    /// The backup is of a store that nothing was ever written to. Nothing was touched.
    #[error("there is nothing in the backup: start the node without it")]
    Nothing,
    /// Reading or writing failed.
    #[error("{0}. Mend that and run the restore again: it begins from the start")]
    Storage(#[from] Error),
}

/// Whether a restore into a volume has begun and not ended.
pub(crate) fn is_unfinished(volume: &dyn Volume) -> pygmy_storage::Result<bool> {
    Ok(volume.files()?.iter().any(|name| name == MARK))
}

/// Makes an empty volume, or one that an earlier restore was cut off in, that of a node which is the only
/// member of a new cluster. `open` gives the backup from its beginning, twice; `progress` is called at each
/// phase's beginning, and when there is about a mebibyte more on the disk.
///
/// Errors: see [`RestoreError`]. The node does not start then, if anything was written.
pub fn restore<E: Environment>(
    volume: &Arc<dyn Volume>,
    (node_id, member): (NodeId, Member),
    open: &mut dyn FnMut() -> pygmy_storage::Result<Box<dyn Read>>,
    progress: &mut dyn FnMut(Phase),
) -> Result<Restored, RestoreError> {
    let unfinished = is_unfinished(&**volume)?;
    if !unfinished {
        let mut found = volume.engines()?.into_iter().chain(volume.files()?);
        if let Some(found) = found.next() {
            return Err(RestoreError::NotEmpty { location: volume.location(), found });
        }
    }
    progress(Phase::Checking);
    let (header, last) = check(&mut *open()?)?;

    volume::write_file(&**volume, MARK, b"")?;
    if unfinished {
        remove_all(&**volume)?;
    }
    let name = member.name.clone();
    let nodes = BTreeMap::from([(node_id, member)]);
    let alone = Membership::new(vec![BTreeSet::from([node_id])], nodes)
        .expect("its only voter is among its nodes");
    let raft = encode_raft(Some(last), &StoredMembership::new(Some(last), alone));
    progress(Phase::Copying);
    let copied = &mut || progress(Phase::Copying);
    let file = store::copy_snapshot(&**volume, &mut *open()?, &raft, copied)?;
    progress(Phase::Loading);
    let (mut state, _, _) = StateStore::open(volume.clone())?;
    state.install(file, &mut || progress(Phase::Loading))?;
    drop(state);

    // A term above all in the backup, so that no entry to come has the id of one that is in it.
    let vote = Vote::new(last.leader_id.term.saturating_add(1), node_id);
    log_store::begin_after(&*volume.open_journal(LOG_ENGINE)?, last, &vote)?;
    let cluster = ClusterId(E::random_bytes());
    Identity { name, node_id, cluster }.store(&**volume)?;
    volume.remove_file(MARK)?;
    Ok(Restored { cluster, index: last.index, orders: header.orders, items: header.items })
}

/// Checks a whole backup, and gives the last entry in it.
fn check(input: &mut dyn Read) -> Result<(Header, LogId), RestoreError> {
    let judge = |error: Error| match error.is_damage() {
        true => RestoreError::Damaged(error),
        false => RestoreError::Storage(error),
    };
    let header = snapshot::verify(input).map_err(judge)?;
    let last = snapshot_meta(&header.raft).map_err(judge)?.last_log_id;
    let last = last.ok_or(RestoreError::Nothing)?;
    if header.applied != Some(last.index) {
        let detail = format!("its state is of {:?} and its log of {}", header.applied, last.index);
        return Err(RestoreError::Damaged(Error::corrupt("the snapshot", detail)));
    }
    Ok((header, last))
}

/// Removes what an earlier restore left, but for the mark.
fn remove_all(volume: &dyn Volume) -> pygmy_storage::Result<()> {
    for name in volume.engines()? {
        volume.remove_engine(&name)?;
    }
    for name in volume.files()?.iter().filter(|name| *name != MARK) {
        volume.remove_file(name)?;
    }
    Ok(())
}
