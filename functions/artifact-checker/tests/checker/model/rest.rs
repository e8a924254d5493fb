//! What must hold some days after the last fault.

use std::collections::BTreeSet;

use sekisho_ledger::{Key, Memory, Store};
use serde_json::Value;

use super::cloud::Cloud;
use super::network::is_right;
use super::witness::{is_artifact, is_wrong};
use crate::world::BUCKET;

/// The code of the repair that is left to S3 Batch Operations and has not ended.
pub(super) async fn open_repair(memory: &Memory) -> Result<Option<String>, String> {
    let key = Key { pk: "artifact-repair".to_owned(), sk: BUCKET.to_owned() };
    let row = memory.read::<Value>(&key).await.map_err(|error| error.to_string())?;
    let open = row.filter(|row| row.state["step"] != "ended");
    Ok(open.and_then(|row| row.state["code"].as_str().map(str::to_owned)))
}

pub(super) async fn check(cloud: &Cloud, memory: &Memory) -> Result<(), String> {
    let row = memory.read::<Value>(&Key::state(format!("sweep#{BUCKET}"))).await;
    let row = row.map_err(|error| error.to_string())?.ok_or("there was no sweep")?.state;
    if row["ranges"]["unchecked"] != 0 || row["listing_refused"] == true {
        return Err(format!("the last sweep is incomplete: {row}"));
    }
    if let Some(code) = open_repair(memory).await? {
        return Err(format!("nobody ends the repair {code}"));
    }
    let keys: BTreeSet<String> = cloud.world.state().bucket(BUCKET).objects.keys().cloned().collect();
    let keys: BTreeSet<String> = keys.into_iter().filter(|key| is_artifact(key)).collect();
    let wrong: Vec<&String> = keys.iter().filter(|key| is_wrong(&cloud.world, key)).collect();
    if !wrong.is_empty() {
        return Err(format!("at rest, {wrong:?} are under wrong keys"));
    }
    // What the function does not repair: objects under keys of another account, and above the limit those that it would
    // have to copy.
    let is_reported = |key: &&String| {
        let state = cloud.world.state();
        state.bucket(BUCKET).latest(key).is_some_and(|latest| !is_right(&latest.sse))
    };
    let reported: BTreeSet<&String> = keys.iter().filter(is_reported).collect();
    let rows = memory.list::<Value>("artifact-finding", "").await.map_err(|error| error.to_string())?;
    let is_open = |row: &Value| row["state"] == "open" && row["of_older_version"] != true;
    let open: BTreeSet<String> = rows
        .iter()
        .filter(|row| is_open(&row.state))
        .filter_map(|row| row.state["key"].as_str().map(str::to_owned))
        .collect();
    if reported.iter().copied().ne(open.iter()) {
        return Err(format!("at rest, the open findings are about {open:?}, and should be about {reported:?}"));
    }
    Ok(())
}
