//! Peer calls: what members say to each other, over any transport.
//!
//! One request is one sealed bincode body with a header that says which cluster, which member and
//! which secret it is meant for; the header is checked before anything is decoded. The HTTP
//! transport is in [`http`]; the simulation brings its own.

pub(crate) mod client;
pub mod http;
pub mod link;
pub(crate) mod notices;
pub mod wire;

use std::{future::Future, time::Duration};

pub use client::{PeerNetwork, PeerNetworkFactory};

use crate::types::{ClusterId, NodeId};

/// Checked by the receiver before it decodes the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHeader {
    /// The cluster that the caller belongs to; `None` while it belongs to none.
    pub cluster: Option<ClusterId>,
    /// Who calls.
    pub from: NodeId,
    /// Whom the caller believes to be at this address.
    pub target: NodeId,
    /// Proof of the cluster secret.
    pub proof: SecretProof,
}

/// What stands for the cluster secret on the wire: derived from it, so that the secret itself never
/// leaves the process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretProof(blake3::Hash);

impl SecretProof {
    /// The proof of a cluster's secret. The cluster's name is part of it, so that two clusters with
    /// the same secret do not mix either.
    pub fn new(cluster_name: &str, secret: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("pygmy peer secret proof");
        hasher.update(&(cluster_name.len() as u64).to_le_bytes());
        hasher.update(cluster_name.as_bytes());
        hasher.update(secret.as_bytes());
        Self(hasher.finalize())
    }

    /// Reads the form that [`to_hex`](Self::to_hex) writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self)
    }

    /// For a header line.
    pub fn to_hex(self) -> String {
        self.0.to_hex().to_string()
    }
}

impl std::fmt::Debug for SecretProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretProof(hidden)")
    }
}

/// Why a call brought no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody could be reached there: the request was not delivered.
    #[error("{address} cannot be reached: {detail}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        detail: String,
    },
    /// No reply in time. The request may have been delivered.
    #[error("{address} did not answer within {waited:?}")]
    Timeout {
        /// Where.
        address: String,
        /// How long it was waited.
        waited: Duration,
    },
    /// The connection broke. The request may have been delivered.
    #[error("the connection to {address} broke: {detail}")]
    Broken {
        /// Where.
        address: String,
        /// How.
        detail: String,
    },
    /// The receiver refused the call, before decoding it.
    #[error("{address} refused: {refusal}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        refusal: Refusal,
    },
}

impl CallError {
    /// Whether the request certainly had no effect.
    pub fn not_delivered(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Refused { .. } => true,
            Self::Timeout { .. } | Self::Broken { .. } => false,
        }
    }
}

/// Why a receiver refuses a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    /// The proof is wrong: another secret, or another cluster name.
    #[error("the cluster secret or the cluster name does not match; check [cluster] in both files")]
    WrongSecret,
    /// The caller belongs to another cluster.
    #[error(
        "it belongs to cluster {theirs}, the caller to cluster {ours}; check the addresses of the \
         members, or reset the one that is in the wrong cluster"
    )]
    WrongCluster {
        /// The caller's.
        ours: String,
        /// The receiver's.
        theirs: String,
    },
    /// Another member is at this address.
    #[error("it is node {there}, not node {target}; check the addresses of the members")]
    WrongTarget {
        /// Whom the caller wanted.
        target: NodeId,
        /// Who is there.
        there: NodeId,
    },
    /// The receiver belongs to no cluster yet, so it can neither vote nor append.
    #[error("it belongs to no cluster yet")]
    NoCluster,
    /// The body could not be decoded.
    #[error("the request cannot be decoded: {0}")]
    Malformed(String),
    /// The receiver's Raft core has stopped.
    #[error("its Raft core has stopped: {0}")]
    Stopped(String),
}

/// Carries calls to other members.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Has a connection to an address ready, so that the next call goes out at once. What has no
    /// connections has nothing to do.
    ///
    /// Errors: there is none in time. Nothing that matters was sent.
    fn reach(
        &self,
        _address: &str,
        _header: &CallHeader,
        _timeout: Duration,
    ) -> impl Future<Output = Result<(), CallError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Sends a body to an address and waits for the reply's body.
    fn call(
        &self,
        address: &str,
        header: CallHeader,
        body: Vec<u8>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, CallError>> + Send;
}
