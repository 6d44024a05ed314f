//! The cluster, its policy and its health.

use std::collections::BTreeMap;

use reqwest::{Method, Url};

use super::{
    Client, ClientError, Failure, Precondition, condition_headers, decode,
    send::{Call, Reply},
};
use crate::api::{Cluster, Maintenance, Policy, Verification};

/// The replicated settings, with their version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInForce {
    /// The log index at which they were set.
    pub version: u64,
    /// The settings.
    pub policy: Policy,
}

/// The answer of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it is ready.
    pub ready: bool,
    /// What it said.
    pub detail: String,
}

impl Client {
    /// Who takes part, as the answering node sees it.
    pub async fn cluster(&self) -> Result<Cluster, ClientError> {
        self.read_seed(self.path(&["v1", "cluster"])).await
    }

    /// The replicated settings, with their version.
    pub async fn policy(&self) -> Result<PolicyInForce, ClientError> {
        let url = self.path(&["v1", "policy"]);
        let headers = self.read_headers();
        let call = Call { method: Method::GET, url: url.clone(), headers, body: None, key: None };
        policy_from(&url, &self.send(call).await?, None)
    }

    /// Replaces the replicated settings, all of them; with [`Precondition::Version`] only if nobody
    /// else has in the meantime.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use pygmy::client::Precondition;
    /// let mut now = store.policy().await?;
    /// now.policy.restock_interval_s = Some(30);
    /// store.set_policy(&now.policy, Precondition::Version(now.version)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_policy(
        &self,
        policy: &Policy,
        condition: Precondition,
    ) -> Result<PolicyInForce, ClientError> {
        self.set_policy_with_key(policy, condition, &Self::new_key()).await
    }

    /// [`Client::set_policy`] with the caller's own idempotency key.
    pub async fn set_policy_with_key(
        &self,
        policy: &Policy,
        condition: Precondition,
        key: &str,
    ) -> Result<PolicyInForce, ClientError> {
        let url = self.path(&["v1", "policy"]);
        let body = serde_json::to_vec(policy).expect("the interface's types are JSON objects");
        let call = Call {
            method: Method::PUT,
            url: url.clone(),
            headers: condition_headers(condition),
            body: Some(body),
            key: Some(key.into()),
        };
        policy_from(&url, &self.send(call).await?, Some(key))
    }

    /// Switches maintenance on or off for the whole cluster: while it is on, writes are refused and
    /// reads go on.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// assert!(store.set_maintenance(true).await?.on);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_maintenance(&self, on: bool) -> Result<Maintenance, ClientError> {
        self.set_maintenance_with_key(on, &Self::new_key()).await
    }

    /// [`Client::set_maintenance`] with the caller's own idempotency key.
    pub async fn set_maintenance_with_key(
        &self,
        on: bool,
        key: &str,
    ) -> Result<Maintenance, ClientError> {
        let url = self.path(&["v1", "cluster", "maintenance"]);
        self.write(Method::POST, url, &Maintenance { on }, Precondition::None, key).await
    }

    /// Who is up, in the original's form: 1 or 0 for each name.
    pub async fn heartbeat(&self) -> Result<BTreeMap<String, u8>, ClientError> {
        self.read_seed(self.path(&["heartbeat", ""])).await
    }

    /// The answering replica's own full check.
    pub async fn verify(&self) -> Result<Verification, ClientError> {
        self.read_seed(self.path(&["v1", "verify"])).await
    }

    /// Whether this node can work. One try.
    pub async fn ready(&self) -> Result<Readiness, ClientError> {
        self.probe("readyz").await
    }

    /// Whether the cluster has a leader and answers linearizable reads. One try.
    pub async fn cluster_ready(&self) -> Result<Readiness, ClientError> {
        self.probe("clusterz").await
    }

    async fn probe(&self, name: &str) -> Result<Readiness, ClientError> {
        let url = self.path(&[name]);
        let transport = |error: reqwest::Error| ClientError::Unavailable {
            url: self.url().to_owned(),
            attempts: 1,
            waited_ms: 0,
            last: Failure::Transport(error),
        };
        let limit = self.timeouts.attempt.min(self.timeouts.total);
        let response = self.http.get(url.clone()).timeout(limit).send().await.map_err(transport)?;
        let status = response.status();
        self.remember(response.headers());
        let text = response.text().await.map_err(transport)?;
        let detail = match serde_json::from_str::<crate::api::Problem>(&text) {
            Ok(problem) => problem.detail,
            Err(_) => text.chars().take(500).collect::<String>().trim().to_owned(),
        };
        match status.as_u16() {
            200 => Ok(Readiness { ready: true, detail }),
            503 => Ok(Readiness { ready: false, detail }),
            status => Err(ClientError::Unexpected {
                url: url.into(),
                last: Failure::Status { status, body: detail },
            }),
        }
    }
}

/// A policy with the version of its ETag. One that cannot be read is 0, which no policy that was
/// set has: a write with it is refused, not done blindly.
fn policy_from(url: &Url, reply: &Reply, key: Option<&str>) -> Result<PolicyInForce, ClientError> {
    let policy = decode(url, reply, key)?;
    Ok(PolicyInForce { version: reply.etag.unwrap_or(0), policy })
}
