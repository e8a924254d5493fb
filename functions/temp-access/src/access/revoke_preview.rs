//! The dry run of a revoke.

use futures_util::future::try_join_all;
use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;
use tokio::time::timeout_at;

use crate::access::policies;
use crate::answer;
use crate::aws::iam::IamError;
use crate::error::Error;
use crate::outcome::{self, Outcome};
use crate::plan;
use crate::policy;
use crate::principal::Principal;
use crate::report::Report;
use crate::run::{PLAN_LIMIT, Run};

/// Shows what a revoke would do to each policy.
pub(crate) async fn preview<S: Store>(principal: &Principal, run: &Run<'_, S>) -> Result<Report, Error> {
    let facts = async {
        run.describe(principal).await?;
        let names = policies::names(principal, run).await.map_err(unknown)?;
        let policies = plan::revocation(names, std::iter::empty()).into_iter();
        let read = try_join_all(policies.map(async |name| {
            let document = policies::read(principal, &name, run).await?;
            Ok::<_, IamError>(document.map(|document| (name, policy::read(&document))))
        }));
        Ok::<_, Error>(read.await.map_err(unknown)?.into_iter().flatten().collect::<Vec<_>>())
    };
    let policies = timeout_at(run.deadline(PLAN_LIMIT), facts).await;
    let policies = policies.map_err(|_| Error::TooSlow("Nothing was changed"))??;
    let decision = Decision::new(Outcome::Previewed, "dry run: nothing was written");
    let text = answer::revoke_preview(principal, &policies, run.now());
    Ok(Report::text(text, outcome::about(decision, principal)))
}

fn unknown(source: IamError) -> Error {
    Error::Iam { outcome: "It is not known which policies a revoke would delete".to_owned(), source }
}
