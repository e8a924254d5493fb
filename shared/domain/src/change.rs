//! A change of a branch, a git tag or an image tag, and the event that relays it to another account.

mod source;
mod written;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::source::{RefKind, RepositoryArn, Revision, SourceKind, SourceRef};
use crate::order::Order;
use crate::route::PipelineName;

/// The `source` of the relayed event. EventBridge reserves `aws.*` for AWS.
pub const RELAY_SOURCE: &str = "sekisho.relay";
/// The `detail-type` of the relayed event.
pub const RELAY_DETAIL_TYPE: &str = "Source Change";
/// The version of the relayed event that this code writes and reads.
const RELAY_VERSION: u64 = 1;

/// A change: the reference points at another commit or image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "written::Change", into = "written::Change")]
pub struct Change {
    /// The kind of the reference. It agrees with the reference, the repository and the revision, or the change cannot be
    /// read.
    pub kind: RefKind,
    /// The ARN of the repository.
    pub repository: RepositoryArn,
    /// The full reference.
    pub source_ref: SourceRef,
    /// The commit or image that the reference points at. As JSON, it is `commit` or `digest`.
    pub revision: Revision,
    /// The revision of the last relayed change of this reference, if there was one.
    pub previous: Option<Revision>,
    /// A number that grows with every change of this reference, so that a receiver recognizes a late event.
    pub sequence: u64,
    /// The ARN of the user or role that made the change, if the event names one.
    pub actor: Option<String>,
    /// The id of the event of CodeCommit or ECR. `None` if the reconcile found the change.
    pub event: Option<String>,
}

impl Change {
    /// The change's id: the hex SHA-256 of repository ARN, full reference, sequence and revision, joined by newlines.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(self.digest())
    }

    /// Whether this text is the change's id. Rows are compared with reports again and again, so the id is not made for
    /// that.
    #[must_use]
    pub fn has_id(&self, id: &str) -> bool {
        let mut own = [0; 64];
        hex::encode_to_slice(self.digest(), &mut own).is_ok() && own == *id.as_bytes()
    }

    fn digest(&self) -> [u8; 32] {
        let sequence = self.sequence.to_string();
        let parts = [self.repository.as_str(), self.source_ref.as_str(), &sequence, self.revision.as_str()];
        let mut digest = Sha256::new();
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                digest.update("\n");
            }
            digest.update(part);
        }
        digest.finalize().into()
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
        /// The path of the field, such as `change.revision`.
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
        if !event.change.has_id(&event.id) {
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
            source_ref: "refs/heads/main".parse().unwrap(),
            revision: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            previous: None,
            sequence: 1_795_312_345_678,
            actor: None,
            event: None,
        }
    }

    #[test]
    fn the_id_is_the_digest_of_four_lines() {
        // The digest was computed with `printf 'arn…:shop\nrefs/heads/main\n1795312345678\n0123…4567' | sha256sum`.
        let id = "b17b6d76d1815fae1f6cca241002895b2bf8ba57b805e3554cff61a379e6edc7";
        assert_eq!(change().id(), id);
        assert!(change().has_id(id) && !Change { sequence: 1, ..change() }.has_id(id));
        for other in ["", "b17b", &id.to_uppercase(), &format!("{id}0")] {
            assert!(!change().has_id(other), "{other}");
        }
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
    fn the_change_of_an_image_has_a_digest_instead_of_a_commit() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let image = Change {
            kind: RefKind::Image,
            repository: "arn:aws:ecr:ap-northeast-1:111111111111:repository/shop".parse().unwrap(),
            source_ref: "refs/images/v1".parse().unwrap(),
            revision: digest.parse().unwrap(),
            ..change()
        };
        let event = SourceChange::new(image, vec!["shop".into()]);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((&json["change"]["kind"], &json["change"]["digest"]), (&"image".into(), &digest.clone().into()));
        assert!(json["change"].get("commit").is_none());
        assert_eq!(SourceChange::parse(&json.to_string()).unwrap(), event);

        let commit = change().revision.to_string();
        for (field, value, named) in [
            ("digest", commit.as_str(), "`digest` contradicts `kind`"),
            ("previous", &commit, "`previous` contradicts `kind`"),
            ("repository", change().repository.as_str(), "`kind` contradicts `repository`"),
        ] {
            let mut wrong = json.clone();
            wrong["change"][field] = value.into();
            let error = SourceChange::parse(&wrong.to_string()).unwrap_err().to_string();
            assert!(error.contains("detail.change") && error.contains(named), "{error}");
        }
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
        let cases: [(Spoil, &str); 9] = [
            (|j| j["version"] = 2.into(), "version is 2"),
            (|j| j["version"] = "1".into(), "version is \"1\""),
            (|j| j["id"] = "00".into(), "detail.id"),
            (|j| j["change"]["sequence"] = 1.into(), "detail.id"),
            (|j| j["change"]["kind"] = "tag".into(), "`kind` contradicts `ref`"),
            (|j| drop(j["change"].as_object_mut().unwrap().remove("commit")), "`commit`"),
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
}
