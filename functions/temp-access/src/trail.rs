//! CloudTrail's management events: whose an event is, and what a principal did, counted by service.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::principal::{Kind, Principal};
use crate::session::WINDOW_ROLE;

/// A management event, with the fields that a summary needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    /// The service, such as `ec2.amazonaws.com`.
    #[serde(rename = "eventSource")]
    source: String,
    /// Whether the call only read. An event that does not say so counts as a write.
    #[serde(default)]
    read_only: bool,
    /// Why the call failed.
    #[serde(default)]
    error_code: Option<String>,
    /// Who called.
    #[serde(default)]
    user_identity: Option<Identity>,
}

/// Who called: an IAM user, or the session of a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    arn: String,
    #[serde(default)]
    account_id: String,
    #[serde(default)]
    user_name: String,
    #[serde(default)]
    session_context: Option<SessionContext>,
    /// The person of Identity Center. AWS does not promise that each session has it.
    #[serde(default)]
    on_behalf_of: Option<OnBehalfOf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionContext {
    /// The role of the session.
    #[serde(default)]
    session_issuer: Option<Issuer>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Issuer {
    account_id: String,
    user_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnBehalfOf {
    user_id: String,
}

impl Event {
    /// Whether the principal of this account made the call. The name of a role's session is chosen by whoever opens the
    /// session, so the session's issuer tells whose the session is.
    pub(crate) fn belongs_to(&self, principal: &Principal, account: &str) -> bool {
        let Some(identity) = &self.user_identity else { return false };
        let issuer = identity.session_context.as_ref().and_then(|context| context.session_issuer.as_ref());
        let issuer = issuer.filter(|issuer| identity.kind == "AssumedRole" && issuer.account_id == account);
        match principal.kind() {
            Kind::User => {
                identity.kind == "IAMUser" && identity.account_id == account && identity.user_name == principal.name()
            }
            Kind::Role => issuer.is_some_and(|issuer| issuer.user_name == principal.name()),
            Kind::Person => {
                issuer.is_some_and(|issuer| issuer.user_name.starts_with(WINDOW_ROLE))
                    && match &identity.on_behalf_of {
                        Some(person) => person.user_id == principal.key(),
                        None => identity.session_name().eq_ignore_ascii_case(principal.name()),
                    }
            }
        }
    }
}

impl Identity {
    fn session_name(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or_default()
    }
}

/// What a principal did, as far as CloudTrail shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    /// The calls to each service, such as `ec2`.
    pub(crate) services: BTreeMap<String, Calls>,
    /// How many of the calls failed, for example because they were denied.
    pub(crate) failed: usize,
    /// Whether CloudTrail has older events that were not read.
    pub(crate) is_cut: bool,
}

/// The calls to one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) reads: usize,
    pub(crate) writes: usize,
}

impl Activity {
    /// Counts an event.
    pub(crate) fn add(&mut self, event: &Event) {
        let service = event.source.strip_suffix(".amazonaws.com").unwrap_or(&event.source);
        let calls = self.services.entry(service.to_owned()).or_default();
        if event.read_only {
            calls.reads += 1;
        } else {
            calls.writes += 1;
        }
        self.failed += usize::from(event.error_code.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ACCOUNT: &str = "333333333333";

    fn event(identity: &Value) -> Event {
        let event = json!({"eventSource": "ec2.amazonaws.com", "userIdentity": identity});
        serde_json::from_value(event).unwrap()
    }

    fn session(role: &str, name: &str, account: &str) -> Value {
        json!({
            "type": "AssumedRole", "accountId": account,
            "arn": format!("arn:aws:sts::{account}:assumed-role/{role}/{name}"),
            "sessionContext": {"sessionIssuer": {"type": "Role", "accountId": account, "userName": role}},
        })
    }

    #[test]
    fn an_event_belongs_to_the_user_or_to_the_issuer_of_the_session() {
        let user = Principal::new(Kind::User, "prd-user").unwrap();
        let role = Principal::new(Kind::Role, "ops").unwrap();
        let named = |name: &str, account: &str| json!({"type": "IAMUser", "accountId": account, "userName": name});
        let cases = [
            (named("prd-user", ACCOUNT), true, false),
            (named("prd-user", "444444444444"), false, false),
            (named("prd-user-2", ACCOUNT), false, false),
            (named("ops", ACCOUNT), false, false),
            (session("ops", "prd-user", ACCOUNT), false, true),
            (session("prd-user", "ops", ACCOUNT), false, false),
            (session("ops", "night", "444444444444"), false, false),
            (json!({"type": "AWSService", "invokedBy": "ops"}), false, false),
            (json!({"type": "Root", "accountId": ACCOUNT, "userName": "prd-user"}), false, false),
            (Value::Null, false, false),
        ];
        for (identity, of_user, of_role) in cases {
            let event = event(&identity);
            assert_eq!(event.belongs_to(&user, ACCOUNT), of_user, "{identity}");
            assert_eq!(event.belongs_to(&role, ACCOUNT), of_role, "{identity}");
        }
    }

    #[test]
    fn an_event_belongs_to_the_person_on_whose_behalf_or_under_whose_name_the_session_is() {
        let person = Principal::person("6-1", Some("hana@example.com"));
        let of_window = format!("{WINDOW_ROLE}0123456789abcdef");
        let known = |role: &str, name: &str, id: &str| {
            let mut identity = session(role, name, ACCOUNT);
            identity["onBehalfOf"] =
                json!({"userId": id, "identityStoreArn": "arn:aws:identitystore::1:identitystore/d-1"});
            identity
        };
        let cases = [
            (known(&of_window, "hana", "6-1"), true),
            (known(&of_window, "hana@example.com", "6-2"), false),
            (session(&of_window, "Hana@example.com", ACCOUNT), true),
            (session(&of_window, "hana", ACCOUNT), false),
            (session("ops", "hana@example.com", ACCOUNT), false),
            (known("AWSReservedSSO_admin_0123456789abcdef", "hana@example.com", "6-1"), false),
        ];
        for (identity, belongs) in cases {
            assert_eq!(event(&identity).belongs_to(&person, ACCOUNT), belongs, "{identity}");
        }
    }

    #[test]
    fn calls_are_counted_by_service_and_by_read_or_write() {
        let mut activity = Activity::default();
        for (source, read_only, error) in [
            ("ec2.amazonaws.com", json!(true), Value::Null),
            ("ec2.amazonaws.com", json!(false), json!("UnauthorizedOperation")),
            ("ec2.amazonaws.com", Value::Null, Value::Null),
            ("elsewhere.example", json!(true), Value::Null),
        ] {
            let mut event = json!({"eventSource": source, "errorCode": error});
            if !read_only.is_null() {
                event["readOnly"] = read_only;
            }
            activity.add(&serde_json::from_value(event).unwrap());
        }
        assert_eq!(activity.services["ec2"], Calls { reads: 1, writes: 2 });
        assert_eq!(activity.services["elsewhere.example"], Calls { reads: 1, writes: 0 });
        assert_eq!((activity.services.len(), activity.failed), (2, 1));
    }
}
