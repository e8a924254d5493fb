//! The pipelines that routes lead to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{AccountId, Malformed, Region, string_newtype};

/// The name of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PipelineName(String);

impl TryFrom<String> for PipelineName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        codepipeline_name(value, "the name of a pipeline: 1 to 100 letters, digits, `.`, `@`, `-` or `_`").map(Self)
    }
}
string_newtype!(PipelineName);

/// The name of an action in a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ActionName(String);

impl TryFrom<String> for ActionName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        codepipeline_name(value, "the name of an action: 1 to 100 letters, digits, `.`, `@`, `-` or `_`").map(Self)
    }
}
string_newtype!(ActionName);

/// Checks CodePipeline's rule for names, which is the same for pipelines and actions.
fn codepipeline_name(value: String, expected: &'static str) -> Result<String, Malformed> {
    let is_valid = (1..=100).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'@' | b'-' | b'_'));
    if is_valid { Ok(value) } else { Err(Malformed::new(&value, expected)) }
}

/// A pipeline that a route starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The account that the pipeline is in.
    pub account: AccountId,
    /// The region that the pipeline is in.
    pub region: Region,
    /// The pipeline's name.
    pub pipeline: PipelineName,
    /// The pipeline's source action, which is pinned to the change's commit.
    pub action: ActionName,
    /// The variables that an execution gets, by name, from all routes to this pipeline. A value may contain
    /// placeholders.
    pub variables: BTreeMap<String, String>,
}

/// A target's identity: a pipeline of an account and region. As text, it is `account/region/pipeline`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetId {
    /// The account that the pipeline is in.
    pub account: AccountId,
    /// The region that the pipeline is in.
    pub region: Region,
    /// The pipeline's name.
    pub pipeline: PipelineName,
}

impl TryFrom<String> for TargetId {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let parts: Vec<&str> = value.splitn(3, '/').collect();
        let [account, region, pipeline] = parts.as_slice() else {
            return Err(Malformed::new(&value, "a target: write `account/region/pipeline`"));
        };
        Ok(Self { account: account.parse()?, region: region.parse()?, pipeline: pipeline.parse()? })
    }
}

impl From<TargetId> for String {
    fn from(id: TargetId) -> Self {
        id.to_string()
    }
}

impl std::fmt::Display for TargetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.account, self.region, self.pipeline)
    }
}

impl std::str::FromStr for TargetId {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::try_from(text.to_owned())
    }
}

impl Target {
    /// The target's identity.
    #[must_use]
    pub fn id(&self) -> TargetId {
        TargetId { account: self.account.clone(), region: self.region.clone(), pipeline: self.pipeline.clone() }
    }

    /// Whether this is the target's identity.
    #[must_use]
    pub fn is(&self, id: &TargetId) -> bool {
        self.account == id.account && self.region == id.region && self.pipeline == id.pipeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_of_a_target_is_written_with_slashes() {
        let id: TargetId = "222222222222/ap-northeast-1/p".parse().unwrap();
        assert_eq!(
            (id.account.as_str(), id.region.as_str(), id.pipeline.as_str()),
            ("222222222222", "ap-northeast-1", "p")
        );
        assert_eq!(id.to_string(), "222222222222/ap-northeast-1/p");
        for malformed in ["222222222222/p", "222222222222/ap-northeast-1/p/q", "2/ap-northeast-1/p", ""] {
            assert!(malformed.parse::<TargetId>().is_err(), "{malformed}");
        }
    }
}
