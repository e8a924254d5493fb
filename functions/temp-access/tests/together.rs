//! Many at once.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail so")]

mod account;

use account::Account;
use futures_util::future::join_all;
use proptest::prelude::*;
use sekisho_lambda::Failure;
use temp_access::principal::Kind::User;
use tokio::time::{Duration, Instant, sleep};

/// 50 grants for 10 users at the same time: each user ends with access until the latest end that was asked for.
#[tokio::test(start_paused = true)]
async fn each_user_ends_with_the_latest_end_asked_for() {
    let account = Account::new();
    account.cloud.delays(vec![35, 80, 20, 110, 55, 65, 140]);
    *account.function.ledger.delays.borrow_mut() = vec![4, 12, 7, 30];
    for user in 0..10 {
        account.cloud.add(User, &format!("user-{user}"));
    }
    let start = Instant::now();
    let grants = (0..50_u64).map(|i| {
        let (account, user, minutes) = (&account, i % 10, 10 + (i * 37) % 200);
        async move {
            sleep(Duration::from_millis(i * 3)).await;
            let asked_at = account.now();
            let payload = format!(r#"{{"user":"user-{user}","minutes":{minutes}}}"#);
            let answer = account.invoke(&payload).await;
            (user, asked_at + Duration::from_mins(minutes), answer)
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
        let end = sekisho_domain::timestamp::parse_seconds(&end).unwrap();
        // Each counts from when it had its turn.
        assert!(
            end >= latest - Duration::from_secs(1) && end <= latest + Duration::from_secs(13),
            "{name}: {end} {latest}"
        );
        let row = account.row(&format!("user/{name}/admin")).await.unwrap().state;
        assert_eq!((row.end, row.held_until), (end, 0), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever the calls take and whoever comes when: no answer promises what is then taken away by another grant.
    #[test]
    fn no_grant_shortens_what_another_has_promised(
        requests in prop::collection::vec((0_u64..400, 1_u32..200, 0_usize..3), 2..7),
        delays in prop::collection::vec(1_u64..150, 1..9),
        ledger in prop::collection::vec(1_u64..60, 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let account = Account::new();
            account.cloud.delays(delays);
            *account.function.ledger.delays.borrow_mut() = ledger;
            let answers = join_all(requests.iter().map(async |(begin, minutes, profile)| {
                sleep(Duration::from_millis(*begin)).await;
                let profile = ["admin", "admin", "read-only"][*profile];
                let payload = format!(r#"{{"user":"prd-user","minutes":{minutes},"profile":"{profile}"}}"#);
                (profile, account.invoke(&payload).await)
            })).await;
            for (profile, answer) in answers {
                let text = match answer {
                    Ok(answer) => account::text(Ok(answer)),
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

    /// Whatever a grant does meanwhile: after a revoke the access that it ended is not there again.
    #[test]
    fn what_a_revoke_ends_does_not_come_back_with_a_grant_at_the_same_time(
        revoke in 0_u64..600,
        grants in prop::collection::vec(0_u64..600, 1..4),
        delays in prop::collection::vec(1_u64..150, 1..9),
        ledger in prop::collection::vec(1_u64..60, 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let account = Account::new();
            account.invoke(r#"{"user":"prd-user","minutes":480}"#).await.unwrap();
            sleep(Duration::from_mins(3)).await;
            account.cloud.delays(delays);
            *account.function.ledger.delays.borrow_mut() = ledger;
            let revoked = async {
                sleep(Duration::from_millis(revoke)).await;
                account.invoke(r#"{"action":"revoke","user":"prd-user"}"#).await
            };
            let granted = join_all(grants.iter().map(async |begin| {
                sleep(Duration::from_millis(*begin)).await;
                account.invoke(r#"{"user":"prd-user","minutes":10}"#).await
            }));
            let (revoked, _) = futures_util::join!(revoked, granted);
            let revoked = account::text(revoked);
            assert!(revoked.contains("is ended"), "{revoked}");
            if let Some(end) = account.cloud.end(User, "prd-user", "sekisho-admin") {
                assert!(end.as_str() < "2026-11-21T20:59", "{end}: {revoked}");
            }
            // Nor with the next one.
            sleep(Duration::from_secs(14)).await;
            account.invoke(r#"{"user":"prd-user","minutes":10}"#).await.unwrap();
            let end = account.cloud.end(User, "prd-user", "sekisho-admin").unwrap();
            assert!(end.as_str() < "2026-11-21T20:59", "{end}: {revoked}");
        });
    }
}
