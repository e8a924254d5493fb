//! The use case in which a person accepts a finding. People hear no more of the finding, unless it is resolved and found
//! again.

use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;

use crate::aws::events;
use crate::error::Error;
use crate::finding::{FindingEvent, FindingRow, FindingState, row_key};
use crate::outcome::Outcome;
use crate::request::AcceptRequest;
use crate::run::Run;

/// Accepts a finding.
pub(crate) async fn accept<L: Store>(run: &Run<'_, L>, request: &AcceptRequest) -> Result<Decision<Outcome>, Error> {
    let not_found = |why: &str| {
        let finding = &request.finding;
        Error::NotFound(format!("finding `{finding}` {why}: copy the code behind `finding` from the notice"))
    };
    let id = request.finding.parse::<Code>().map_err(|_| not_found("does not exist"))?;
    let known = run.ledger.read::<FindingRow>(&row_key(&id)).await?.ok_or_else(|| not_found("does not exist"))?;
    if known.state.state == FindingState::Resolved {
        return Err(not_found("is resolved already"));
    }
    let row = known.state.changed(FindingState::Accepted, run.now());
    let row = FindingRow { acceptance: Some(request.reason.clone()), ..row };
    run.ledger.write(&row_key(&id), &row, Some(known.revision), run.request_id()).await?;
    events::put(run, &[FindingEvent::new(&id, &row, FindingState::Accepted)]).await;
    let reason = format!("somebody accepted the finding: {}", request.reason);
    let FindingRow { bucket, key, version, pipeline, verdict, .. } = row;
    Ok(Decision::new(Outcome::Accepted, reason)
        .about("finding", id.to_string())
        .about("verdict", verdict.name())
        .about_some("bucket", bucket)
        .about_some("object", key)
        .about_some("version", version)
        .about_some("pipeline", pipeline))
}
