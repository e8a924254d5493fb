//! A grant reads the facts, makes a plan, claims the ledger's row, puts the policy, and reads the policy back.

use futures_util::future::try_join_all;
use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use sekisho_lambda::Failure;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::access::removal::remove_ended;
use crate::answer::{self, Confirmation};
use crate::aws::iam::IamError;
use crate::error::Error;
use crate::notice::{self, LetIn};
use crate::outcome::{self, Outcome};
use crate::plan::{EarlierAttempt, Effect, InlinePolicy, Plan, Recorded, Terms, is_same_json, plan};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::report::{Report, Settlement};
use crate::request::Grant;
use crate::row::{self, GrantRow, State};
use crate::run::{CONFIRM_LIMIT, PLAN_LIMIT, POLL_INTERVAL, RECHECK_LIMIT, Run, WRITE_LIMIT};
use crate::window::Window;

/// Gives a principal access, or shows what a grant would do.
pub(crate) async fn grant<S: Store>(grant: &Grant, run: &Run<'_, S>) -> Result<Report, Error> {
    let terms = Terms::of(grant, run.access()?)?;
    let prepared = timeout_at(run.deadline(PLAN_LIMIT), prepare(&terms, grant, run)).await;
    let Prepared { plan, claim } = prepared.unwrap_or(Err(Error::TooSlow("Nothing was granted")))?;
    let Some(claim) = claim else {
        let decision = Decision::new(Outcome::Previewed, "dry run: nothing was written");
        return Ok(Report::text(answer::grant_preview(&plan), about(decision, &plan, grant)));
    };
    match execute(&plan, run).await {
        Execution::Accepted(confirmation) => Ok(granted(&plan, claim, confirmation, grant, run)),
        Execution::Unknown(error) => Ok(unknown(&plan, error, grant, run)),
        Execution::Failed(source) => {
            run.release(&row::key(terms.principal, &plan.policy), claim.revision, claim.before).await;
            Err(Error::Iam { outcome: nothing_granted(&plan), source })
        }
    }
}

/// A plan, and the claim under which the plan is executed. A dry run claims nothing.
struct Prepared<'a> {
    plan: Plan<'a>,
    claim: Option<Claim>,
}

/// A row on which this invocation has the lease.
struct Claim {
    row: GrantRow,
    revision: u64,
    /// The row as it was before the claim.
    before: Option<GrantRow>,
}

/// The facts from which a grant is planned.
struct Facts {
    row: Option<Row<GrantRow>>,
    inline: Vec<InlinePolicy>,
}

/// The result of executing a plan.
enum Execution {
    /// IAM has accepted the plan.
    Accepted(Confirmation),
    /// IAM did not answer, and it is unknown whether the write took effect.
    Unknown(IamError),
    /// IAM changed nothing.
    Failed(IamError),
}

/// Reads the facts, plans, and claims the row, and repeats these three steps until the claim succeeds. A claim succeeds
/// only if the row has not changed since it was read.
async fn prepare<'a, S: Store>(terms: &Terms<'a>, grant: &Grant, run: &Run<'_, S>) -> Result<Prepared<'a>, Error> {
    let policy = terms.policy();
    loop {
        let Some(Facts { row, inline }) = read_facts(terms, &policy, grant.dry_run, run).await? else {
            run.wait_for_other(terms.principal).await?;
            continue;
        };
        let now = run.now();
        let granted = row.as_ref().and_then(|row| row.state.recent_grant(now));
        let is_unseen = granted.is_some_and(|granted| !shows(&inline, &policy, granted));
        if is_unseen && !grant.dry_run && Instant::now() + POLL_INTERVAL < run.deadline(RECHECK_LIMIT) {
            sleep(POLL_INTERVAL).await;
            continue;
        }
        let recorded = row.as_ref().map_or(Recorded::default(), |row| recorded(&row.state, granted, run));
        let plan = plan(terms, &inline, &recorded, now)?;
        // A request that goes on with live access may leave out the reason, if the row has one that is enough.
        if grant.reason.is_none() {
            let known = row.as_ref().filter(|_| plan.effect != Effect::Grants);
            terms.check_reason(known.and_then(|row| row.state.reason.as_deref()))?;
        }
        if grant.dry_run {
            return Ok(Prepared { plan, claim: None });
        }
        match claim(&plan, row, grant, now, run).await? {
            Some(claim) => return Ok(Prepared { plan, claim: Some(claim) }),
            None => run.wait_for_other(terms.principal).await?,
        }
    }
}

/// Reads IAM and the ledger. Returns `None` if another request holds the row, so that the caller waits for that
/// request. A dry run never waits, so it always gets the facts.
async fn read_facts<S: Store>(
    terms: &Terms<'_>,
    policy: &str,
    dry_run: bool,
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
        let own = if is_read { run.iam.policy(principal, policy).await } else { Ok(None) };
        Ok((row, is_read, own))
    };
    let (prepared, names, recorded) = join!(check_prepared(principal, run), run.iam.policy_names(principal), recorded);
    prepared?;
    let (row, is_read, own) = recorded.map_err(ledger_error)?;
    if !dry_run && row.as_ref().is_some_and(|row| row.state.is_held_by_another(request, run.now())) {
        return Ok(None);
    }
    let iam_error = |source| Error::Iam { outcome: "Nothing was granted".to_owned(), source };
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

/// Writes the intent to the row. Returns `None` if the row has changed since it was read.
async fn claim<S: Store>(
    plan: &Plan<'_>,
    row: Option<Row<GrantRow>>,
    grant: &Grant,
    now: OffsetDateTime,
    run: &Run<'_, S>,
) -> Result<Option<Claim>, Error> {
    let (revision, before) = row.map_or((None, None), |row| (Some(row.revision), Some(row.state)));
    let mut row = GrantRow::held(State::Intent, plan.window, run.request_id(), before.as_ref(), now);
    // An empty reason does not replace the one that live access has.
    if grant.reason.as_ref().is_some_and(|reason| !reason.is_empty()) || plan.effect == Effect::Grants {
        row.reason.clone_from(&grant.reason);
    }
    row.is_unchanged = plan.effect == Effect::Keeps;
    let key = row::key(plan.terms.principal, &plan.policy);
    match run.ledger.write(&key, &row, revision, run.request_id()).await {
        Ok(revision) => Ok(Some(Claim { row, revision, before })),
        Err(LedgerError::Changed(_)) => Ok(None),
        Err(error) => Err(ledger_error(error)),
    }
}

fn ledger_error(source: LedgerError) -> Error {
    Error::Ledger { outcome: "Nothing was granted", source }
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
        let document = run.iam.policy(principal, &name).await?;
        Ok::<_, IamError>(document.map(|document| InlinePolicy { name, document }))
    }));
    let policies = policies.await.map_err(|source| Error::Iam { outcome: "Nothing was changed".to_owned(), source })?;
    Ok(policies.into_iter().flatten().collect())
}

/// Executes a plan, and reads the policy back from IAM.
async fn execute<S: Store>(plan: &Plan<'_>, run: &Run<'_, S>) -> Execution {
    let written = timeout_at(run.deadline(WRITE_LIMIT), write(plan, run)).await;
    let error = match written.unwrap_or_else(|_| Err(IamError::unanswered("policy write"))) {
        Ok(()) => return Execution::Accepted(read_back(plan, run).await),
        Err(error) => error,
    };
    if !error.may_have_taken_effect() {
        return Execution::Failed(error);
    }
    match read_back(plan, run).await {
        confirmation @ Confirmation::Confirmed(_) => Execution::Accepted(confirmation),
        // What IAM does not show yet may still have taken effect.
        Confirmation::NotYet | Confirmation::Unknown => Execution::Unknown(error),
    }
}

async fn write<S: Store>(plan: &Plan<'_>, run: &Run<'_, S>) -> Result<(), IamError> {
    for ended in &plan.remove {
        // A failure does not end the grant. An ended policy may also stay because it is live again or because another
        // request is working on it. If the new policy then does not fit, IAM refuses it.
        if let Err(error) = remove_ended(plan.terms.principal, ended, run).await {
            warn!(error = chain(&error), "an ended policy was not removed");
        }
    }
    if plan.puts { run.iam.put(plan.terms.principal, &plan.policy, &plan.document).await } else { Ok(()) }
}

/// Reads the policy until IAM shows the plan's window, because IAM may show older states for some time.
async fn read_back<S: Store>(plan: &Plan<'_>, run: &Run<'_, S>) -> Confirmation {
    let mut confirmation = Confirmation::Unknown;
    loop {
        let read = timeout_at(run.deadline(CONFIRM_LIMIT), run.iam.policy(plan.terms.principal, &plan.policy)).await;
        confirmation = match read {
            Ok(Ok(document)) => match document.as_deref().map(policy::read) {
                // If there was no access before, a different window belongs to an older state, even if that window ends
                // later.
                Some(Reading::Grant(window)) if plan.effect == Effect::Grants && window != plan.window => {
                    Confirmation::NotYet
                }
                // If the end stays the same, only the text shows whether the write took effect.
                Some(Reading::Grant(window))
                    if window.end == plan.window.end
                        && plan.puts
                        && !document.as_deref().is_some_and(|shown| is_same_json(shown, &plan.document)) =>
                {
                    Confirmation::NotYet
                }
                Some(Reading::Grant(window)) if window.end >= plan.window.end => {
                    return Confirmation::Confirmed(window);
                }
                _ => Confirmation::NotYet,
            },
            Ok(Err(_)) => Confirmation::Unknown,
            Err(_) => return confirmation,
        };
        if Instant::now() + POLL_INTERVAL >= run.deadline(CONFIRM_LIMIT) {
            return confirmation;
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Whether the policy's access ends no later than the access that the row records, and Sekisho may have given it.
fn ends_no_later_than<S: Store>(one: &InlinePolicy, row: &GrantRow, run: &Run<'_, S>) -> bool {
    let window = match policy::read(&one.document) {
        Reading::Grant(window) => window,
        Reading::OpenEnded(_) | Reading::DenyOnly => return false,
    };
    window.end <= row.end && run.is_ours(&one.name, window, None)
}

/// Whether IAM shows the granted window, a window that ends later, or a policy that is not ours.
fn shows(inline: &[InlinePolicy], policy: &str, granted: Window) -> bool {
    let shown = inline.iter().find(|one| one.name == policy).map(|one| policy::read(&one.document));
    match shown {
        Some(Reading::Grant(window)) => window.end >= granted.end,
        Some(Reading::OpenEnded(_) | Reading::DenyOnly) => true,
        None => false,
    }
}

/// What the row records, for the plan. `granted` is the window of a very recent grant.
fn recorded<S: Store>(row: &GrantRow, granted: Option<Window>, run: &Run<'_, S>) -> Recorded {
    let earlier = earlier(row, run.request_id());
    let end = row.is_granted().then_some(row.end);
    Recorded { granted, chain: Some(row.chain()), end, earlier }
}

/// Finds in the row what an earlier attempt of this request did.
fn earlier(row: &GrantRow, request: &str) -> EarlierAttempt {
    if row.requests.iter().any(|known| known == request) {
        EarlierAttempt::CarriedOut
    } else if row.state == State::Intent && row.request == request {
        EarlierAttempt::Intended(row.window())
    } else {
        EarlierAttempt::None
    }
}

fn about(decision: Decision<Outcome>, plan: &Plan<'_>, grant: &Grant) -> Decision<Outcome> {
    outcome::about(decision, plan.terms.principal)
        .about("profile", plan.terms.profile.as_str())
        .about("minutes", plan.terms.minutes.to_string())
        .about("start", timestamp::seconds(plan.window.start))
        .about("until", timestamp::seconds(plan.window.end))
        .about_some("because", grant.reason.clone())
}

fn granted<S: Store>(
    plan: &Plan<'_>,
    claim: Claim,
    confirmation: Confirmation,
    grant: &Grant,
    run: &Run<'_, S>,
) -> Report {
    let claim_reason = claim.row.reason.clone();
    let (outcome, why) = match plan.effect {
        Effect::Grants => (Outcome::Granted, "access was given"),
        Effect::Extends { .. } => (Outcome::Extended, "the access now ends later than before"),
        Effect::Widens { .. } => (Outcome::Widened, "the access now allows more, because its profile was widened"),
        Effect::Keeps => (Outcome::Unchanged, "the existing access already lasts as long as requested, or longer"),
    };
    let decision = about(Decision::new(outcome, why), plan, grant);
    let mut report = Report::text(answer::granted(plan, confirmation, grant.reason.as_deref()), decision);
    let key = row::key(plan.terms.principal, &plan.policy);
    report.settlement = Some(Settlement { key, row: claim.row.settled(State::Granted), revision: claim.revision });
    if outcome != Outcome::Unchanged {
        let reason = claim_reason.as_deref();
        report.notices.push(notice::let_in(&LetIn::of(plan, reason), run.invocation));
    }
    report
}

/// The report if it is unknown whether the grant took effect. The row keeps the intent and the lease.
fn unknown<S: Store>(plan: &Plan<'_>, error: IamError, grant: &Grant, run: &Run<'_, S>) -> Report {
    let end = timestamp::seconds(plan.window.end);
    let outcome = format!(
        "It is not known whether {} was given {}; if so, the access ends at {end} ({{\"action\":\"list\"}} shows it \
         in a minute)",
        plan.terms.principal, plan.terms.profile
    );
    let error = Error::Iam { outcome, source: error };
    let decision = Decision::new(Outcome::Failed, error.to_string()).about("error", error.error_type().name());
    let decisions = vec![about(decision, plan, grant)];
    let notices = vec![notice::perhaps_let_in(&LetIn::of(plan, grant.reason.as_deref()), run.invocation)];
    Report { answer: Err(error), decisions, notices, settlement: None }
}

fn nothing_granted(plan: &Plan<'_>) -> String {
    match plan.effect {
        Effect::Grants => "Nothing was granted".to_owned(),
        Effect::Extends { from } | Effect::Widens { from } => {
            format!("Nothing was granted, and access ends at {} as before", timestamp::seconds(from))
        }
        Effect::Keeps => format!("Nothing was changed, and access ends at {}", timestamp::seconds(plan.window.end)),
    }
}
