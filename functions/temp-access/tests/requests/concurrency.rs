//! Several invocations at the same time.

use futures_util::future::{join, join_all};
use proptest::prelude::*;
use sekisho_domain::timestamp;
use sekisho_lambda::Failure;
use sekisho_ledger::Lease;
use serde_json::json;
use temp_access::principal::Kind::User;
use tokio::time::{Duration, Instant, sleep};

use crate::account::{Account, Fault, GRANT, REVOKE, text};

#[tokio::test(start_paused = true)]
async fn two_grants_at_once_end_with_the_later_end() {
    for (ahead, one, other) in [(0, 30, 60), (0, 60, 30), (3, 30, 60), (3, 60, 30), (40, 60, 30), (90, 30, 60)] {
        let account = Account::new();
        account.cloud.set_delays(vec![30, 5, 80, 10, 50, 20, 40]);
        let payload = |minutes: u32| format!(r#"{{"user":"prd-user","minutes":{minutes}}}"#);
        let (one, other) = (payload(one), payload(other));
        let (first, second) = join(account.invoke(&one), async {
            sleep(Duration::from_millis(ahead)).await;
            account.invoke(&other).await
        })
        .await;
        let (first, second) = (text(first), text(second));
        let end = account.admin_end().unwrap();
        assert!(end.starts_with("2026-11-21T21:45:0"), "{first}\n{second}");
        assert!(first.contains(&end) || second.contains(&end));
    }
}

/// The hub's answer is lost, and the same request is handed on again while its first attempt is still running.
#[tokio::test(start_paused = true)]
async fn two_attempts_of_one_request_at_once_make_one_grant() {
    for ahead in [0, 1, 20, 60, 100, 140, 200, 300, 500] {
        let mut account = Account::new();
        account.function.hub = Some("222222222222".to_owned());
        account.cloud.set_delays(vec![30, 5, 80, 10, 50, 20, 40]);
        account.set_ledger_delays(vec![4, 12, 7, 30]);
        let until = timestamp::millis(account.now() + Duration::from_secs(12));
        let envelope = json!({"version": 1, "id": "one", "until": until, "door": null, "request":
            {"user": "prd-user", "minutes": 30}});
        let envelope = envelope.to_string();
        let (first, second) = join(account.invoke_at("hub", &envelope), async {
            sleep(Duration::from_millis(ahead)).await;
            account.invoke_at("hub", &envelope).await
        })
        .await;
        let end = account.admin_end().unwrap();
        for answer in [text(first), text(second)] {
            assert_eq!(answer.lines().next(), Some(format!("End time is {end}").as_str()), "{ahead}: {answer}");
        }
        let row = account.row("user/prd-user/admin").await.unwrap().state;
        assert_eq!((timestamp::seconds(row.end), row.requests, row.lease), (end, vec!["one".to_owned()], Lease::FREE));
    }
}

/// The first attempt waits for IAM when the second one fails. A revoke still knows of the first one.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_leaves_the_lease_to_the_one_that_is_running() {
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 1, Fault::Lost);
    let others = async {
        sleep(Duration::from_millis(100)).await;
        account.cloud.fail("PutUserPolicy", 1, Fault::Code("AccessDenied", 403));
        let second = account.invoke_as("one", GRANT).await;
        (second, account.invoke(REVOKE).await)
    };
    let (first, (second, revoked)) = join(account.invoke_as("one", GRANT), others).await;
    assert_eq!(second.unwrap_err().error_type().name(), "Refused");
    let (first, revoked) = (text(first), text(revoked));
    assert!(revoked.contains("is ended"), "{revoked}");
    assert_eq!(account.admin_end(), None, "{first}\n{revoked}");
}

/// A grant may read the names of the policies before another grant is made, and the ledger's row afterwards.
#[tokio::test(start_paused = true)]
async fn a_grant_notices_another_grant_between_its_two_reads() {
    let account = Account::new();
    account.cloud.set_delays(vec![2]);
    // The second read of the ledger is answered long after the first invocation has finished.
    let mut delays = vec![1; 50];
    delays[1] = 200;
    account.set_ledger_delays(delays);
    let longer = account.invoke(r#"{"user":"prd-user","minutes":60}"#);
    let (longer, shorter) = join(longer, account.invoke(GRANT)).await;
    let (longer, shorter) = (text(longer), text(shorter));
    assert_eq!(longer.lines().next(), Some("End time is 2026-11-21T21:45:00Z"));
    assert_eq!(shorter.lines().next(), Some("End time is 2026-11-21T21:45:00Z"));
    assert_eq!(account.admin_end().unwrap(), "2026-11-21T21:45:00Z");
}

#[tokio::test(start_paused = true)]
async fn fifty_grants_at_once_leave_each_user_with_the_latest_end() {
    let account = Account::new();
    account.cloud.set_delays(vec![35, 80, 20, 110, 55, 65, 140]);
    account.set_ledger_delays(vec![4, 12, 7, 30]);
    for user in 0..10 {
        account.cloud.add(User, &format!("user-{user}"));
    }
    let start = Instant::now();
    let grants = (0..50_u64).map(|i| {
        let (account, user, minutes) = (&account, i % 10, 10 + (i * 37) % 200);
        async move {
            sleep(Duration::from_millis(i * 3)).await;
            let begin = account.now();
            let payload = format!(r#"{{"user":"user-{user}","minutes":{minutes}}}"#);
            let answer = account.invoke(&payload).await;
            (user, begin + Duration::from_mins(minutes), answer)
        }
    });
    let grants = join_all(grants).await;
    assert!(start.elapsed() < Duration::from_secs(13), "{:?}", start.elapsed());
    for user in 0..10 {
        let name = format!("user-{user}");
        let of_user: Vec<_> = grants.iter().filter(|(whose, ..)| *whose == user).collect();
        assert_eq!(of_user.len(), 5);
        for (_, _, answer) in &of_user {
            assert!(answer.is_ok(), "{answer:?}");
        }
        let latest = of_user.iter().map(|(_, end, _)| *end).max().unwrap();
        let end = account.cloud.end(User, &name, "sekisho-admin").unwrap();
        let end = timestamp::parse_seconds(&end).unwrap();
        // The minutes of a grant begin when the grant is planned, so the end may be some seconds later than `latest`.
        assert!(
            end >= latest - Duration::from_secs(1) && end <= latest + Duration::from_secs(13),
            "{name}: {end} {latest}"
        );
        let row = account.row(&format!("user/{name}/admin")).await.unwrap().state;
        assert_eq!((row.end, row.lease), (end, Lease::FREE), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// For all delays and orders: no grant takes away access that the answer to another grant promised.
    #[test]
    fn no_grant_shortens_the_end_that_another_answered(
        requests in prop::collection::vec((0_u64..400, 1_u32..200, 0_usize..3), 2..7),
        delays in prop::collection::vec(1_u64..150, 1..9),
        ledger in prop::collection::vec(1_u64..60, 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let account = Account::new();
            account.cloud.set_delays(delays);
            account.set_ledger_delays(ledger);
            let answers = join_all(requests.iter().map(async |(begin, minutes, profile)| {
                sleep(Duration::from_millis(*begin)).await;
                let profile = ["admin", "admin", "read-only"][*profile];
                let payload = format!(r#"{{"user":"prd-user","minutes":{minutes},"profile":"{profile}"}}"#);
                (profile, account.invoke(&payload).await)
            })).await;
            for (profile, answer) in answers {
                let text = match answer {
                    Ok(answer) => text(Ok(answer)),
                    Err(error) => {
                        assert_eq!(error.error_type().name(), "Throttled", "{error}");
                        continue;
                    }
                };
                let promised = text.lines().next().unwrap().strip_prefix("End time is ").unwrap().to_owned();
                let end = account.cloud.end(User, "prd-user", &format!("sekisho-{profile}")).unwrap();
                assert!(end >= promised, "{end} is before {promised}");
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// For all delays and orders: access that a revoke ended does not exist again after a concurrent grant.
    #[test]
    fn revoked_access_does_not_return_with_a_concurrent_grant(
        revoke in 0_u64..600,
        grants in prop::collection::vec(0_u64..600, 1..4),
        delays in prop::collection::vec(1_u64..150, 1..9),
        ledger in prop::collection::vec(1_u64..60, 1..5),
    ) {
        revoke_beside_grants(revoke, &grants, delays, ledger);
    }
}

/// Begins a revoke and several grants at the given times, in milliseconds. Each call to IAM takes the next time in
/// `delays`, and each call to the ledger takes the next time in `ledger`.
fn revoke_beside_grants(revoke: u64, grants: &[u64], delays: Vec<u64>, ledger: Vec<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let account = Account::new();
        account.invoke(r#"{"user":"prd-user","minutes":480}"#).await.unwrap();
        sleep(Duration::from_mins(3)).await;
        account.cloud.set_delays(delays);
        account.set_ledger_delays(ledger);
        let revoked = async {
            sleep(Duration::from_millis(revoke)).await;
            account.invoke(REVOKE).await
        };
        let granted = join_all(grants.iter().map(async |begin| {
            sleep(Duration::from_millis(*begin)).await;
            account.invoke(r#"{"user":"prd-user","minutes":10}"#).await
        }));
        let (revoked, _) = futures_util::join!(revoked, granted);
        let revoked = text(revoked);
        assert!(revoked.contains("is ended"), "{revoked}");
        if let Some(end) = account.cloud.end(User, "prd-user", "sekisho-admin") {
            assert!(end.as_str() < "2026-11-21T20:59", "{end}: {revoked}");
        }
        // The next grant does not bring the ended access back either.
        sleep(Duration::from_secs(14)).await;
        account.invoke(r#"{"user":"prd-user","minutes":10}"#).await.unwrap();
        let end = account.cloud.end(User, "prd-user", "sekisho-admin").unwrap();
        assert!(end.as_str() < "2026-11-21T20:59", "{end}: {revoked}");
    });
}

/// With these times, a grant waits for IAM until the revoke reaches its time limit. The grant settles its row at the
/// same moment.
#[test]
fn a_revoke_is_recorded_although_a_grant_writes_the_row_at_the_revokes_limit() {
    revoke_beside_grants(566, &[18, 18, 577], vec![62, 136, 38, 33], vec![20, 42, 54]);
}
