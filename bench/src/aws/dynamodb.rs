//! DynamoDB: the operations and conditions that the ledger uses.

use serde_json::{Map, Value, json};

use super::{Answer, State, ok, refused, unsupported};

pub(super) fn answer(state: &mut State, operation: &str, request: &Value) -> Answer {
    let text = |item: &Value, name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
    let key = |item: &Value| (text(item, "pk"), text(item, "sk"));
    let answer = match operation {
        "GetItem" => {
            let item = state.ledger.get(&key(&request["Key"]));
            state.units.read += item.map_or(1, |item| size(item).div_ceil(4096).max(1));
            item.map_or(json!({}), |item| json!({ "Item": item }))
        }
        "BatchGetItem" => {
            let (table, asked) = only_table(&request["RequestItems"]);
            let keys = asked["Keys"].as_array().map(Vec::as_slice).unwrap_or_default();
            let found: Vec<_> = keys.iter().filter_map(|wanted| state.ledger.get(&key(wanted))).collect();
            let units: usize = found.iter().map(|item| size(item).div_ceil(4096).max(1)).sum();
            let answer = json!({ "Responses": { table: found }, "UnprocessedKeys": {} });
            state.units.read += units + keys.len() - found.len();
            answer
        }
        "TransactWriteItems" => return transact(state, request),
        "PutItem" => {
            let item = &request["Item"];
            state.units.write += item.as_object().map_or(0, size).div_ceil(1024);
            let before = state.ledger.get(&key(item));
            if !holds(request, before) {
                let error = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
                return refused(400, json!({ "__type": error, "Item": before }).to_string());
            }
            state.ledger.insert(key(item), item.as_object().cloned().unwrap_or_default());
            json!({})
        }
        "DeleteItem" => {
            state.ledger.remove(&key(&request["Key"]));
            json!({})
        }
        "Query" => {
            let partition = text(&request["ExpressionAttributeValues"], ":pk");
            let prefix = text(&request["ExpressionAttributeValues"], ":sk");
            let found = state.ledger.iter().filter(|((pk, sk), _)| *pk == partition && sk.starts_with(&prefix));
            let items: Vec<_> = found.map(|(_, item)| item).collect();
            json!({ "Count": items.len(), "Items": items })
        }
        other => return unsupported("DynamoDB", other),
    };
    ok(answer.to_string())
}

/// The name and the content of the only table in a request about several tables.
fn only_table(tables: &Value) -> (String, Value) {
    let first = tables.as_object().and_then(|tables| tables.iter().next());
    first.map(|(name, asked)| (name.clone(), asked.clone())).unwrap_or_default()
}

/// Writes all items of a transaction, or none.
fn transact(state: &mut State, request: &Value) -> Answer {
    let puts: Vec<&Value> = request["TransactItems"].as_array().into_iter().flatten().map(|one| &one["Put"]).collect();
    let text = |item: &Value, name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
    let key = |item: &Value| (text(item, "pk"), text(item, "sk"));
    let hold: Vec<bool> = puts.iter().map(|put| holds(put, state.ledger.get(&key(&put["Item"])))).collect();
    if hold.contains(&false) {
        let reason = |holds: &bool| json!({ "Code": if *holds { "None" } else { "ConditionalCheckFailed" } });
        let reasons: Vec<Value> = hold.iter().map(reason).collect();
        let error = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
        return refused(400, json!({ "__type": error, "CancellationReasons": reasons }).to_string());
    }
    for item in puts.into_iter().map(|put| &put["Item"]) {
        let content = item.as_object().cloned().unwrap_or_default();
        // A transaction writes each item twice: once to prepare it and once to commit it.
        state.units.write += 2 * size(&content).div_ceil(1024);
        state.ledger.insert(key(item), content);
    }
    ok("{}")
}

/// The approximate size of an item as DynamoDB counts it: names and values, and a little more for each entry of a list
/// or map.
fn size(item: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Object(one) => one
                .iter()
                .map(|(kind, value)| match (kind.as_str(), value) {
                    ("S" | "N" | "B", Value::String(text)) => text.len(),
                    ("M", Value::Object(fields)) => 3 + fields.len() + size(fields),
                    ("L", Value::Array(values)) => 3 + values.len() + values.iter().map(of).sum::<usize>(),
                    _ => 1,
                })
                .sum(),
            _ => 1,
        }
    }
    item.iter().map(|(name, value)| name.len() + of(value)).sum()
}

/// Whether the stored item meets the condition of the request. Only the conditions that the ledger uses are supported.
fn holds(request: &Value, before: Option<&Map<String, Value>>) -> bool {
    match request["ConditionExpression"].as_str() {
        None => true,
        Some("attribute_not_exists(pk)") => before.is_none(),
        Some(_) => {
            before.is_some_and(|item| item.get("revision") == Some(&request["ExpressionAttributeValues"][":expected"]))
        }
    }
}
