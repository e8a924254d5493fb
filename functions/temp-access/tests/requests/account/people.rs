//! An imitation of Identity Center and of the managed policy `sekisho-window`, whose versions reads show only after a
//! while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use temp_access::policy;
use tokio::time::Instant;

use super::BEGIN;
use super::iam::Answer;

pub const WINDOW: &str = "arn:aws:iam::333333333333:policy/sekisho-window";

const NOT_FOUND: (u16, &str) = (404, "NoSuchEntity");

/// The people and their policy.
#[derive(Debug)]
pub struct People {
    /// The user ids by e-mail address.
    pub users: BTreeMap<String, String>,
    versions: Vec<Version>,
    /// When each version was put in force.
    defaults: Vec<(Instant, u64)>,
    /// How long each read lags behind. Each read takes the next one; the first one follows the last one.
    pub lags: Vec<Duration>,
    reads: usize,
    /// The time at which the test began.
    begin: Instant,
}

#[derive(Debug)]
struct Version {
    number: u64,
    document: String,
    created: Instant,
    deleted: Option<Instant>,
}

impl Default for People {
    fn default() -> Self {
        let nothing = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*",
            "Condition": {"DateLessThan": {"aws:CurrentTime": "1970-01-01T00:00:00Z"}},
        }]});
        let begin = Instant::now();
        let first = Version { number: 1, document: nothing.to_string(), created: begin, deleted: None };
        Self {
            users: BTreeMap::new(),
            versions: vec![first],
            defaults: vec![(begin, 1)],
            lags: vec![Duration::ZERO],
            reads: 0,
            begin,
        }
    }
}

impl People {
    /// The text that is in force.
    pub fn document(&self) -> &str {
        let (_, number) = self.defaults.last().unwrap();
        &self.versions.iter().find(|version| version.number == *number).unwrap().document
    }

    /// Who has access by the text that is in force.
    pub fn let_in(&self) -> BTreeSet<String> {
        let now = BEGIN + (Instant::now() - self.begin);
        let document: Value = serde_json::from_str(self.document()).unwrap();
        let statements = document["Statement"].as_array().unwrap().iter();
        let live = statements.filter(|statement| {
            let times = &statement["Condition"];
            let time = |operator: &str| {
                let text = times.get(operator)?["aws:CurrentTime"].as_str()?;
                sekisho_domain::timestamp::parse_seconds(text)
            };
            let has_begun = time("DateGreaterThan").is_none_or(|start| start < now)
                && time("DateGreaterThanEquals").is_none_or(|start| start <= now);
            has_begun && time("DateLessThan").is_some_and(|end| now < end)
        });
        let users = live.flat_map(|statement| match &statement["Condition"]["StringEquals"]["identitystore:UserId"] {
            Value::String(user) => vec![user.clone()],
            Value::Array(users) => users.iter().map(|user| user.as_str().unwrap().to_owned()).collect(),
            _ => Vec::new(),
        });
        users.collect()
    }

    /// Puts a version in force by hand.
    pub fn put(&mut self, document: &str) {
        self.create(document).unwrap();
    }

    /// Sets an older version by hand.
    pub fn set_default(&mut self, number: u64) {
        self.defaults.push((Instant::now(), number));
    }

    /// Answers `GetUserId` with a status and JSON.
    pub fn find(&self, request: &Value) -> (u16, Value) {
        assert_eq!(request["IdentityStoreId"], "d-0123456789");
        let unique = &request["AlternateIdentifier"]["UniqueAttribute"];
        let (path, value) = (unique["AttributePath"].as_str().unwrap(), unique["AttributeValue"].as_str().unwrap());
        let user = match path {
            "emails.value" => self.users.get(value),
            "userName" => self.users.get(&format!("{value}@example.com")),
            other => panic!("unknown attribute: {other}"),
        };
        match user {
            Some(user) => (200, json!({"UserId": user, "IdentityStoreId": "d-0123456789"})),
            None => (400, json!({"__type": "ResourceNotFoundException", "Message": "USER not found"})),
        }
    }

    /// Answers a call about the policy; `None` if it is about something else.
    pub fn act(&mut self, fields: &BTreeMap<String, String>) -> Option<Answer> {
        assert_eq!(fields.get("PolicyArn")?, WINDOW);
        let number = fields.get("VersionId").map(|id| id.strip_prefix('v').unwrap().parse().unwrap());
        Some(match fields["Action"].as_str() {
            "GetPolicy" => {
                let at = self.read();
                let (_, number) = self.defaults.iter().rev().find(|(since, _)| *since <= at).unwrap();
                Ok(format!("<Policy><DefaultVersionId>v{number}</DefaultVersionId></Policy>"))
            }
            "GetPolicyVersion" => {
                let at = self.read();
                let shown = |version: &&Version| version.is_shown(at) && Some(version.number) == number;
                self.versions.iter().find(shown).map(|version| self.version(version, at)).ok_or(NOT_FOUND)
            }
            "ListPolicyVersions" => {
                let at = self.read();
                let shown = self.versions.iter().filter(|version| version.is_shown(at));
                let members: Vec<String> = shown.map(|version| self.version(version, at)).collect();
                let members = members.concat().replace("PolicyVersion>", "member>");
                Ok(format!("<Versions>{members}</Versions><IsTruncated>false</IsTruncated>"))
            }
            "CreatePolicyVersion" => {
                assert_eq!(fields["SetAsDefault"], "true");
                self.create(&fields["PolicyDocument"])
            }
            "DeletePolicyVersion" => {
                if self.defaults.last().map(|(_, number)| *number) == number {
                    return Some(Err((409, "DeleteConflict")));
                }
                let is_it = |version: &&mut Version| version.deleted.is_none() && Some(version.number) == number;
                match self.versions.iter_mut().find(is_it) {
                    Some(version) => {
                        version.deleted = Some(Instant::now());
                        Ok(String::new())
                    }
                    None => Err(NOT_FOUND),
                }
            }
            other => panic!("unknown call: {other}"),
        })
    }

    fn create(&mut self, document: &str) -> Answer {
        if self.versions.iter().filter(|version| version.deleted.is_none()).count() == 5
            || policy::size(document) > 6_144
        {
            return Err((409, "LimitExceeded"));
        }
        let (number, created) = (self.versions.last().unwrap().number + 1, Instant::now());
        self.versions.push(Version { number, document: document.to_owned(), created, deleted: None });
        self.defaults.push((created, number));
        Ok(format!(
            "<PolicyVersion><VersionId>v{number}</VersionId><IsDefaultVersion>true</IsDefaultVersion></PolicyVersion>"
        ))
    }

    /// The time whose state the next read shows.
    fn read(&mut self) -> Instant {
        let lag = self.lags[self.reads % self.lags.len()];
        self.reads += 1;
        Instant::now().checked_sub(lag).unwrap_or(self.begin).max(self.begin)
    }

    fn version(&self, version: &Version, at: Instant) -> String {
        let default = self.defaults.iter().rev().find(|(since, _)| *since <= at).map(|(_, number)| *number);
        let created = sekisho_domain::timestamp::seconds(BEGIN + (version.created - self.begin));
        let document = utf8_percent_encode(&version.document, NON_ALPHANUMERIC);
        format!(
            "<PolicyVersion><Document>{document}</Document><VersionId>v{}</VersionId>\
             <IsDefaultVersion>{}</IsDefaultVersion><CreateDate>{created}</CreateDate></PolicyVersion>",
            version.number,
            default == Some(version.number)
        )
    }
}

impl Version {
    fn is_shown(&self, at: Instant) -> bool {
        self.created <= at && self.deleted.is_none_or(|deleted| at < deleted)
    }
}
