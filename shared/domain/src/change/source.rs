//! Where a change comes from: the repository, the reference, and the revision that the reference points at.

use serde::{Deserialize, Serialize};

use crate::account::{AccountId, Arn, Malformed, string_newtype};

/// What a reference points at: a commit id of 40 hexadecimal digits in lower case, or the digest of an image, which is
/// `sha256:` and 64 of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(String);

impl TryFrom<String> for Revision {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let (digits, count) = value.strip_prefix(DIGEST).map_or((value.as_str(), 40), |digits| (digits, 64));
        if digits.len() == count && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(value))
        } else {
            let expected = "a commit id of 40 hexadecimal digits in lower case, or the digest of an image: `sha256:` \
                            and 64 of them";
            Err(Malformed::new(&value, expected))
        }
    }
}
string_newtype!(Revision);

/// What precedes the digits of a digest.
const DIGEST: &str = "sha256:";
/// The number of digits with which people recognize a commit or an image, as git and Docker show them.
const SHORT_COMMIT: usize = 8;
const SHORT_DIGEST: usize = 12;

impl Revision {
    /// The hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        self.0.strip_prefix(DIGEST).unwrap_or(&self.0)
    }

    /// The first digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        let count = if self.is_digest() { SHORT_DIGEST } else { SHORT_COMMIT };
        self.digits().get(..count).unwrap_or_default()
    }

    /// Whether this is the digest of an image, and not the id of a commit.
    #[must_use]
    pub fn is_digest(&self) -> bool {
        self.0.starts_with(DIGEST)
    }
}

/// The ARN of a repository that changes come from: `arn:<partition>:codecommit:<region>:<account>:<name>`, or
/// `arn:<partition>:ecr:<region>:<account>:repository/<name>` for a repository of images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryArn(String);

/// What precedes the name in the ARN of an ECR repository.
const ECR_PREFIX: &str = "repository/";

impl TryFrom<String> for RepositoryArn {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let is_valid = Arn::parse(&value).is_some_and(|arn| {
            let is_named = match arn.service {
                "codecommit" => is_codecommit_name(arn.resource),
                "ecr" => arn.resource.strip_prefix(ECR_PREFIX).is_some_and(is_ecr_name),
                _ => false,
            };
            is_named && !arn.region.is_empty() && arn.account.parse::<AccountId>().is_ok()
        });
        if is_valid {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "the ARN of a repository in CodeCommit or ECR"))
        }
    }
}
string_newtype!(RepositoryArn);

/// CodeCommit allows 1 to 100 letters, digits, `.`, `_` and `-`.
fn is_codecommit_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// ECR allows 2 to 256 characters: lower-case letters and digits, separated by `.`, `_`, `-` and `/`.
fn is_ecr_name(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_inside = |b: u8| is_letter(b) || matches!(b, b'.' | b'_' | b'-');
    let is_part = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.into_iter().all(|end| end.is_some_and(is_letter)) && part.bytes().all(is_inside)
    };
    (2..=256).contains(&name.len()) && name.split('/').all(is_part)
}

impl RepositoryArn {
    /// The CodeCommit repository `name` of `account` in `region`.
    ///
    /// # Errors
    /// If CodeCommit does not allow the name.
    pub fn codecommit(partition: &str, region: &str, account: &AccountId, name: &str) -> Result<Self, Malformed> {
        Self::try_from(format!("arn:{partition}:codecommit:{region}:{account}:{name}"))
    }

    /// The ECR repository `name` of `account` in `region`.
    ///
    /// # Errors
    /// If ECR does not allow the name.
    pub fn ecr(partition: &str, region: &str, account: &AccountId, name: &str) -> Result<Self, Malformed> {
        Self::try_from(format!("arn:{partition}:ecr:{region}:{account}:{ECR_PREFIX}{name}"))
    }

    fn part(&self, index: usize) -> &str {
        // A `RepositoryArn` always has six parts.
        self.0.splitn(6, ':').nth(index).unwrap_or_default()
    }

    /// The kind of source.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        if self.part(2) == "ecr" { SourceKind::Image } else { SourceKind::Git }
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

    /// The end of the ARN. It tells an ECR repository from a CodeCommit repository of the same name.
    #[must_use]
    pub fn resource(&self) -> &str {
        // No name has a colon.
        self.0.rsplit(':').next().unwrap_or_default()
    }

    /// The repository's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let resource = self.resource();
        resource.strip_prefix(ECR_PREFIX).unwrap_or(resource)
    }
}

/// The kind of a repository that changes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// A CodeCommit repository: its branches and tags point at commits.
    Git,
    /// An ECR repository: its tags point at the digests of images.
    Image,
}

/// The kind of a reference. A route has globs for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefKind {
    /// `refs/heads/…`. CodeCommit's API can read the commit of a branch.
    Branch,
    /// `refs/tags/…`. CodeCommit's API can read the commit of a tag, but it cannot list tags.
    Tag,
    /// `refs/images/…`, a tag of an ECR repository. ECR's API can read the digest of a tag, and lists tags.
    Image,
}

impl RefKind {
    /// The kind of the repositories that have such references.
    #[must_use]
    pub fn source(self) -> SourceKind {
        match self {
            Self::Branch | Self::Tag => SourceKind::Git,
            Self::Image => SourceKind::Image,
        }
    }

    /// What precedes the name in a full reference of this kind.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Branch => "refs/heads/",
            Self::Tag => "refs/tags/",
            Self::Image => "refs/images/",
        }
    }
}

/// A full reference: `refs/heads/<branch>`, `refs/tags/<git tag>` or `refs/images/<image tag>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceRef(String);

/// The longest name of a branch or tag, in bytes. The sort key of a pipeline's row holds the repository's ARN and the
/// reference, and DynamoDB allows 1,024 bytes for the key. A name with the 256 characters that CodeCommit allows could
/// fill the whole key by itself.
const NAME_BYTES: usize = 800;

impl TryFrom<String> for SourceRef {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let Some((kind, name)) = split(&value) else {
            let expected = "a full reference: write `refs/heads/<branch>`, `refs/tags/<git tag>` or \
                            `refs/images/<image tag>`";
            return Err(Malformed::new(&value, expected));
        };
        if name.len() > NAME_BYTES {
            let expected = "a reference that the ledger can hold: use a name with at most 800 bytes of UTF-8";
            return Err(Malformed::new(&value, expected));
        }
        let is_valid = match kind.source() {
            SourceKind::Git => is_git_name(name),
            SourceKind::Image => is_image_tag(name),
        };
        match kind.source() {
            _ if is_valid => Ok(Self(value)),
            SourceKind::Git => Err(Malformed::new(
                &value,
                "a reference of CodeCommit: its name has 1 to 256 characters without spaces and control characters",
            )),
            SourceKind::Image => Err(Malformed::new(
                &value,
                "the tag of an image: its name has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with a \
                 letter, a digit or `_`",
            )),
        }
    }
}
string_newtype!(SourceRef);

/// The kind of a full reference, and its name.
fn split(full: &str) -> Option<(RefKind, &str)> {
    [RefKind::Branch, RefKind::Tag, RefKind::Image]
        .into_iter()
        .find_map(|kind| full.strip_prefix(kind.prefix()).map(|name| (kind, name)))
}

/// git forbids control characters and spaces in references. CodeCommit allows at most 256 characters.
fn is_git_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= 256 && !name.chars().any(|c| c.is_control() || c == ' ')
}

/// The registry protocol's rule for tags: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_image_tag(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl SourceRef {
    /// The reference of this kind with this name.
    ///
    /// # Errors
    /// If git, CodeCommit or ECR does not allow the name, or the ledger cannot hold it.
    pub fn new(kind: RefKind, name: &str) -> Result<Self, Malformed> {
        Self::try_from(format!("{}{name}", kind.prefix()))
    }

    /// The reference of a branch.
    ///
    /// # Errors
    /// If git or CodeCommit does not allow the name, or the ledger cannot hold it.
    pub fn branch(name: &str) -> Result<Self, Malformed> {
        Self::new(RefKind::Branch, name)
    }

    /// The reference of a git tag.
    ///
    /// # Errors
    /// If git or CodeCommit does not allow the name, or the ledger cannot hold it.
    pub fn tag(name: &str) -> Result<Self, Malformed> {
        Self::new(RefKind::Tag, name)
    }

    /// The kind, according to the prefix.
    #[must_use]
    pub fn kind(&self) -> RefKind {
        // A `SourceRef` always has one of the prefixes.
        split(&self.0).map_or(RefKind::Branch, |(kind, _)| kind)
    }

    /// The name of the branch or tag, without the prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        split(&self.0).map_or(&self.0, |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_its_prefix_and_a_valid_name() {
        assert_eq!("refs/heads/release/1".parse::<SourceRef>().unwrap().name(), "release/1");
        assert_eq!("refs/tags/v1".parse::<SourceRef>().unwrap().kind(), RefKind::Tag);
        for malformed in ["main", "refs/heads/", "refs/notes/x", "refs/heads/a b", "refs/heads/a\nb"] {
            assert!(malformed.parse::<SourceRef>().is_err(), "{malformed:?}");
        }
    }

    /// With a longer name, the sort key would be too long for DynamoDB, so every retry would fail.
    #[test]
    fn a_reference_with_too_many_bytes_for_a_sort_key_is_refused() {
        let long = format!("refs/heads/{}", "\u{20000}".repeat(256));
        assert!(long.parse::<SourceRef>().unwrap_err().to_string().contains("800 bytes"));
        assert!(format!("refs/heads/{}", "\u{20000}".repeat(200)).parse::<SourceRef>().is_ok());
        assert!(format!("refs/heads/{}", "a".repeat(256)).parse::<SourceRef>().is_ok());
    }

    #[test]
    fn an_image_tag_follows_the_rule_of_registries() {
        let tag = "refs/images/v1.2.0".parse::<SourceRef>().unwrap();
        assert_eq!((tag.kind(), tag.name()), (RefKind::Image, "v1.2.0"));
        assert!(format!("refs/images/{}", "a".repeat(128)).parse::<SourceRef>().is_ok());
        for malformed in ["", ".a", "-a", "a/b", "a b", "sha256:ab", "é", &"a".repeat(129)] {
            assert!(format!("refs/images/{malformed}").parse::<SourceRef>().is_err(), "{malformed:?}");
        }
    }

    #[test]
    fn a_repository_is_one_of_codecommit_or_ecr() {
        let git: RepositoryArn = "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap();
        assert_eq!((git.kind(), git.name(), git.account()), (SourceKind::Git, "shop", "111111111111"));
        let image: RepositoryArn = "arn:aws:ecr:ap-northeast-1:111111111111:repository/team/shop-api".parse().unwrap();
        assert_eq!(
            (image.kind(), image.name(), image.region()),
            (SourceKind::Image, "team/shop-api", "ap-northeast-1")
        );
        for malformed in [
            "arn:aws:s3:ap-northeast-1:111111111111:shop",
            "arn:aws:codecommit:ap-northeast-1:111111111111:repository/shop",
            "arn:aws:ecr:ap-northeast-1:111111111111:shop",
            "arn:aws:ecr:ap-northeast-1:111111111111:repository/Shop",
            "arn:aws:ecr:ap-northeast-1:111111111111:repository/shop/",
            "arn:aws:ecr:ap-northeast-1:111111111111:repository/s",
            "arn:aws:ecr:ap-northeast-1:1111:repository/shop",
            "arn:aws:ecr::111111111111:repository/shop",
        ] {
            assert!(malformed.parse::<RepositoryArn>().is_err(), "{malformed}");
        }
    }

    #[test]
    fn a_revision_is_a_commit_or_a_digest() {
        assert!(!"0123456789abcdef0123456789abcdef01234567".parse::<Revision>().unwrap().is_digest());
        let digest = format!("sha256:{}", "ab".repeat(32)).parse::<Revision>().unwrap();
        assert_eq!((digest.is_digest(), digest.short()), (true, "abababababab"));
        assert_eq!("0123456789abcdef0123456789abcdef01234567".parse::<Revision>().unwrap().short(), "01234567");
        let digests = ["ab".repeat(32), format!("sha256:{}", "ab".repeat(20)), format!("sha256:{}", "AB".repeat(32))];
        for malformed in digests.iter().map(String::as_str).chain(["HEAD", "", "sha512:ab"]) {
            assert!(malformed.parse::<Revision>().is_err(), "{malformed}");
        }
    }
}
