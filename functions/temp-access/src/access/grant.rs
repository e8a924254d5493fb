//! A grant reads the facts, makes a plan, claims the ledger's row, puts the policy, and reads the policy back.

use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use sekisho_lambda::Failure;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant, sleep, timeout_at};
use tracing::warn;

use crate::access::basis::Basis;
use crate::access::confirmation::read_back;
use crate::access::facts::{Facts, NOTHING_GRANTED, ledger_error, read_facts};
use crate::access::policies;
use crate::access::removal::remove_ended;
use crate::access::{break_glass, request_approval};
use crate::answer::{self, Confirmation};
use crate::aws::iam::{ErrorKind, IamError};
use crate::door;
use crate::error::Error;
use crate::notice::{self, LetIn};
use crate::outcome::{self, Outcome};
use crate::pending::PendingRow;
use crate::plan::{EarlierAttempt, Effect, InlinePolicy, Plan, Recorded, Terms, plan};
use crate::policy::{self, Reading};
use crate::principal::Kind;
use crate::report::{Report, Settlement};
use crate::request::Grant;
use crate::row::{self, Consent, GrantRow, PreviousChain, State};
use crate::run::{CONFIRM_LIMIT, PLAN_LIMIT, POLL_INTERVAL, RECHECK_LIMIT, Run, WRITE_LIMIT};
use crate::window::Window;
use crate::window_policy;

const UNCHANGED: &str = "the existing access already lasts as long as requested, or longer";

/// Gives a principal access, asks for the approval that this needs, or shows what a grant would do.
pub(crate) async fn grant<S: Store>(grant: &Grant, run: &Run<'_, S>) -> Result<Report, Error> {
    let access = run.access()?;
    let terms = Terms::of(grant, access)?;
    door::check_asking(access, &run.door, terms.profile, terms.principal)?;
    let consent = Consent { door: Some(run.door.as_str().to_owned()), ..Consent::default() };
    let mut basis = Basis { grant, consent, approved: None, review: None };
    if terms.allows.break_glass {
        break_glass::open(&terms, &mut basis, run)?;
    }
    if !grant.dry_run && !terms.needs_approval() {
        let report = carry_out(&terms, &basis, run).await?;
        return Ok(break_glass::told(report, &basis));
    }
    let prepared = timeout_at(run.deadline(PLAN_LIMIT), prepare(&terms, &basis, true, run)).await;
    let Prepared { plan, .. } = prepared.unwrap_or(Err(Error::TooSlow(NOTHING_GRANTED)))?;
    if grant.dry_run {
        let decision = Decision::new(Outcome::Previewed, "dry run: nothing was written");
        return Ok(Report::text(answer::grant_preview(&plan), about(decision, &plan, &basis)));
    }
    if plan.puts {
        return request_approval::request_approval(&plan, &basis, run).await;
    }
    let decision = about(Decision::new(Outcome::Unchanged, UNCHANGED), &plan, &basis);
    Ok(Report::text(answer::granted(&plan, Confirmation::Confirmed(plan.window), None), decision))
}

/// Gives a principal access. Everything that the grant needs, such as an approval, is given.
pub(crate) async fn carry_out<S: Store>(
    terms: &Terms<'_>,
    basis: &Basis<'_>,
    run: &Run<'_, S>,
) -> Result<Report, Error> {
    let prepared = timeout_at(run.deadline(PLAN_LIMIT), prepare(terms, basis, false, run)).await;
    let too_slow = || Error::TooSlow(NOTHING_GRANTED);
    let Prepared { plan, claim: Some(mut claim) } = prepared.unwrap_or_else(|_| Err(too_slow()))? else {
        return Err(too_slow());
    };
    let secured = timeout_at(run.deadline(PLAN_LIMIT), secure(&plan, basis, run)).await;
    if let Err(error) = secured.unwrap_or_else(|_| Err(too_slow())) {
        return Err(take_back(error, &plan, claim, run).await);
    }
    if plan.puts && claim.enters_later && !claim.row.awaits_entry {
        let row = GrantRow { awaits_entry: true, ..claim.row.clone() };
        match leave(&plan, &claim, row, WRITE_LIMIT, run).await {
            Deferral::Done(row, revision) => claim = Claim { row: *row, revision, ..claim },
            Deferral::Unknown(source) => {
                let outcome =
                    "It is not known whether the access will be given ({\"action\":\"list\"} shows it in a minute)";
                return Ok(unknown(&plan, Error::Ledger { outcome, source }, basis, run));
            }
            Deferral::None => {
                break_glass::close(basis, &plan, claim.revision, run).await;
                return Err(Error::Busy(terms.principal.clone()));
            }
        }
    }
    match execute(&plan, &claim, run).await {
        Execution::Accepted(confirmation) => Ok(granted(&plan, claim.entered(&plan), confirmation, basis, run)),
        Execution::Unknown(source) => Ok(unknown(&plan, not_known(&plan, source), basis, run)),
        Execution::Failed(source) => match defer(&plan, &claim, &source, run).await {
            Deferral::Done(row, revision) => {
                let claim = Claim { row: *row, revision, ..claim };
                Ok(granted(&plan, claim, Confirmation::Later, basis, run))
            }
            // A follow-up may find the grant in the ledger, so its review stays open.
            Deferral::Unknown(_) => Ok(unknown(&plan, not_known(&plan, source), basis, run)),
            Deferral::None => {
                let revision = claim.revision;
                let error = take_back(Error::Iam { outcome: nothing_granted(&plan), source }, &plan, claim, run).await;
                break_glass::close(basis, &plan, revision, run).await;
                Err(error)
            }
        },
    }
}

/// What became of the attempt to leave a grant to a follow-up.
enum Deferral {
    /// The ledger has this row with this revision.
    Done(Box<GrantRow>, u64),
    /// The ledger did not answer, and it is unknown whether it has the grant.
    Unknown(LedgerError),
    /// No follow-up will find the grant.
    None,
}

/// Leaves the grant of a person to a follow-up if `sekisho-window` could not be written in time, because others were
/// writing it, or because IAM did not show its last version. Without the ledger, nothing is granted.
async fn defer<S: Store>(plan: &Plan<'_>, claim: &Claim, error: &IamError, run: &Run<'_, S>) -> Deferral {
    if plan.terms.principal.kind() != Kind::Person || error.kind != ErrorKind::Throttled {
        return Deferral::None;
    }
    let owes_notice = claim.row.owes_notice || !claim.row.is_unchanged;
    let row = GrantRow { awaits_entry: true, owes_notice, ..claim.row.clone() }.settled(State::Granted);
    leave(plan, claim, row, CONFIRM_LIMIT, run).await
}

/// Writes a row that a follow-up enters into `sekisho-window`.
async fn leave<S: Store>(plan: &Plan<'_>, claim: &Claim, row: GrantRow, limit: Duration, run: &Run<'_, S>) -> Deferral {
    let key = row::key(plan.terms.principal, &plan.policy);
    let write = run.ledger.write(&key, &row, Some(claim.revision), run.request_id());
    match timeout_at(run.deadline(limit), write).await {
        Ok(Ok(revision)) => Deferral::Done(Box::new(row), revision),
        Ok(Err(LedgerError::Changed(_))) => Deferral::None,
        Ok(Err(error)) => Deferral::Unknown(error),
        Err(_) => {
            Deferral::Unknown(LedgerError::Unavailable { key, throttled: false, source: "no answer in time".into() })
        }
    }
}

/// Undoes the claim of a grant that failed. The error says so if a follow-up may still enter the grant: in place of a
/// grant that was answered before, and of which the ledger has only the new end.
async fn take_back<S: Store>(error: Error, plan: &Plan<'_>, claim: Claim, run: &Run<'_, S>) -> Error {
    let principal = plan.terms.principal;
    let is_released = run.release(&row::key(principal, &plan.policy), claim.revision, claim.before).await;
    if is_released || !plan.puts || !claim.row.awaits_entry {
        return error;
    }
    Error::NotTakenBack { error: Box::new(error), principal: principal.clone() }
}

/// Makes sure, under the claim on the grant's row, that the grant is still approved, that there is room for it, and that
/// its review is open.
///
/// A revoke withdraws requests before it reads the rows of grants. So either the revoke finds this claim, or this
/// function finds the request withdrawn. If two grants want the last room, at least one sees the other.
async fn secure<S: Store>(plan: &Plan<'_>, basis: &Basis<'_>, run: &Run<'_, S>) -> Result<(), Error> {
    if let Some(claim) = basis.approved {
        let row = run.ledger.read::<PendingRow>(&claim.key).await.map_err(ledger_error)?;
        if row.is_none_or(|row| row.revision != claim.revision) {
            return Err(Error::NoRequest(claim.row.code.clone()));
        }
    }
    policies::check_room(plan, run).await?;
    match &basis.review {
        Some(review) if plan.puts => break_glass::record(review, plan.terms.principal, run).await.map_err(ledger_error),
        _ => Ok(()),
    }
}

/// A plan, and the claim under which the plan is executed. A preview claims nothing.
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
    /// Whether a follow-up enters the grant shortly before it begins.
    enters_later: bool,
}

impl Claim {
    /// The claim after IAM has accepted the plan. What was written has been entered.
    fn entered(mut self, plan: &Plan<'_>) -> Self {
        if plan.puts {
            self.row.awaits_entry = self.enters_later;
        }
        self
    }
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
async fn prepare<'a, S: Store>(
    terms: &Terms<'a>,
    basis: &Basis<'_>,
    is_preview: bool,
    run: &Run<'_, S>,
) -> Result<Prepared<'a>, Error> {
    let (policy, grant) = (terms.policy(), basis.grant);
    loop {
        let Some(Facts { row, inline }) = read_facts(terms, &policy, is_preview, run).await? else {
            run.wait_for_other(terms.principal).await?;
            continue;
        };
        let now = run.now();
        let granted = row.as_ref().and_then(|row| row.state.recent_grant(now));
        let is_unseen = granted.is_some_and(|granted| !shows(&inline, &policy, granted));
        if is_unseen && !is_preview && Instant::now() + POLL_INTERVAL < run.deadline(RECHECK_LIMIT) {
            sleep(POLL_INTERVAL).await;
            continue;
        }
        let recorded = row.as_ref().map_or(Recorded::default(), |row| recorded(&row.state, granted, run));
        let plan = plan(terms, &inline, &recorded, now)?;
        // A request that goes on with live access may leave out the reason, if the row has one that is enough.
        if grant.reason.is_none() {
            let known = row.as_ref().filter(|_| !plan.effect.is_new());
            terms.check_reason(known.and_then(|row| row.state.reason.as_deref()))?;
        }
        if is_preview {
            policies::check_room(&plan, run).await?;
            return Ok(Prepared { plan, claim: None });
        }
        match claim(&plan, row, basis, now, run).await? {
            Some(claim) => return Ok(Prepared { plan, claim: Some(claim) }),
            None => run.wait_for_other(terms.principal).await?,
        }
    }
}

/// Writes the intent to the row. Returns `None` if the row has changed since it was read.
async fn claim<S: Store>(
    plan: &Plan<'_>,
    row: Option<Row<GrantRow>>,
    basis: &Basis<'_>,
    now: OffsetDateTime,
    run: &Run<'_, S>,
) -> Result<Option<Claim>, Error> {
    let grant = basis.grant;
    let (revision, before) = row.map_or((None, None), |row| (Some(row.revision), Some(row.state)));
    let mut row = GrantRow::held(State::Intent, plan.window, run.request_id(), before.as_ref(), now);
    // An empty reason does not replace the one that live access has.
    if grant.reason.as_ref().is_some_and(|reason| !reason.is_empty()) || plan.effect.is_new() {
        row.reason.clone_from(&grant.reason);
    }
    row.is_unchanged = plan.effect == Effect::Keeps;
    row.is_wider |= matches!(plan.effect, Effect::Widens { .. });
    row.start = row.start.min(plan.chain_start);
    let is_scheduled = plan.window.is_scheduled(now);
    row.from = (is_scheduled || row.start < plan.window.start).then_some(plan.window.start);
    if plan.effect.is_new() {
        let chain = before.as_ref().filter(|_| is_scheduled).map(|row| row.counted_chain(now));
        row.previous = chain.map(|Window { start, end }| PreviousChain { start, end: end.min(now) });
    }
    // A grant that writes nothing needed no consent, and leaves that of the access unchanged.
    if plan.puts {
        // Only what is entered later is compared with the configuration.
        let is_compared = is_scheduled || plan.terms.principal.kind() == Kind::Person;
        let allows = is_compared.then(|| policy::fingerprint(plan.terms.allows));
        row.consent = Consent { allows, ..basis.consent.clone() };
    }
    let enters_later = policies::enters_later(plan.terms.principal, plan.window, now);
    if plan.terms.principal.kind() == Kind::Person {
        row.email = Some(plan.terms.principal.name().to_owned());
        // Until IAM has accepted it, a follow-up still enters a grant that was answered before, even if this invocation
        // dies. A new grant is left to a follow-up only when it is secured.
        row.awaits_entry = before.as_ref().is_some_and(|row| row.gives_access(now) && row.awaits_entry);
        if plan.effect.is_new() {
            row.statements.clear();
        }
        // Until `sekisho-window` has the new statements, those that it has are the grant's, too. A row that somebody has
        // deleted gets the statements back, although nothing is written.
        if plan.puts || row.statements.is_empty() {
            row.statements.extend(window_policy::statements(&plan.document));
            row.statements.sort();
            row.statements.dedup();
        }
    }
    let key = row::key(plan.terms.principal, &plan.policy);
    match run.ledger.write(&key, &row, revision, run.request_id()).await {
        Ok(revision) => Ok(Some(Claim { row, revision, before, enters_later })),
        Err(LedgerError::Changed(_)) => Ok(None),
        Err(error) => Err(ledger_error(error)),
    }
}

/// Executes a plan, and reads the policy back from IAM.
async fn execute<S: Store>(plan: &Plan<'_>, claim: &Claim, run: &Run<'_, S>) -> Execution {
    let written = timeout_at(run.deadline(WRITE_LIMIT), write(plan, run)).await;
    let error = match written.unwrap_or_else(|_| Err(IamError::unanswered("policy write"))) {
        // Nothing was written, and IAM does not show the grant before a follow-up has entered it.
        Ok(()) if !plan.puts && claim.row.awaits_entry => return Execution::Accepted(Confirmation::Later),
        Ok(()) => return Execution::Accepted(read_back(plan, run).await),
        Err(error) => error,
    };
    if !error.may_have_taken_effect() {
        return Execution::Failed(error);
    }
    match read_back(plan, run).await {
        confirmation @ Confirmation::Confirmed(_) => Execution::Accepted(confirmation),
        // What IAM does not show yet may still have taken effect.
        Confirmation::NotYet | Confirmation::Unknown | Confirmation::Later => Execution::Unknown(error),
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
    let limit = run.deadline(WRITE_LIMIT) - POLL_INTERVAL;
    if plan.puts { policies::put(plan.terms.principal, &plan.policy, &plan.document, limit, run).await } else { Ok(()) }
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
    Recorded { granted, chain: Some(row.counted_chain(run.now())), end, earlier }
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

pub(crate) fn about(decision: Decision<Outcome>, plan: &Plan<'_>, basis: &Basis<'_>) -> Decision<Outcome> {
    let decision = outcome::about(decision, plan.terms.principal)
        .about("profile", plan.terms.profile.as_str())
        .about("minutes", plan.terms.minutes.to_string())
        .about("start", timestamp::seconds(plan.window.start))
        .about("until", timestamp::seconds(plan.window.end))
        .about_some("because", basis.grant.reason.clone());
    // A break-glass request that changes nothing opens no review.
    let has_review = plan.puts || basis.review.is_none();
    let door = || Consent { door: basis.consent.door.clone(), ..Consent::default() };
    outcome::with_consent(decision, &if has_review { basis.consent.clone() } else { door() })
}

fn granted<S: Store>(
    plan: &Plan<'_>,
    claim: Claim,
    confirmation: Confirmation,
    basis: &Basis<'_>,
    run: &Run<'_, S>,
) -> Report {
    let claim_reason = claim.row.reason.clone();
    let (outcome, why) = match plan.effect {
        Effect::Grants => (Outcome::Granted, "access was given"),
        Effect::Schedules => (Outcome::Scheduled, "access will be given at its start"),
        Effect::Extends { .. } => (Outcome::Extended, "the access now ends later than before"),
        Effect::Widens { .. } => {
            (Outcome::Widened, "the policy was written as the profile is now, which may allow more than before")
        }
        Effect::Keeps => (Outcome::Unchanged, UNCHANGED),
    };
    let decision = about(Decision::new(outcome, why), plan, basis);
    let mut report = Report::text(answer::granted(plan, confirmation, basis.grant.reason.as_deref()), decision);
    let key = row::key(plan.terms.principal, &plan.policy);
    report.settlement = Some(Settlement { key, row: claim.row.settled(State::Granted), revision: claim.revision });
    if outcome != Outcome::Unchanged {
        let reason = claim_reason.as_deref();
        report.notices.push(notice::let_in(&LetIn::of(plan, reason, &basis.consent), run.invocation));
    }
    report
}

/// The report if it is unknown whether the grant took effect. The row keeps the intent and the lease.
fn unknown<S: Store>(plan: &Plan<'_>, error: Error, basis: &Basis<'_>, run: &Run<'_, S>) -> Report {
    let decision = Decision::new(Outcome::Failed, error.to_string()).about("error", error.error_type().name());
    let decisions = vec![about(decision, plan, basis)];
    let let_in = LetIn::of(plan, basis.grant.reason.as_deref(), &basis.consent);
    let notices = vec![notice::perhaps_let_in(&let_in, run.invocation)];
    Report { answer: Err(error), decisions, notices, settlement: None }
}

/// The error if IAM did not say whether the grant took effect.
fn not_known(plan: &Plan<'_>, source: IamError) -> Error {
    let end = timestamp::seconds(plan.window.end);
    let outcome = format!(
        "It is not known whether {} was given {}; if so, the access ends at {end} ({{\"action\":\"list\"}} shows it \
         in a minute)",
        plan.terms.principal, plan.terms.profile
    );
    Error::Iam { outcome, source }
}

fn nothing_granted(plan: &Plan<'_>) -> String {
    match plan.effect {
        Effect::Grants | Effect::Schedules => NOTHING_GRANTED.to_owned(),
        Effect::Extends { from } | Effect::Widens { from } => {
            format!("Nothing was granted, and access ends at {} as before", timestamp::seconds(from))
        }
        Effect::Keeps => format!("Nothing was changed, and access ends at {}", timestamp::seconds(plan.window.end)),
    }
}
