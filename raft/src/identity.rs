//! Who a node is: its name, its node id, its cluster. Written once, before it first takes part.

use std::sync::{Arc, RwLock};

use pygmy_storage::{
    Result, codec,
    volume::{self, Volume},
};
use serde::{Deserialize, Serialize};

use crate::{
    network::{CallHeader, SecretProof},
    types::{ClusterId, NodeId},
};

const FILE: &str = "identity";

/// What a data directory says about the node that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The member's name.
    pub name: String,
    /// The node id.
    pub node_id: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
}

impl Identity {
    /// Reads the identity in a volume, if it has one.
    pub fn load(volume: &dyn Volume) -> Result<Option<Self>> {
        match volume::read_file(volume, FILE)? {
            Some(bytes) => codec::unseal(&bytes, "the node's identity").map(Some),
            None => Ok(None),
        }
    }

    /// Writes it, durably.
    pub fn store(&self, volume: &dyn Volume) -> Result<()> {
        volume::write_file(volume, FILE, &codec::seal(self))
    }
}

/// What a node shows to others: who it is and that it knows the secret.
#[derive(Debug)]
pub struct Credentials {
    node_id: NodeId,
    cluster: RwLock<Option<ClusterId>>,
    proof: SecretProof,
}

impl Credentials {
    /// Credentials of a node that belongs to a cluster, or to none yet.
    pub fn new(node_id: NodeId, cluster: Option<ClusterId>, proof: SecretProof) -> Arc<Self> {
        Arc::new(Self { node_id, cluster: RwLock::new(cluster), proof })
    }

    /// The node id.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The cluster that the node belongs to.
    pub fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn set_cluster(&self, cluster: ClusterId) {
        *self.cluster.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(cluster);
    }

    /// The proof of the secret.
    pub fn proof(&self) -> SecretProof {
        self.proof
    }

    /// The header of a call to a member.
    pub fn header(&self, target: NodeId) -> CallHeader {
        CallHeader { cluster: self.cluster(), from: self.node_id, target, proof: self.proof }
    }
}
