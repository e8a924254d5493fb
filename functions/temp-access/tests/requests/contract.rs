//! The answers that people and other programs rely on.

use sekisho_lambda::Failure;
use sekisho_testing::cases;
use temp_access::answer::Answer;

use crate::account::{Account, REVOKE, outcomes, text};

/// The table pairs each file in `events/temp-access` with the beginning of its answer, the outcomes of a sweep, or the
/// type of its error.
#[tokio::test(start_paused = true)]
async fn each_example_event_has_the_documented_answer() {
    let expected = [
        ("grant", "End time is 2026-11-21T23:45:00Z"),
        ("grant-all-fields", "End time is 2026-11-21T21:15:00Z"),
        ("dry-run", "Dry run"),
        ("revoke", "user prd-user had no access"),
        ("list", "Nobody has access now."),
        ("help", "Payloads for temp-access"),
        ("sweep", "idle"),
        ("follow-up", ""),
        ("later", "End time is 2026-11-22T14:00:00Z"),
        ("pending", "Nothing waits for an approval."),
        ("approve", "NotFound"),
        ("decline", "NotFound"),
        ("stranger", "Refused"),
        ("nobody", "NotFound"),
        ("too-long", "InvalidRequest"),
        ("twice", "InvalidRequest"),
        ("text-minutes", "InvalidRequest"),
        ("misspelt", "InvalidRequest"),
        ("curly-quotes", "InvalidRequest"),
        ("list-of-requests", "InvalidRequest"),
    ];
    cases::assert_complete("temp-access", expected.map(|(name, _)| name));
    for (name, expected) in expected {
        let account = Account::shipped();
        match account.invoke(&cases::file("temp-access", name)).await {
            Err(error) => assert_eq!(error.error_type().name(), expected, "{name}: {error}"),
            answer @ Ok(Answer::Decisions(_)) => assert_eq!(outcomes(answer).join(" "), expected, "{name}"),
            answer => assert!(text(answer).starts_with(expected), "{name}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_help_text_fits_a_phone() {
    let account = Account::new();
    let help = account.text(r#"{"action":"help"}"#).await;
    assert!(help.len() < 700 && help.lines().all(|line| line.chars().count() <= 60), "{help}");
    let command = "@Amazon Q lambda invoke --function-name temp-access\n--region ap-northeast-1 --payload";
    assert!(help.contains(command) && help.contains("/invite @Amazon Q"), "{help}");
    assert!(help.contains("180") && help.contains("480") && help.contains("read-only"), "{help}");
}

#[tokio::test(start_paused = true)]
async fn every_invocation_reports_a_wrong_configuration() {
    let account = Account::with("[access]\ndefault_minutes = 0\n");
    for payload in [r#"{"user":"prd-user"}"#, r#"{"action":"help"}"#] {
        let error = account.invoke(payload).await.unwrap_err();
        assert_eq!(error.error_type().name(), "Misconfigured");
        assert!(error.to_string().contains("access.default_minutes"), "{error}");
    }
    assert_eq!(account.outcomes(), ["failed", "failed"]);
    // A revoke needs no profile, so it works without the configuration.
    assert!(account.text(REVOKE).await.contains("no access"));
}
