//! In a sweep, the schedule invokes the function to remove policies that have ended.

use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::notice::Notice;
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Key, SentNotice, Store};
use time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::error;

use crate::access::removal::{Removal, remove_ended};
use crate::access::scheduled::{self, Found};
use crate::access::{follow_up, requests};
use crate::answer::Answer;
use crate::aws::iam::{ErrorKind, NamedPolicy};
use crate::error::Error;
use crate::notice;
use crate::outcome::{self, Outcome};
use crate::policy::{self, Reading};
use crate::report::Report;
use crate::row::{self, GrantRow};
use crate::run::Run;
use crate::window::Window;

/// What a sweep found out about one policy.
enum Finding {
    /// The policy still gives access, or another invocation is working on it.
    Live,
    /// There is nothing to do and nothing to report.
    Nothing,
    /// The policy has a fault that was reported within the last day.
    KnownFault,
    Decided(Decision<Outcome>),
}

/// Removes every policy of ours that has ended, and then follows up on grants. The sweep goes page by page, so if a
/// large account takes too long, only the last pages are left for the next sweep.
pub(crate) async fn sweep<S: Store>(run: &Run<'_, S>) -> Result<Report, Error> {
    let deadline = run.sweep_deadline();
    // The ledger's part comes first, because all pages of a large account may leave no time. It gets half of the time,
    // so that the policies are read although SNS or Identity Center does not answer.
    let halfway = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
    let mut decisions = requests::sweep(halfway, run).await;
    decisions.extend(scheduled::check_people(halfway, run).await);
    let mut failure = None;
    let (mut live, mut known_faults) = (0_usize, 0_usize);
    let (mut marker, mut pages) = (None, 0_usize);
    loop {
        let error = match timeout_at(deadline, run.iam.page_of_named_policies(marker)).await {
            Ok(Ok(page)) => {
                for policy in &page.policies {
                    match check(policy, deadline, run).await {
                        Finding::Live => live += 1,
                        Finding::Nothing => {}
                        Finding::KnownFault => known_faults += 1,
                        Finding::Decided(decision) => decisions.push(decision),
                    }
                }
                pages += 1;
                if page.next.is_none() {
                    break;
                }
                marker = page.next;
                continue;
            }
            Ok(Err(source)) => Error::Iam { outcome: "Nothing was swept".to_owned(), source },
            Err(_) => Error::TooSlow("Nothing was swept"),
        };
        if pages == 0 {
            decisions.push(outcome::of_error(&error, None));
            failure = Some(error);
        } else {
            let reason = format!("the sweep ended after {pages} pages of users and roles: {}", chain(&error));
            decisions.push(Decision::new(Outcome::Failed, reason));
        }
        break;
    }
    // The rule that runs every minute reports a follow-up that fails.
    match follow_up::follow_up(run, deadline).await {
        Ok(followed) => decisions.extend(followed),
        Err(error) => error!(error = chain(&error), "the sweep could not follow up on grants"),
    }
    if decisions.is_empty() {
        let reason = format!(
            "no access had ended; {live} grants are live; {known_faults} faults were already reported within the last \
             day"
        );
        decisions.push(Decision::new(Outcome::Idle, reason));
    }
    let answer = match failure {
        Some(error) => Err(error),
        None => Ok(Answer::Decisions(Decisions { decisions: decisions.clone() })),
    };
    Ok(Report { answer, decisions, notices: Vec::new(), settlement: None })
}

async fn check<S: Store>(policy: &NamedPolicy, deadline: Instant, run: &Run<'_, S>) -> Finding {
    match policy::read(&policy.document) {
        Reading::Grant(window) if !window.is_live(run.now()) => remove(policy, window, deadline, run).await,
        Reading::Grant(window) if is_ours(policy, window, deadline, run).await => {
            let decided = check_scheduled(policy, window, deadline, run).await;
            decided.map_or(Finding::Live, Finding::Decided)
        }
        Reading::Grant(window) => report_foreign(policy, window, deadline, run).await,
        Reading::OpenEnded(why) => report_open_ended(policy, why, deadline, run).await,
        Reading::DenyOnly => Finding::Nothing,
    }
}

/// Compares a policy that gives no access yet with the configuration.
async fn check_scheduled<S: Store>(
    policy: &NamedPolicy,
    window: Window,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Option<Decision<Outcome>> {
    let profile = policy.name.strip_prefix(policy::PREFIX).filter(|_| window.is_scheduled(run.now()))?;
    let (principal, document) = (&policy.principal, Some(policy.document.as_str()));
    let found = Found { principal, profile, window, document, extended: None };
    scheduled::check(&found, deadline, run).await
}

/// Whether Sekisho wrote a live policy. The ledger is read only for an end that no version of Sekisho would write. If
/// the ledger cannot be read, the policy counts as ours.
async fn is_ours<S: Store>(policy: &NamedPolicy, window: Window, deadline: Instant, run: &Run<'_, S>) -> bool {
    if run.is_ours(&policy.name, window, None) {
        return true;
    }
    let key = row::key(&policy.principal, &policy.name);
    match timeout_at(deadline, run.ledger.read::<GrantRow>(&key)).await {
        Ok(Ok(row)) => run.is_ours(&policy.name, window, row.as_ref().map(|row| &row.state)),
        Ok(Err(_)) | Err(_) => true,
    }
}

async fn remove<S: Store>(policy: &NamedPolicy, window: Window, deadline: Instant, run: &Run<'_, S>) -> Finding {
    let decided = |outcome, reason: &str| {
        Finding::Decided(decide(policy, outcome, reason).about("until", timestamp::seconds(window.end)))
    };
    let error = match timeout_at(deadline, remove_ended(&policy.principal, &policy.name, run)).await {
        Ok(Ok(Removal::Removed)) => return decided(Outcome::Swept, "the access had ended"),
        Ok(Ok(Removal::StillLive | Removal::Held)) => return Finding::Live,
        Ok(Ok(Removal::AlreadyGone)) => return Finding::Nothing,
        Ok(Ok(Removal::OpenEnded(why))) => return report_open_ended(policy, why, deadline, run).await,
        Ok(Err(error)) => error,
        Err(_) => return decided(Outcome::Failed, "no time was left to remove the policy; the next sweep tries again"),
    };
    // Every sweep fails in the same way until a person lets the function delete the policy. The failure is therefore
    // reported only once a day.
    let is_denied = matches!(&error, Error::Iam { source, .. } if source.kind == ErrorKind::Denied);
    let notice = notice::not_removed(&policy.principal, &policy.name, run.invocation);
    if is_denied && !notify(policy, "not-removed", &notice, deadline, run).await {
        return Finding::KnownFault;
    }
    decided(Outcome::Failed, &chain(&error))
}

async fn report_foreign<S: Store>(
    policy: &NamedPolicy,
    window: Window,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Finding {
    let notice = notice::foreign(&policy.principal, &policy.name, window.end, run.invocation);
    if notify(policy, "foreign", &notice, deadline, run).await {
        let decision = decide(policy, Outcome::Foreign, "it ends later than any policy that Sekisho writes");
        Finding::Decided(decision.about("until", timestamp::seconds(window.end)))
    } else {
        Finding::KnownFault
    }
}

async fn report_open_ended<S: Store>(
    policy: &NamedPolicy,
    why: &'static str,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Finding {
    let notice = notice::open_ended(&policy.principal, &policy.name, why, run.invocation);
    if notify(policy, "open-ended", &notice, deadline, run).await {
        Finding::Decided(decide(policy, Outcome::OpenEnded, why))
    } else {
        Finding::KnownFault
    }
}

fn decide(policy: &NamedPolicy, outcome: Outcome, reason: &str) -> Decision<Outcome> {
    outcome::about(Decision::new(outcome, reason), &policy.principal).about("policy", policy.name.clone())
}

/// Sends a notice about a fault, unless a notice was sent within the last day. Returns whether this sweep reports the
/// fault. If time runs out, the sweep reports the fault.
async fn notify<S: Store>(
    policy: &NamedPolicy,
    fault: &str,
    notice: &Notice,
    deadline: Instant,
    run: &Run<'_, S>,
) -> bool {
    timeout_at(deadline, notify_daily(policy, fault, notice, run)).await.unwrap_or(true)
}

/// Sends a notice, unless it was sent within the last day. Returns whether the notice was due.
async fn notify_daily<S: Store>(policy: &NamedPolicy, fault: &str, notice: &Notice, run: &Run<'_, S>) -> bool {
    let (kind, name) = (policy.principal.kind().as_str(), policy.principal.name());
    let key = Key::state(format!("notice#{fault}#{kind}/{name}#{}", policy.name));
    let now = run.now();
    let sent = SentNotice::read(run.ledger, key.clone(), now).await.unwrap_or_else(|error| {
        error!(error = chain(&error), "it is unknown whether a notice was sent already");
        SentNotice::unknown(key)
    });
    if sent.is_recent() {
        return false;
    }
    if let Err(error) = run.topic.publish(notice).await {
        error!(error = chain(&error), "a notice was not sent");
        return true;
    }
    if let Err(error) = sent.record(run.ledger, now + Duration::days(1), run.request_id()).await {
        error!(error = chain(&error), "a notice was sent, but this was not recorded");
    }
    true
}
