//! IAM and SNS as the tests see them: principals, policies, calls, delays and faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use temp_access::principal::Kind;
use time::OffsetDateTime;

use super::BOUNDARY;
use super::iam::{Answer, Iam, Principal};
use super::people::People;
use super::trail::Trail;

/// A fault of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is answered with this code and status, and not carried out.
    Code(&'static str, u16),
    /// The call is neither answered nor carried out.
    Lost,
    /// The call is carried out, but never answered.
    DoneUnanswered,
    /// The call is never answered, and carried out five seconds later.
    DoneLate,
    /// The call returns the state before the last write.
    Stale,
}

/// An open session of Session Manager.
#[derive(Debug, Clone)]
struct Session {
    id: String,
    owner: String,
    /// When the session began, in seconds since 1970.
    start: i64,
}

/// IAM, SNS and Session Manager of the account.
#[derive(Debug, Clone, Default)]
pub struct Cloud(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    iam: Iam,
    /// The account, if it is another one than that of most tests.
    account: Option<&'static str>,
    /// Identity Center, and the policy of its people.
    people: People,
    /// The names of all calls.
    calls: Vec<String>,
    /// The messages of all notices.
    published: Vec<String>,
    /// The open sessions of Session Manager.
    sessions: Vec<Session>,
    /// The events of CloudTrail.
    trail: Trail,
    /// The name of a call, the number of times that it still fails, and the fault.
    faults: Vec<(&'static str, usize, Fault)>,
    /// How many milliseconds the calls take. Each call takes the next delay; the first delay follows the last one.
    delays: Vec<u64>,
}

impl Cloud {
    /// An account with the user `prd-user` and the role `ops`, which have the tag and the boundary, and the user
    /// `stranger`, who has neither.
    pub fn new() -> Self {
        let cloud = Self::default();
        cloud.add(Kind::User, "prd-user");
        cloud.add(Kind::Role, "ops");
        cloud.change(Kind::User, "stranger", |_| {});
        cloud
    }

    /// Makes this the account with this id.
    pub fn set_account(&self, id: &'static str) {
        self.state().account = Some(id);
    }

    /// Adds a principal with tag and boundary.
    pub fn add(&self, kind: Kind, name: &str) {
        self.change(kind, name, |principal| {
            principal.tag = Some("grantable");
            principal.boundary = Some(BOUNDARY.to_owned());
        });
    }

    pub fn set_tag(&self, kind: Kind, name: &str, tag: Option<&'static str>) {
        self.change(kind, name, |principal| principal.tag = tag);
    }

    pub fn set_boundary(&self, kind: Kind, name: &str, boundary: Option<&str>) {
        self.change(kind, name, |principal| principal.boundary = boundary.map(str::to_owned));
    }

    pub fn set_path(&self, kind: Kind, name: &str, path: &str) {
        self.change(kind, name, |principal| path.clone_into(&mut principal.path));
    }

    /// Puts a policy by hand.
    pub fn put(&self, kind: Kind, name: &str, policy: &str, document: &str) {
        self.change(kind, name, |principal| {
            principal.policies.insert(policy.to_owned(), document.to_owned());
        });
    }

    /// Deletes a policy by hand.
    pub fn remove(&self, kind: Kind, name: &str, policy: &str) {
        self.change(kind, name, |principal| {
            principal.policies.remove(policy);
        });
    }

    /// The policies of a principal.
    pub fn policies(&self, kind: Kind, name: &str) -> BTreeMap<String, String> {
        self.state().iam.principal(kind, name).map(|principal| principal.policies.clone()).unwrap_or_default()
    }

    /// The names of a principal's policies.
    pub fn policy_names(&self, kind: Kind, name: &str) -> Vec<String> {
        self.policies(kind, name).into_keys().collect()
    }

    /// The end of access in a principal's policy.
    pub fn end(&self, kind: Kind, name: &str, policy: &str) -> Option<String> {
        let document: Value = serde_json::from_str(self.policies(kind, name).get(policy)?).unwrap();
        let limit = &document["Statement"][0]["Condition"]["DateLessThan"]["aws:CurrentTime"];
        Some(limit.as_str().unwrap().to_owned())
    }

    /// The names of all calls so far.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Whether any call so far changed IAM.
    pub fn wrote(&self) -> bool {
        self.calls().iter().any(|call| ["Put", "Delete", "Create"].iter().any(|writes| call.starts_with(writes)))
    }

    /// Looks at the people of Identity Center, or changes them.
    pub fn people<T>(&self, look: impl FnOnce(&mut People) -> T) -> T {
        look(&mut self.state().people)
    }

    /// The messages of all notices so far.
    pub fn published(&self) -> Vec<String> {
        self.state().published.clone()
    }

    /// Lets the next `times` calls of this name fail.
    pub fn fail(&self, call: &'static str, times: usize, fault: Fault) {
        self.state().faults.push((call, times, fault));
    }

    /// From now on, no call fails any more.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Sets how many users and roles one page of IAM's list has.
    pub fn set_page_size(&self, size: usize) {
        self.state().iam.page_size = Some(size);
    }

    /// Sets how many milliseconds the calls take. Each call takes the next delay; the first delay follows the last one.
    pub fn set_delays(&self, delays: Vec<u64>) {
        self.state().delays = delays;
    }

    /// Records a call. Returns the call's fault and its delay in milliseconds.
    pub fn begin_call(&self, action: &str) -> (Option<Fault>, u64) {
        let mut state = self.state();
        let turn = state.calls.len();
        state.calls.push(action.to_owned());
        let due = state.faults.iter_mut().find(|(call, times, _)| *call == action && *times > 0);
        let fault = due.map(|(_, times, fault)| {
            *times -= 1;
            *fault
        });
        let delay = if state.delays.is_empty() { 0 } else { state.delays[turn % state.delays.len()] };
        (fault, delay)
    }

    /// Carries out a call with these form fields. If `outdated` is set, the answer shows the state before the last
    /// write.
    pub fn act(&self, fields: &BTreeMap<String, String>, outdated: bool) -> Answer {
        let mut state = self.state();
        if fields["Action"] == "Publish" {
            // A channel may get the notices of several accounts, so each names its own.
            let message = &fields["Message"];
            let account = format!("account {}", state.account.unwrap_or("333333333333"));
            assert!(message.contains(&account), "the notice does not say that it is about {account}: {message}");
            state.published.push(message.clone());
            return Ok("<MessageId>m</MessageId>".to_owned());
        }
        if let Some(answer) = state.people.act(fields) {
            return answer;
        }
        state.iam.act(fields, outdated)
    }

    /// Opens a session. `owner` is the end of the ARN of whoever opens it.
    pub fn open_session(&self, id: &str, owner: &str, start: OffsetDateTime) {
        let service = if owner.starts_with("user/") { "iam" } else { "sts" };
        let owner = format!("arn:aws:{service}::333333333333:{owner}");
        self.state().sessions.push(Session { id: id.to_owned(), owner, start: start.unix_timestamp() });
    }

    /// The ids of the open sessions.
    pub fn open_sessions(&self) -> Vec<String> {
        self.state().sessions.iter().map(|session| session.id.clone()).collect()
    }

    /// Records an event of CloudTrail.
    pub fn record(&self, caller: &str, event: &str, at: OffsetDateTime) {
        self.state().trail.record(caller, event, at);
    }

    /// Carries out a call to Session Manager or to CloudTrail. Each page of sessions has one.
    pub fn act_on_sessions(&self, action: &str, request: &Value) -> Value {
        let mut state = self.state();
        match action {
            "DescribeSessions" => {
                assert_eq!(request["State"], "Active");
                let begin: usize = request["NextToken"].as_str().map_or(0, |token| token.parse().unwrap());
                let shown: Vec<Value> = state.sessions.iter().skip(begin).take(1).map(shown).collect();
                let next = (begin + 1 < state.sessions.len()).then(|| (begin + 1).to_string());
                json!({"Sessions": shown, "NextToken": next})
            }
            "TerminateSession" => {
                let id = request["SessionId"].as_str().unwrap();
                state.sessions.retain(|session| session.id != id);
                json!({"SessionId": id})
            }
            "LookupEvents" => state.trail.look_up(request),
            other => panic!("unknown call: {other}"),
        }
    }

    fn change(&self, kind: Kind, name: &str, change: impl FnOnce(&mut Principal)) {
        change(self.state().iam.principal_or_new(kind, name));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn shown(session: &Session) -> Value {
    json!({"SessionId": session.id, "Owner": session.owner, "StartDate": session.start, "Status": "Connected"})
}
