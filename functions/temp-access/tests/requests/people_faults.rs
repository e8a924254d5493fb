//! `sekisho-window` with several writers, stale reads, an unreachable ledger, and invocations that die.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::join;
use proptest::prelude::*;
use temp_access::answer::Answer;
use temp_access::error::Error;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::account::{Account, minutes};

const PEOPLE: usize = 4;

/// A request about one person.
#[derive(Debug, Clone)]
struct Step {
    person: usize,
    is_grant: bool,
    /// When the invocation begins, in milliseconds.
    start: u64,
    /// After how many milliseconds the invocation dies; `None` if it doesn't.
    dies: Option<u64>,
}

/// What came of a request.
#[derive(Debug)]
struct Done {
    step: Step,
    start: Instant,
    end: Instant,
    told: Told,
}

/// What the caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It was done.
    Done,
    /// The grant begins a little later.
    Later,
    /// The access that had begun was ended, but other access may still begin.
    MayBegin,
    /// Nothing, or that it failed.
    Failed,
}

fn user(person: usize) -> String {
    format!("0123456789-11111111-2222-3333-4444-{person:012}")
}

async fn carry_out(account: &Account, step: Step, begin: Instant) -> Done {
    sleep_until(begin + Duration::from_millis(step.start)).await;
    let person = format!("p{}@example.com", step.person);
    let payload = if step.is_grant {
        format!(r#"{{"person":"{person}","minutes":300}}"#)
    } else {
        format!(r#"{{"action":"revoke","person":"{person}"}}"#)
    };
    let start = Instant::now();
    let limit = step.dies.map_or(minutes(1), Duration::from_millis);
    let answer: Option<Result<Answer, Error>> = timeout(limit, account.invoke(&payload)).await.ok();
    let told = match answer {
        Some(Ok(Answer::Text(text))) if text.contains("begins a little later") => Told::Later,
        Some(Ok(_)) => Told::Done,
        Some(Err(Error::MayBegin { .. })) => Told::MayBegin,
        Some(Err(_)) | None => Told::Failed,
    };
    Done { step, start, end: Instant::now(), told }
}

/// Who must be in and who must be out: a person whose last request was answered, and began after all others had ended.
/// Without the ledger, a revoke ends only access that has begun.
fn expected(done: &[Done]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
    for person in 0..PEOPLE {
        let theirs: Vec<&Done> = done.iter().filter(|one| one.step.person == person).collect();
        let Some(last) = theirs.iter().max_by_key(|one| one.start) else {
            outside.insert(user(person));
            continue;
        };
        let is_last = theirs.iter().all(|one| std::ptr::eq(*one, *last) || one.end < last.start);
        let is_known = match last.told {
            Told::Done | Told::Later => true,
            Told::MayBegin => theirs.iter().all(|one| one.told != Told::Later),
            Told::Failed => false,
        };
        if is_last && is_known {
            if last.step.is_grant { &mut inside } else { &mut outside }.insert(user(person));
        }
    }
    (inside, outside)
}

fn account(lags: &[u64], delays: Vec<u64>) -> Account {
    let account = Account::of_people();
    account.cloud.people(|people| {
        people.users = (0..=PEOPLE).map(|person| (format!("p{person}@example.com"), user(person))).collect();
        people.lags = lags.iter().map(|lag| Duration::from_secs(*lag)).collect();
    });
    account.cloud.set_delays(delays);
    account
}

fn check(account: &Account, done: &[Done], when: &str) {
    let let_in = account.cloud.people(|people| people.let_in());
    let (inside, outside) = expected(done);
    assert!(let_in.is_superset(&inside), "{when}: {inside:?} were answered, but only {let_in:?} are in: {done:#?}");
    assert!(let_in.is_disjoint(&outside), "{when}: {outside:?} were revoked, but {let_in:?} are in: {done:#?}");
}

/// Carries out the steps. The ledger cannot be reached between the two times, in milliseconds.
async fn play(steps: Vec<Step>, lags: Vec<u64>, delays: Vec<u64>, lost: (u64, u64)) -> Vec<Done> {
    play_in(account(&lags, delays), steps, lost, &[]).await
}

/// Like [`play`]. At each of the last times, the policy's row becomes one that cannot be read.
async fn play_in(account: Account, steps: Vec<Step>, lost: (u64, u64), spoils: &[u64]) -> Vec<Done> {
    let begin = Instant::now() + Duration::from_secs(30);
    // After a row that cannot be read, grants wait for two minutes, and then each follow-up enters at least one.
    let rounds = if spoils.is_empty() { 3 } else { 3 + PEOPLE };
    let outage = (begin + Duration::from_millis(lost.0), begin + Duration::from_millis(lost.1));
    account.fail_ledger(move |_| (outage.0..outage.1).contains(&Instant::now()));
    let spoiled = join_all(spoils.iter().map(async |at| {
        sleep_until(begin + Duration::from_millis(*at)).await;
        account.spoil_window().await;
    }));
    let (done, _) = join!(join_all(steps.into_iter().map(|step| carry_out(&account, step, begin))), spoiled);
    sleep_until(outage.1).await;
    for _ in 0..rounds {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
    check(&account, &done, "after the follow-ups");
    if !spoils.is_empty() {
        // The last follow-up may have written. A grant within seconds may find that IAM shows different states, and fail.
        sleep(minutes(1)).await;
    }
    let somebody = Step { person: PEOPLE, is_grant: true, start: 0, dies: None };
    let next = carry_out(&account, somebody, begin).await;
    assert!(next.told == Told::Done || next.told == Told::Later, "{next:?}");
    check(&account, &done, "after the next person's grant");
    for _ in 0..rounds {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
    check(&account, &done, "after the follow-ups of the next person's grant");
    assert!(account.cloud.people(|people| people.let_in()).contains(&user(PEOPLE)));
    done
}

fn run(play: impl Future<Output = Vec<Done>>) -> Vec<Done> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play)
}

fn a_step() -> impl Strategy<Value = Step> {
    let dies = prop_oneof![3 => Just(None), 1 => (0_u64..4_000).prop_map(Some)];
    (0..PEOPLE, any::<bool>(), 0_u64..40_000, dies).prop_map(|(person, is_grant, start, dies)| Step {
        person,
        is_grant,
        start,
        dies,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whoever_was_answered_is_in_and_nobody_comes_back(
        steps in proptest::collection::vec(a_step(), 3..10),
        lags in proptest::collection::vec(prop_oneof![1 => Just(0_u64), 3 => Just(20), 1 => 0_u64..20], 1..4),
        delays in proptest::collection::vec(0_u64..400, 1..6),
        lost in prop_oneof![1 => Just((0, 0)), 2 => (5_000_u64..35_000, 2_000_u64..15_000)],
    ) {
        run(play(steps, lags, delays, (lost.0, lost.0 + lost.1)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Nobody deletes the row by hand.
    #[test]
    fn nobody_comes_back_because_a_row_cannot_be_read(
        steps in proptest::collection::vec(a_step(), 3..10),
        lags in proptest::collection::vec(prop_oneof![1 => Just(0_u64), 3 => Just(20), 1 => 0_u64..20], 1..4),
        delays in proptest::collection::vec(0_u64..400, 1..6),
        lost in prop_oneof![2 => Just((0, 0)), 1 => (5_000_u64..35_000, 2_000_u64..15_000)],
        spoils in proptest::collection::vec(0_u64..60_000, 1..5),
    ) {
        run(play_in(account(&lags, delays), steps, (lost.0, lost.0 + lost.1), &spoils));
    }
}

/// One invocation dies. Each call takes 20 ms, and takes effect in the middle of them. If IAM shows everything at once, an
/// invocation dies between any two steps; otherwise, it dies while it waits for IAM.
#[test]
fn a_writer_may_die_after_each_step() {
    for is_grant in [true, false] {
        for (lag, dies) in [(0, (5..2_000).step_by(10)), (20, (0..2_000).step_by(100))] {
            let mut deaths = 0;
            for dies in dies {
                let step = |person, is_grant, start, dies| Step { person, is_grant, start, dies };
                let steps = vec![
                    step(0, true, 0, None),
                    step(1, true, 10_000, None),
                    step(usize::from(is_grant) * 2, is_grant, 20_000, Some(dies)),
                    step(3, true, 24_000, None),
                    step(1, false, 40_000, None),
                ];
                let done = run(async {
                    let account = account(&[lag], vec![20]);
                    account.set_ledger_delays(vec![20]);
                    play_in(account, steps, (0, 0), &[]).await
                });
                if done[2].told != Told::Failed {
                    break;
                }
                deaths += 1;
            }
            assert!(lag > 0 || (20..150).contains(&deaths), "{deaths} deaths");
        }
    }
}

/// The ledger fails in the middle of a revoke. The grant waits for its entry, and a follow-up still enters it.
#[test]
fn a_revoke_that_cannot_take_back_what_begins_later_fails() {
    let step = |person, is_grant, start| Step { person, is_grant, start, dies: None };
    let steps = vec![step(2, true, 5_266), step(2, false, 24_554), step(0, true, 4_422)];
    let done = run(play(steps, vec![20], vec![316], (25_825, 29_104)));
    assert_eq!([done[0].told, done[1].told], [Told::Later, Told::MayBegin]);
}
