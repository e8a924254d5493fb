//! The measured programs and their everyday events. Each event of pipeline-starter is a new change.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The region of every resource.
pub(crate) const REGION: &str = "ap-northeast-1";
/// The account of the pipelines and artifacts.
pub(crate) const PIPELINE_ACCOUNT: &str = "222222222222";
/// The artifact bucket.
pub(crate) const ARTIFACTS: &str = "sekisho-artifacts-222222222222-ap-northeast-1";
/// The KMS key of the artifact bucket.
pub(crate) const KEY: &str = "arn:aws:kms:ap-northeast-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    /// A function that only returns "hello, world": the least that a function can cost.
    Hello,
    /// A rewritten copy of the Python function that temp-access replaced.
    Peer,
    TempAccess,
    EventRelay,
    PipelineStarter,
    ArtifactChecker,
}

impl Program {
    /// All programs, in the order in which they take turns.
    pub(crate) const ALL: [Self; 6] =
        [Self::Hello, Self::TempAccess, Self::EventRelay, Self::PipelineStarter, Self::ArtifactChecker, Self::Peer];

    /// The program's name in plans and figures, and the name of its binary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Peer => "peer",
            Self::TempAccess => "temp-access",
            Self::EventRelay => "event-relay",
            Self::PipelineStarter => "pipeline-starter",
            Self::ArtifactChecker => "artifact-checker",
        }
    }

    /// The account of the function.
    pub(crate) fn account(self) -> &'static str {
        match self {
            Self::EventRelay => "111111111111",
            Self::PipelineStarter | Self::ArtifactChecker => PIPELINE_ACCOUNT,
            Self::Hello | Self::Peer | Self::TempAccess => "333333333333",
        }
    }

    /// The event with this number, and the commit to which the event's branch then points.
    pub(crate) fn event(self, number: u64, folder: &str) -> Result<(Value, String), crate::Failure> {
        let commit = format!("{number:040x}");
        let file = match self {
            Self::Hello | Self::Peer | Self::TempAccess => "temp-access/grant.json",
            Self::EventRelay => "event-relay/branch-updated.json",
            Self::PipelineStarter => "pipeline-starter/change.json",
            Self::ArtifactChecker => "artifact-checker/object-created.json",
        };
        let mut event: Value = serde_json::from_str(&std::fs::read_to_string(format!("{folder}/{file}"))?)?;
        if self == Self::PipelineStarter {
            let change = &mut event["detail"]["change"];
            change["commit"] = json!(commit);
            change["sequence"] = json!(1_795_312_345_678 + number);
            let parts = ["repository", "ref", "sequence", "commit"].map(|field| match &change[field] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            event["detail"]["id"] = json!(hex::encode(Sha256::digest(parts.join("\n"))));
        }
        Ok((event, commit))
    }
}

/// The event of event-relay about a push of an image, and the digest to which the event's tag then points.
pub(crate) fn image(number: u64, folder: &str) -> Result<(Value, String), crate::Failure> {
    let event = serde_json::from_str(&std::fs::read_to_string(format!("{folder}/event-relay/image-pushed.json"))?)?;
    Ok((event, format!("sha256:{number:064x}")))
}

/// For each target in the ledger of event-relay that has not reported on its order, the report that it is healthy.
pub(crate) fn reports(
    ledger: &BTreeMap<(String, String), Map<String, Value>>,
    folder: &str,
) -> Result<Vec<Value>, crate::Failure> {
    let file = std::fs::read_to_string(format!("{folder}/event-relay/order-report.json"))?;
    let event: Value = serde_json::from_str(&file)?;
    let mut reports = Vec::new();
    for ((partition, _), row) in ledger {
        let Some(target) = partition.strip_prefix("target#") else { continue };
        let order = &row["order"]["M"];
        let number = &order["number"]["N"];
        if row["report"]["M"]["number"]["N"] == *number {
            continue;
        }
        let change = &order["change"]["M"];
        let parts = [("repository", "S"), ("ref", "S"), ("sequence", "N"), ("commit", "S")]
            .map(|(field, kind)| change[field][kind].as_str().unwrap_or_default());
        let mut report = event.clone();
        report["account"] = json!(target.split('/').next());
        let detail = &mut report["detail"];
        detail["number"] = json!(number.as_str().unwrap_or_default().parse::<u64>()?);
        detail["id"] = json!(hex::encode(Sha256::digest(parts.join("\n"))));
        detail["revision"] = json!(parts[3]);
        detail["good"] = json!(parts[3]);
        detail["state"] = json!("healthy");
        detail["since"] = detail["at"].clone();
        detail["reason"] = json!("the execution succeeded, and no alarm rang in the 30m after it");
        reports.push(report);
    }
    Ok(reports)
}
