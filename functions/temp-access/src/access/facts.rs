//! The facts from which a grant is planned: what IAM shows of the principal, and the ledger's row.

use futures_util::future::try_join_all;
use futures_util::join;
use sekisho_ledger::{Error as LedgerError, Row, Store};

use crate::access::owed::awaits_delete;
use crate::access::policies;
use crate::aws::iam::IamError;
use crate::error::Error;
use crate::plan::{InlinePolicy, Terms};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, GrantRow};
use crate::run::Run;

pub(crate) const NOTHING_GRANTED: &str = "Nothing was granted";

/// The facts from which a grant is planned.
pub(crate) struct Facts {
    pub(crate) row: Option<Row<GrantRow>>,
    pub(crate) inline: Vec<InlinePolicy>,
}

/// Reads IAM and the ledger. Returns `None` if another request holds the row, so that the caller waits for that
/// request. A preview never waits, so it always gets the facts.
pub(crate) async fn read_facts<S: Store>(
    terms: &Terms<'_>,
    policy: &str,
    is_preview: bool,
    run: &Run<'_, S>,
) -> Result<Option<Facts>, Error> {
    let (principal, request) = (terms.principal, run.request_id());
    // These calls run at the same time, because no call needs the result of another call. IAM is called first, because
    // IAM is far away and answers late. The ledger is near and answers early: if its row records live access, the
    // policy of this access is read while IAM is still listing the names.
    let recorded = async {
        let row = run.ledger.read::<GrantRow>(&row::key(principal, policy)).await?;
        let now = run.now();
        let is_live = |row: &GrantRow| row.gives_access(now) && !row.is_held_by_another(request, now);
        let is_read = row.as_ref().is_some_and(|row| is_live(&row.state));
        let own = if is_read { policies::read(principal, policy, run).await } else { Ok(None) };
        Ok((row, is_read, own))
    };
    let (prepared, names, recorded) = join!(check_prepared(principal, run), policies::names(principal, run), recorded);
    prepared?;
    let (row, is_read, own) = recorded.map_err(ledger_error)?;
    if let Some(Row { state, .. }) = row.as_ref().filter(|_| !is_preview) {
        if state.is_held_by_another(request, run.now()) {
            return Ok(None);
        }
        // The claim of a grant would replace the row, and nobody would delete the policy any more.
        if awaits_delete(state, run.now()) {
            return Err(Error::Revoking(principal.clone()));
        }
    }
    let iam_error = |source| Error::Iam { outcome: NOTHING_GRANTED.to_owned(), source };
    let mut names = names.map_err(iam_error)?;
    let own = own.map_err(iam_error)?;
    let now = run.now();
    // The list of names may be older than the row, so a policy of a recent row is read even if its name is not listed.
    let is_unlisted =
        row.as_ref().is_some_and(|row| row.state.is_recent(now)) && !names.iter().any(|name| name == policy);
    if is_read {
        names.retain(|name| name != policy);
    } else if is_unlisted {
        names.push(policy.to_owned());
    }
    let mut inline = read_inline(principal, names, run).await?;
    inline.extend(own.map(|document| InlinePolicy { name: policy.to_owned(), document }));
    // IAM may still show a policy that a revoke has deleted. Such a policy is left out. A later one was put again.
    let revoked = row.as_ref().map(|row| &row.state).filter(|row| row.is_deleted(now) || row.owes_delete);
    let is_past = |one: &InlinePolicy| revoked.is_some_and(|row| ends_no_later_than(one, row, run));
    inline.retain(|one| one.name != policy || !is_past(one));
    Ok(Some(Facts { row, inline }))
}

/// Checks that the principal may get access.
async fn check_prepared<S: Store>(principal: &Principal, run: &Run<'_, S>) -> Result<(), Error> {
    let details = run.describe(principal).await?;
    if details.path.starts_with("/aws-reserved/") || details.path.starts_with("/aws-service-role/") {
        return Err(Error::Refused(format!(
            "{principal} belongs to AWS (path {}), and IAM lets nobody change it: name a user or role of your own",
            details.path
        )));
    }
    let lacks = match (details.is_grantable, details.boundary.as_deref() == Some(run.boundary)) {
        (true, true) => return Ok(()),
        (false, true) => "the tag sekisho:access=grantable",
        (true, false) => "the access boundary",
        (false, false) => "the tag sekisho:access=grantable and the access boundary",
    };
    let variable = principal.kind().as_str().to_uppercase();
    Err(Error::Refused(format!(
        "{principal} is not prepared: it lacks {lacks}. If it should get access, an administrator prepares it once \
         with `make prepare {variable}={} ENV=… PROFILE=…`, where PROFILE is the administrator's AWS profile",
        principal.name()
    )))
}

async fn read_inline<S: Store>(
    principal: &Principal,
    names: Vec<String>,
    run: &Run<'_, S>,
) -> Result<Vec<InlinePolicy>, Error> {
    let policies = try_join_all(names.into_iter().map(async |name| {
        let document = policies::read(principal, &name, run).await?;
        Ok::<_, IamError>(document.map(|document| InlinePolicy { name, document }))
    }));
    let policies = policies.await.map_err(|source| Error::Iam { outcome: "Nothing was changed".to_owned(), source })?;
    Ok(policies.into_iter().flatten().collect())
}

/// Whether the policy's access ends no later than the access that the row records, and Sekisho may have given it.
fn ends_no_later_than<S: Store>(one: &InlinePolicy, row: &GrantRow, run: &Run<'_, S>) -> bool {
    let window = match policy::read(&one.document) {
        Reading::Grant(window) => window,
        Reading::OpenEnded(_) | Reading::DenyOnly => return false,
    };
    window.end <= row.end && run.is_ours(&one.name, window, None)
}

pub(crate) fn ledger_error(source: LedgerError) -> Error {
    Error::Ledger { outcome: NOTHING_GRANTED, source }
}
