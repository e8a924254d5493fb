//! A change of a branch or tag, and the event that relays it to another account.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::account::{AccountId, Arn, Malformed, string_newtype};
use crate::order::Order;
use crate::route::PipelineName;

/// The `source` of the relayed event. EventBridge reserves `aws.*` for AWS.
pub const RELAY_SOURCE: &str = "sekisho.relay";
/// The `detail-type` of the relayed event.
pub const RELAY_DETAIL_TYPE: &str = "Source Change";
/// The version of the relayed event that this code writes and reads.
const RELAY_VERSION: u64 = 1;

/// A commit id: 40 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl TryFrom<String> for CommitId {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        if value.len() == 40 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "a commit id: 40 hexadecimal digits in lower case"))
        }
    }
}
string_newtype!(CommitId);

/// The ARN of a CodeCommit repository: `arn:<partition>:codecommit:<region>:<account>:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryArn(String);

impl TryFrom<String> for RepositoryArn {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let is_valid = Arn::parse(&value).is_some_and(|arn| {
            arn.service == "codecommit"
                && !arn.region.is_empty()
                && arn.account.parse::<AccountId>().is_ok()
                && is_repository_name(arn.resource)
        });
        if is_valid { Ok(Self(value)) } else { Err(Malformed::new(&value, "the ARN of a CodeCommit repository")) }
    }
}
string_newtype!(RepositoryArn);

/// CodeCommit allows 1 to 100 letters, digits, `.`, `_` and `-`.
fn is_repository_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl RepositoryArn {
    /// The repository `name` of `account` in `region`.
    ///
    /// # Errors
    /// If CodeCommit does not allow the name.
    pub fn new(partition: &str, region: &str, account: &AccountId, name: &str) -> Result<Self, Malformed> {
        Self::try_from(format!("arn:{partition}:codecommit:{region}:{account}:{name}"))
    }

    fn part(&self, index: usize) -> &str {
        // A `RepositoryArn` always has six parts.
        self.0.splitn(6, ':').nth(index).unwrap_or_default()
    }

    /// The region of the repository.
    #[must_use]
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// The id of the account that owns the repository.
    #[must_use]
    pub fn account(&self) -> &str {
        self.part(4)
    }

    /// The repository's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.part(5)
    }
}

/// The kind of a reference. A route has globs for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefKind {
    /// `refs/heads/…`. CodeCommit's API can read the commit of a branch.
    Branch,
    /// `refs/tags/…`. CodeCommit's API can read the commit of a tag, but it cannot list tags.
    Tag,
}

/// A full reference: `refs/heads/<branch>` or `refs/tags/<tag>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GitRef(String);

/// The longest name of a branch or tag, in bytes. The sort key of a pipeline's row holds the repository's ARN and the
/// reference, and DynamoDB allows 1,024 bytes for the key. A name with the 256 characters that CodeCommit allows could
/// fill the whole key by itself.
const NAME_BYTES: usize = 800;

impl TryFrom<String> for GitRef {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let name = value.strip_prefix("refs/heads/").or_else(|| value.strip_prefix("refs/tags/"));
        if name.is_some_and(|name| name.len() > NAME_BYTES) {
            Err(Malformed::new(
                &value,
                "a reference that the ledger can hold: use a name with at most 800 bytes of UTF-8",
            ))
        // git forbids control characters and spaces in references. CodeCommit allows at most 256 characters.
        } else if name.is_some_and(|n| {
            !n.is_empty() && n.chars().count() <= 256 && !n.chars().any(|c| c.is_control() || c == ' ')
        }) {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "a full reference: write `refs/heads/<branch>` or `refs/tags/<tag>`"))
        }
    }
}
string_newtype!(GitRef);

impl GitRef {
    /// The reference of a branch.
    ///
    /// # Errors
    /// If git or CodeCommit does not allow the name, or the ledger cannot hold it.
    pub fn branch(name: &str) -> Result<Self, Malformed> {
        Self::try_from(format!("refs/heads/{name}"))
    }

    /// The reference of a tag.
    ///
    /// # Errors
    /// If git or CodeCommit does not allow the name, or the ledger cannot hold it.
    pub fn tag(name: &str) -> Result<Self, Malformed> {
        Self::try_from(format!("refs/tags/{name}"))
    }

    /// The kind, according to the prefix.
    #[must_use]
    pub fn kind(&self) -> RefKind {
        if self.0.starts_with("refs/heads/") { RefKind::Branch } else { RefKind::Tag }
    }

    /// The name of the branch or tag, without the prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.strip_prefix("refs/heads/").or_else(|| self.0.strip_prefix("refs/tags/")).unwrap_or(&self.0)
    }
}

/// A change: the reference points at a new commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The kind of the reference. It must agree with `ref`.
    pub kind: RefKind,
    /// The ARN of the repository.
    pub repository: RepositoryArn,
    /// The full reference.
    #[serde(rename = "ref")]
    pub git_ref: GitRef,
    /// The commit that the reference points at.
    pub commit: CommitId,
    /// The commit of the last relayed change of this reference, if there was one.
    pub previous: Option<CommitId>,
    /// A number that grows with every change of this reference, so that a receiver recognizes a late event.
    pub sequence: u64,
    /// The ARN of the user or role that made the change, if the event names one.
    pub actor: Option<String>,
    /// The id of CodeCommit's event. `None` if the reconcile found the change.
    pub event: Option<String>,
}

impl Change {
    /// The change's id: the hex SHA-256 of repository ARN, full reference, sequence and commit, joined by newlines.
    #[must_use]
    pub fn id(&self) -> String {
        let text = format!("{}\n{}\n{}\n{}", self.repository, self.git_ref, self.sequence, self.commit);
        hex::encode(Sha256::digest(text))
    }
}

/// The `detail` of the relayed event, version 1. Unknown fields are ignored, because a new optional field does not make
/// a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceChange {
    /// The version of the format, always 1.
    pub version: u64,
    /// The value of [`Change::id`].
    pub id: String,
    /// The change.
    pub change: Change,
    /// The names of the receiver's pipelines that the change concerns. The list can only narrow the selection that the
    /// receiver's own routes make.
    pub pipelines: Vec<String>,
    /// The order to each pipeline, as JSON. [`SourceChange::order`] parses an order, so that a malformed order to one
    /// pipeline does not make the event unreadable for the other pipelines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub orders: BTreeMap<String, Value>,
}

/// Why a relayed event is not trusted. The message names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// The detail is not an object, or a field is missing or malformed.
    #[error("detail.{path}: {reason}")]
    Shape {
        /// The path of the field, such as `change.commit`.
        path: String,
        /// What is wrong with the field.
        reason: String,
    },
    /// The version is not 1: another version of event-relay wrote the event.
    #[error(
        "detail.version is {found}, and this function reads only version {known}: \
         deploy the current stack to this account"
    )]
    Version {
        /// The version in the event.
        found: String,
        /// The version that this code reads.
        known: u64,
    },
    /// The id was not computed from this change.
    #[error("detail.id does not belong to detail.change")]
    Id,
    /// `kind` and `ref` contradict each other.
    #[error("detail.change.kind contradicts detail.change.ref")]
    Kind,
}

impl SourceChange {
    /// The event about `change`, for these pipelines of the receiver.
    #[must_use]
    pub fn new(change: Change, pipelines: Vec<String>) -> Self {
        Self { version: RELAY_VERSION, id: change.id(), change, pipelines, orders: BTreeMap::new() }
    }

    /// The event that gives these orders to the pipelines of one account and region.
    #[must_use]
    pub fn with_orders(change: Change, orders: &BTreeMap<PipelineName, Order>) -> Self {
        let pipelines = orders.keys().map(ToString::to_string).collect();
        // An order has only a number and a name, so the conversion cannot fail.
        let value = |order| serde_json::to_value(order).unwrap_or_default();
        let orders = orders.iter().map(|(pipeline, order)| (pipeline.to_string(), value(order))).collect();
        Self { orders, ..Self::new(change, pipelines) }
    }

    /// The order to a pipeline. An event of a version without orders counts as an order of kind `deploy` whose number
    /// is the change's sequence.
    ///
    /// # Errors
    /// The order is malformed, or its kind is unknown. The text names the field.
    pub fn order(&self, pipeline: &PipelineName) -> Result<Order, String> {
        match self.orders.get(pipeline.as_str()) {
            None => Ok(Order::deploy(self.change.sequence)),
            Some(order) => Order::parse(order).map_err(|reason| format!("detail.orders.{pipeline}.{reason}")),
        }
    }

    /// Parses and verifies a `detail`.
    ///
    /// # Errors
    /// [`Untrusted`] names the field. The version is checked first, because another version may have another shape.
    pub fn parse(detail: &str) -> Result<Self, Untrusted> {
        read_version(detail, RELAY_VERSION)?;
        let event: Self = from_json(detail)?;
        if event.change.kind != event.change.git_ref.kind() {
            return Err(Untrusted::Kind);
        }
        if event.id != event.change.id() {
            return Err(Untrusted::Id);
        }
        Ok(event)
    }
}

/// Checks the version of a `detail` before its other fields, because another version may have other fields.
pub(crate) fn read_version(detail: &str, known: u64) -> Result<(), Untrusted> {
    #[derive(Deserialize)]
    struct Version {
        version: Value,
    }
    let Version { version } = from_json(detail)?;
    if version.as_u64() == Some(known) {
        return Ok(());
    }
    Err(Untrusted::Version { found: version.to_string().chars().take(20).collect(), known })
}

pub(crate) fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Untrusted> {
    // Only objects are accepted. serde would also accept an array, and assign its elements to the fields in order.
    if !text.trim_start().starts_with('{') {
        return Err(Untrusted::Shape { path: ".".to_owned(), reason: "not an object".to_owned() });
    }
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|e| Untrusted::Shape { path: e.path().to_string(), reason: e.into_inner().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> Change {
        Change {
            kind: RefKind::Branch,
            repository: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap(),
            git_ref: "refs/heads/main".parse().unwrap(),
            commit: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            previous: None,
            sequence: 1_795_312_345_678,
            actor: None,
            event: None,
        }
    }

    #[test]
    fn the_id_is_the_digest_of_four_lines() {
        // The digest was computed with `printf 'arn…:shop\nrefs/heads/main\n1795312345678\n0123…4567' | sha256sum`.
        assert_eq!(change().id(), "b17b6d76d1815fae1f6cca241002895b2bf8ba57b805e3554cff61a379e6edc7");
    }

    #[test]
    fn a_written_event_can_be_read() {
        let event = SourceChange::new(change(), vec!["shop".into()]);
        let wire = serde_json::to_string(&event).unwrap();
        assert_eq!(SourceChange::parse(&wire).unwrap(), event);
        let json: serde_json::Value = serde_json::from_str(&wire).unwrap();
        assert_eq!(json["change"]["kind"], "branch");
        assert_eq!(json["change"]["previous"], serde_json::Value::Null);
    }

    #[test]
    fn each_pipeline_has_its_own_order() {
        let pipeline = |name: &str| name.parse::<PipelineName>().unwrap();
        let orders = BTreeMap::from([(pipeline("api"), Order::deploy(9)), (pipeline("web"), Order::deploy(8))]);
        let mut event = SourceChange::with_orders(change(), &orders);
        assert_eq!(event.pipelines, ["api", "web"]);
        event.orders.insert("odd".to_owned(), serde_json::json!({"number": 1, "kind": "retreat"}));
        let event = SourceChange::parse(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(event.order(&pipeline("api")), Ok(Order::deploy(9)));
        assert_eq!(event.order(&pipeline("other")), Ok(Order::deploy(change().sequence)));
        assert!(event.order(&pipeline("odd")).unwrap_err().starts_with("detail.orders.odd.kind"));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let mut json = serde_json::to_value(SourceChange::new(change(), vec![])).unwrap();
        json["later"] = serde_json::json!({"more": true});
        json["change"]["later"] = serde_json::json!(1);
        assert!(SourceChange::parse(&json.to_string()).is_ok());
    }

    #[test]
    fn a_wrong_field_is_refused_and_named() {
        type Spoil = fn(&mut serde_json::Value);
        let valid = serde_json::to_value(SourceChange::new(change(), vec![])).unwrap();
        let cases: [(Spoil, &str); 8] = [
            (|j| j["version"] = 2.into(), "version is 2"),
            (|j| j["version"] = "1".into(), "version is \"1\""),
            (|j| j["id"] = "00".into(), "detail.id"),
            (|j| j["change"]["sequence"] = 1.into(), "detail.id"),
            (|j| j["change"]["kind"] = "tag".into(), "kind"),
            (|j| j["change"]["commit"] = "HEAD".into(), "detail.change.commit"),
            (|j| j["change"]["ref"] = "main".into(), "detail.change.ref"),
            (|j| drop(j["change"].as_object_mut().unwrap().remove("repository")), "repository"),
        ];
        for (spoil, name) in cases {
            let mut json = valid.clone();
            spoil(&mut json);
            let error = SourceChange::parse(&json.to_string()).unwrap_err().to_string();
            assert!(error.contains(name), "{error} should name {name}");
        }
        assert!(SourceChange::parse("[]").is_err());
        assert!(SourceChange::parse("[1]").unwrap_err().to_string().contains("not an object"));
        assert!(SourceChange::parse("").is_err());
    }

    #[test]
    fn a_reference_has_its_prefix_and_a_valid_name() {
        assert_eq!("refs/heads/release/1".parse::<GitRef>().unwrap().name(), "release/1");
        assert_eq!("refs/tags/v1".parse::<GitRef>().unwrap().kind(), RefKind::Tag);
        for malformed in ["main", "refs/heads/", "refs/notes/x", "refs/heads/a b", "refs/heads/a\nb"] {
            assert!(malformed.parse::<GitRef>().is_err(), "{malformed:?}");
        }
    }

    /// With a longer name, the sort key would be too long for DynamoDB, so every retry would fail.
    #[test]
    fn a_reference_with_too_many_bytes_for_a_sort_key_is_refused() {
        let long = format!("refs/heads/{}", "\u{20000}".repeat(256));
        assert!(long.parse::<GitRef>().unwrap_err().to_string().contains("800 bytes"));
        assert!(format!("refs/heads/{}", "\u{20000}".repeat(200)).parse::<GitRef>().is_ok());
        assert!(format!("refs/heads/{}", "a".repeat(256)).parse::<GitRef>().is_ok());
    }
}
