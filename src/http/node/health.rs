//! `/livez`, `/readyz`, `/clusterz`.

use axum::{extract::State, response::Response};
use http::StatusCode;
use pygmy_raft::node::Freshness;
use serde_json::{Map, Value, json};

use super::{Api, extract::Params, openapi, respond::json as json_reply};
use crate::http::problem::{ApiError, Code};

/// `GET /livez`: the process is alive.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    summary = "Whether the process is alive",
    responses((status = 200, description = "It is", body = openapi::Health)),
)]
pub(super) async fn livez() -> Response {
    json_reply(StatusCode::OK, &json!({ "status": "ok" }))
}

/// `GET /readyz`: this node can work. Needs no leader, so that a cold cluster can start in any order.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    summary = "Whether this node or facade can work",
    description = "Needs no leader, so that a cold cluster can start in any order.",
    params(openapi::Probe),
    responses(
        (status = 200, description = "It can", body = openapi::Health),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn readyz(
    State(api): State<Api>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let verbose = params.text("verbose").is_some();
    let excluded: Vec<String> = params
        .text("exclude")
        .map(|names| names.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    params.finish()?;
    let checks =
        [("not_draining", !api.node.is_draining()), ("recovered", api.node.has_recovered())];
    let counted = || checks.iter().filter(|(name, _)| !excluded.iter().any(|e| e == name));
    if let Some((name, _)) = counted().find(|(_, ok)| !ok) {
        let code = match *name {
            "recovered" => Code::Recovering,
            _ => Code::ShuttingDown,
        };
        return Err(ApiError::new(code, format!("This node is not ready: {name} does not hold.")));
    }
    let mut body = Map::from_iter([("status".to_owned(), json!("ok"))]);
    if verbose {
        let checks = checks.iter().map(|(name, ok)| ((*name).to_owned(), Value::Bool(*ok)));
        let status = api.node.status();
        body.insert("checks".to_owned(), Value::Object(checks.collect()));
        body.insert("state".to_owned(), json!(status.state));
        body.insert("term".to_owned(), json!(status.term));
        body.insert("applied_index".to_owned(), json!(status.applied_index));
        body.insert("last_log_index".to_owned(), json!(status.last_log_index));
        body.insert("snapshot_index".to_owned(), json!(status.snapshot_index));
        body.insert("purged_index".to_owned(), json!(status.purged_index));
        let log = api.node.log_stats();
        let log = json!({
            "entries": log.entries, "syncs": log.syncs, "disk_bytes": log.disk_bytes,
        });
        body.insert("log".to_owned(), log);
    }
    Ok(json_reply(StatusCode::OK, &Value::Object(body)))
}

/// `GET /clusterz`: the cluster has a leader and answers linearizable reads.
#[utoipa::path(
    get,
    path = "/clusterz",
    tag = "health",
    summary = "Whether the cluster has a leader and answers linearizable reads",
    responses((status = 200, description = "It has", body = openapi::Health), openapi::ReadErrors),
)]
pub(super) async fn clusterz(State(api): State<Api>) -> Result<Response, ApiError> {
    let answer = api.read(Freshness::Linearizable).await?;
    Ok(answer.json(&json!({ "status": "ok" })))
}
