//! CloudTrail as the tests see it: the management events, and how many a page has.

use serde_json::{Value, json};
use time::OffsetDateTime;

/// The events, in the order in which they were recorded.
#[derive(Debug, Default)]
pub struct Trail {
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    at: i64,
    username: String,
    detail: Value,
}

impl Trail {
    /// Records an event. `caller` is `user/<name>`, or `<role>/<session>` for the session of a role.
    pub fn record(&mut self, caller: &str, event: &str, at: OffsetDateTime) {
        let (first, name) = caller.split_once('/').unwrap();
        let account = "333333333333";
        let identity = if first == "user" {
            json!({"type": "IAMUser", "accountId": account, "userName": name})
        } else {
            let issuer = json!({"type": "Role", "accountId": account, "userName": first});
            json!({"type": "AssumedRole", "accountId": account, "sessionContext": {"sessionIssuer": issuer},
                "arn": format!("arn:aws:sts::{account}:assumed-role/{first}/{name}")})
        };
        let (service, action) = event.split_once(':').unwrap();
        let is_read = ["Describe", "Get", "List"].iter().any(|verb| action.starts_with(verb));
        let detail = json!({
            "eventSource": format!("{service}.amazonaws.com"), "eventName": action, "readOnly": is_read,
            "userIdentity": identity,
        });
        self.events.push(Event { at: at.unix_timestamp(), username: name.to_owned(), detail });
    }

    /// Answers `LookupEvents`: the newest events first, and as many on a page as were requested.
    pub fn look_up(&self, request: &Value) -> Value {
        let [wanted] = request["LookupAttributes"].as_array().unwrap().as_slice() else { panic!("one attribute") };
        let value = wanted["AttributeValue"].as_str().unwrap();
        let is_wanted = |event: &&Event| match wanted["AttributeKey"].as_str().unwrap() {
            "Username" => event.username == value,
            "ReadOnly" => event.detail["readOnly"].as_bool() == Some(value == "true"),
            other => panic!("unknown attribute: {other}"),
        };
        let time = request["StartTime"].as_i64().unwrap()..=request["EndTime"].as_i64().unwrap();
        let size = usize::try_from(request["MaxResults"].as_u64().unwrap()).unwrap();
        assert!(size <= 50);
        let begin: usize = request["NextToken"].as_str().map_or(0, |token| token.parse().unwrap());
        let found = self.events.iter().rev().filter(|event| time.contains(&event.at)).filter(is_wanted);
        let found: Vec<Value> =
            found.map(|event| json!({"CloudTrailEvent": event.detail.to_string()})).skip(begin).collect();
        let next = (found.len() > size).then(|| (begin + size).to_string());
        json!({"Events": found.iter().take(size).collect::<Vec<_>>(), "NextToken": next})
    }
}
