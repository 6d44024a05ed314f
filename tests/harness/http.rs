//! Requests as any client sends them: no retries, no redirects, nothing taken on trust.

use std::{collections::BTreeMap, time::Duration};

use pygmy::api::header;
use reqwest::{Client, Method};
use serde_json::Value;

/// For one request, whatever becomes of it.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A reply, whole.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// A header's text; empty where it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Who answered.
    pub(crate) fn node(&self) -> &str {
        self.header(header::NODE)
    }
}

/// A client. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Http(Client);

impl Http {
    pub(crate) fn new() -> Self {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build();
        Self(client.unwrap())
    }

    /// A request, and its reply if there was one.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Reply, reqwest::Error> {
        let mut request = self.0.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header(header::IDEMPOTENCY_KEY, key);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").to_owned()))
            .collect();
        Ok(Reply { status, headers, body: response.text().await? })
    }

    /// A GET that is answered.
    pub(crate) async fn get(&self, url: &str) -> Reply {
        let reply = self.try_get(url).await;
        reply.unwrap_or_else(|| panic!("GET {url} is not answered"))
    }

    pub(crate) async fn try_get(&self, url: &str) -> Option<Reply> {
        self.send(Method::GET, url, None, None).await.ok()
    }

    /// A POST that is answered.
    pub(crate) async fn post(&self, url: &str, body: &Value, key: Option<&str>) -> Reply {
        let reply = self.send(Method::POST, url, Some(body), key).await;
        reply.unwrap_or_else(|error| panic!("POST {url} is not answered: {error:?}"))
    }
}
