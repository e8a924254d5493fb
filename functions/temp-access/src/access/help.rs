//! The help text, which shows what a person can type.

use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;

use crate::answer;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::report::Report;
use crate::run::Run;

/// Shows the help text with the configured minutes and profiles.
pub(crate) fn help<S: Store>(run: &Run<'_, S>) -> Result<Report, Error> {
    Ok(Report::text(
        answer::help(run.access()?, run.invocation),
        Decision::new(Outcome::Helped, "the help text was requested"),
    ))
}
