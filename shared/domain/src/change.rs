//! A change of a branch or tag, and the event that carries it to another account.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::account::{AccountId, Arn, Malformed, string_newtype};

/// `source` of the relayed event; `aws.*` is reserved by EventBridge.
pub const RELAY_SOURCE: &str = "sekisho.relay";
/// `detail-type` of the relayed event.
pub const RELAY_DETAIL_TYPE: &str = "Source Change";
/// The version of the relayed event that this code writes and reads.
pub const RELAY_VERSION: u64 = 1;

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
        let fine = Arn::parse(&value).is_some_and(|arn| {
            arn.service == "codecommit"
                && !arn.region.is_empty()
                && arn.account.parse::<AccountId>().is_ok()
                && is_repository_name(arn.resource)
        });
        if fine { Ok(Self(value)) } else { Err(Malformed::new(&value, "the ARN of a CodeCommit repository")) }
    }
}
string_newtype!(RepositoryArn);

/// CodeCommit's rule: 1 to 100 letters, digits, `.`, `_` and `-`.
fn is_repository_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl RepositoryArn {
    /// The repository `name` of `account` in `region`.
    ///
    /// # Errors
    /// Where `name` is no repository name.
    pub fn new(partition: &str, region: &str, account: &AccountId, name: &str) -> Result<Self, Malformed> {
        Self::try_from(format!("arn:{partition}:codecommit:{region}:{account}:{name}"))
    }

    fn part(&self, index: usize) -> &str {
        // Six parts are what makes it a repository's ARN.
        self.0.splitn(6, ':').nth(index).unwrap_or_default()
    }

    /// The owner's account id.
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

/// What a reference is; routes tell the two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefKind {
    /// `refs/heads/…`: has a head that can be read.
    Branch,
    /// `refs/tags/…`: has no head to read with CodeCommit's API.
    Tag,
}

/// A full reference: `refs/heads/<branch>` or `refs/tags/<tag>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GitRef(String);

/// Bytes of a branch's or tag's name. DynamoDB takes 1,024 in a sort key, which with a pipeline's row also holds the
/// repository's ARN; 256 characters of four bytes would be 1,024 already.
const NAME_BYTES: usize = 800;

impl TryFrom<String> for GitRef {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let name = value.strip_prefix("refs/heads/").or_else(|| value.strip_prefix("refs/tags/"));
        if name.is_some_and(|name| name.len() > NAME_BYTES) {
            Err(Malformed::new(&value, "a reference that the ledger can hold: its name has at most 800 bytes of UTF-8"))
        // git forbids control characters in references; CodeCommit names have at most 256 characters.
        } else if name.is_some_and(|n| {
            !n.is_empty() && n.chars().count() <= 256 && !n.chars().any(|c| c.is_control() || c == ' ')
        }) {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "a full reference: `refs/heads/<branch>` or `refs/tags/<tag>`"))
        }
    }
}
string_newtype!(GitRef);

impl GitRef {
    /// The branch of that name.
    ///
    /// # Errors
    /// Where git would not take the name.
    pub fn branch(name: &str) -> Result<Self, Malformed> {
        Self::try_from(format!("refs/heads/{name}"))
    }

    /// Branch or tag.
    #[must_use]
    pub fn kind(&self) -> RefKind {
        if self.0.starts_with("refs/heads/") { RefKind::Branch } else { RefKind::Tag }
    }

    /// The name without its prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.strip_prefix("refs/heads/").or_else(|| self.0.strip_prefix("refs/tags/")).unwrap_or(&self.0)
    }
}

/// A reference now points at a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Branch or tag; must agree with `ref`.
    pub kind: RefKind,
    /// Which repository.
    pub repository: RepositoryArn,
    /// The full reference.
    #[serde(rename = "ref")]
    pub git_ref: GitRef,
    /// Where it points.
    pub commit: CommitId,
    /// Where it pointed when a change of it was last relayed.
    pub previous: Option<CommitId>,
    /// Grows with every change of this reference, so that receivers can tell late from new.
    pub sequence: u64,
    /// ARN of who changed it, where the event said so.
    pub actor: Option<String>,
    /// Id of the event that told of it; none when the reconcile found it.
    pub event: Option<String>,
}

impl Change {
    /// Hex SHA-256 of repository ARN, full reference, sequence and commit, joined by newlines.
    #[must_use]
    pub fn id(&self) -> String {
        let text = format!("{}\n{}\n{}\n{}", self.repository, self.git_ref, self.sequence, self.commit);
        hex::encode(Sha256::digest(text))
    }
}

/// The `detail` of the relayed event, version 1. Unknown fields are let through: optional ones come without a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceChange {
    /// Always [`RELAY_VERSION`].
    pub version: u64,
    /// [`Change::id`].
    pub id: String,
    /// The change.
    pub change: Change,
    /// The receiver's pipelines that the change concerns: narrows what the receiver's own routes allow, and never widens it.
    pub pipelines: Vec<String>,
}

/// Why a relayed event is not believed. Each names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Not an object, a missing field, or a field of the wrong shape.
    #[error("detail.{path}: {reason}")]
    Shape {
        /// Where, such as `change.commit`.
        path: String,
        /// What is wrong there.
        reason: String,
    },
    /// Written by a newer relay.
    #[error(
        "detail.version is {0}, and this function reads version {RELAY_VERSION}: deploy the current stack to this account"
    )]
    Version(String),
    /// The id is not the one of this change.
    #[error("detail.id does not belong to the change that it came with")]
    Id,
    /// `kind` and `ref` contradict each other.
    #[error("detail.change.kind does not fit detail.change.ref")]
    Kind,
}

impl SourceChange {
    /// The event for `change`, for these pipelines of its receiver.
    #[must_use]
    pub fn new(change: Change, pipelines: Vec<String>) -> Self {
        Self { version: RELAY_VERSION, id: change.id(), change, pipelines }
    }

    /// Reads and verifies a `detail`.
    ///
    /// # Errors
    /// [`Untrusted`] names what was wrong. The version is looked at first: the shape of another one is not ours to judge.
    pub fn parse(detail: &str) -> Result<Self, Untrusted> {
        #[derive(Deserialize)]
        struct Version {
            version: serde_json::Value,
        }
        let Version { version } = from_json(detail)?;
        if version.as_u64() != Some(RELAY_VERSION) {
            return Err(Untrusted::Version(version.to_string().chars().take(20).collect()));
        }
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

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Untrusted> {
    // Of an array the elements would be read as the fields in their order.
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
        // printf 'arn…:shop\nrefs/heads/main\n1795312345678\n0123…4567' | sha256sum
        assert_eq!(change().id(), "b17b6d76d1815fae1f6cca241002895b2bf8ba57b805e3554cff61a379e6edc7");
    }

    #[test]
    fn what_is_written_is_believed() {
        let event = SourceChange::new(change(), vec!["shop".into()]);
        let wire = serde_json::to_string(&event).unwrap();
        assert_eq!(SourceChange::parse(&wire).unwrap(), event);
        let json: serde_json::Value = serde_json::from_str(&wire).unwrap();
        assert_eq!(json["change"]["kind"], "branch");
        assert_eq!(json["change"]["previous"], serde_json::Value::Null);
    }

    #[test]
    fn an_unknown_field_is_no_error() {
        let mut json = serde_json::to_value(SourceChange::new(change(), vec![])).unwrap();
        json["later"] = serde_json::json!({"more": true});
        json["change"]["later"] = serde_json::json!(1);
        assert!(SourceChange::parse(&json.to_string()).is_ok());
    }

    #[test]
    fn what_does_not_hold_is_refused_by_name() {
        type Spoil = fn(&mut serde_json::Value);
        let good = serde_json::to_value(SourceChange::new(change(), vec![])).unwrap();
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
        for (spoil, says) in cases {
            let mut json = good.clone();
            spoil(&mut json);
            let error = SourceChange::parse(&json.to_string()).unwrap_err().to_string();
            assert!(error.contains(says), "{error} should name {says}");
        }
        assert!(SourceChange::parse("[]").is_err());
        assert!(SourceChange::parse("[1]").unwrap_err().to_string().contains("not an object"));
        assert!(SourceChange::parse("").is_err());
    }

    #[test]
    fn references_are_full() {
        assert_eq!("refs/heads/release/1".parse::<GitRef>().unwrap().name(), "release/1");
        assert_eq!("refs/tags/v1".parse::<GitRef>().unwrap().kind(), RefKind::Tag);
        for bad in ["main", "refs/heads/", "refs/notes/x", "refs/heads/a b", "refs/heads/a\nb"] {
            assert!(bad.parse::<GitRef>().is_err(), "{bad:?}");
        }
    }

    /// With the ARN in front such a name outgrew DynamoDB's sort key, and every retry failed alike.
    #[test]
    fn a_reference_of_more_bytes_than_a_row_can_be_named_by_is_refused_with_the_reason() {
        let long = format!("refs/heads/{}", "\u{20000}".repeat(256));
        assert!(long.parse::<GitRef>().unwrap_err().to_string().contains("800 bytes"));
        assert!(format!("refs/heads/{}", "\u{20000}".repeat(200)).parse::<GitRef>().is_ok());
        assert!(format!("refs/heads/{}", "a".repeat(256)).parse::<GitRef>().is_ok());
    }
}
