//! The subcommands about what an operator sets for the whole cluster.

use serde_json::{Value, json};

use super::args::{Reading, SetPolicy, Writing};
use super::{Answer, Exit, Stop, show};
use crate::api::Policy;
use crate::client::{PolicyInForce, Precondition};

pub(super) async fn show(args: Reading) -> Result<Answer, Stop> {
    let now = args.remote.client()?.policy().await?;
    Ok(answer(&now, args.json))
}

/// Reads all settings, changes those that are named, and writes them back unless somebody else has
/// written in between.
pub(super) async fn set(args: SetPolicy) -> Result<Answer, Stop> {
    let client = args.reading.remote.client()?;
    let now = client.policy().await?;
    let mut fields = fields(&now.policy);
    for (name, value) in args.settings {
        let Some(field) = fields.get_mut(&name) else {
            let detail = "`pygmy policy show` has the names";
            return Err(Stop::usage(format!("there is no setting {name}; {detail}")));
        };
        *field = json!(value);
    }
    let policy: Policy = serde_json::from_value(fields.into())
        .map_err(|error| Stop::usage(format!("a setting cannot be that: {error}")))?;
    let set = client.set_policy(&policy, Precondition::Version(now.version)).await?;
    Ok(answer(&set, args.reading.json))
}

pub(super) async fn maintenance(args: Writing, on: bool) -> Result<Answer, Stop> {
    let client = args.reading.remote.client()?;
    let now = client.set_maintenance_with_key(on, &args.key()).await?;
    if args.reading.json {
        return Ok(Answer::json(&now, Exit::Ok));
    }
    Ok(Answer::ok(match now.on {
        true => "Maintenance is on: writes are refused, reads go on.",
        false => "Maintenance is off.",
    }))
}

fn answer(now: &PolicyInForce, json: bool) -> Answer {
    if json {
        return Answer::json(&now.policy, Exit::Ok);
    }
    let shown = |value: Value| if value.is_null() { "never".into() } else { value.to_string() };
    let rows = fields(&now.policy).into_iter().map(|(name, value)| vec![name, shown(value)]);
    let table = show::table(&["setting", "#value"], rows);
    Answer::ok(format!("{table}\nversion {}", now.version))
}

fn fields(policy: &Policy) -> serde_json::Map<String, Value> {
    match json!(policy) {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}
