//! Explains an object under another account's key: who wrote it, and why the object is probably under that key.

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;

use crate::aws::codepipeline::ArtifactWriters;
use crate::key::{KeyArn, account_in_name};
use crate::outcome::Outcome;
use crate::right_key::likely_cause;

/// Adds an explanation to the decision if its outcome is [`Outcome::ForeignKey`]. Without an explanation, the decision
/// is still a finding.
pub(crate) async fn explained(
    decision: Decision<Outcome>,
    writers: &ArtifactWriters<'_>,
    right_key: &KeyArn,
) -> Decision<Outcome> {
    if decision.outcome != Outcome::ForeignKey {
        return decision;
    }
    let about = |name| decision.concerns.get(name).map_or("", String::as_str);
    let owner = account_in_name(about("encryption")).unwrap_or("unknown").to_owned();
    let writer = match Box::pin(writers.writer_of(about("object"))).await {
        Ok(writer) => writer,
        Err(error) => {
            let cause = format!("unknown, because CodePipeline did not answer: {}", chain(&error));
            return decision.about("likely_cause", cause);
        }
    };
    let store = writer.and_then(|writer| writers.store(&writer.pipeline));
    let decision = if decision.concerns.contains_key("writer") {
        decision
    } else {
        decision.about("writer", format!("account {owner}, which owns the key"))
    };
    decision
        .about_some("pipeline", writer.map(|writer| writer.pipeline.as_str()))
        .about_some("execution", writer.map(|writer| writer.execution.as_str()))
        .about_some("action", writer.map(|writer| writer.action.as_str()))
        .about("likely_cause", likely_cause(&owner, store, right_key))
}
