//! The list of everybody with access.

use temp_access::principal::Kind::User;
use tokio::time::advance;

use crate::account::{Account, Fault, LIST, minutes, windowed};

#[tokio::test(start_paused = true)]
async fn a_list_shows_principal_profile_end_and_reason() {
    let account = Account::new();
    assert_eq!(account.text(LIST).await, "Nobody has access now.");
    account.text(r#"{"user":"prd-user","minutes":90,"reason":"<b>release</b>"}"#).await;
    account.text(r#"{"role":"ops","minutes":1}"#).await;
    account.text(r#"{"role":"ops","minutes":200,"profile":"read-only"}"#).await;
    account.text(r#"{"action":"revoke","role":"ops"}"#).await;
    account.text(r#"{"role":"ops","minutes":30}"#).await;
    advance(minutes(5)).await;
    let listed = account.text(LIST).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].starts_with("role ops: admin until 2026-11-21T21:15:0"), "{listed}");
    assert!(
        lines[0].ends_with("(24 min left): no reason given") || lines[0].ends_with("(25 min left): no reason given")
    );
    assert!(lines[1].contains("user prd-user: admin until 2026-11-21T22:15:00Z (1 h 2"), "{listed}");
    assert!(lines[1].ends_with("&lt;b&gt;release&lt;/b&gt;"), "{listed}");
}

#[tokio::test(start_paused = true)]
async fn a_list_shows_access_that_only_iam_or_only_the_ledger_knows() {
    let account = Account::new();
    account.cloud.set_page_size(1);
    let by_hand = windowed("2026-11-21T20:43:00Z", "2026-11-21T23:45:00Z");
    account.cloud.put(User, "stranger", "sekisho-admin", &by_hand);
    account.text(r#"{"user":"prd-user","minutes":30,"reason":"release"}"#).await;
    let listed = account.text(LIST).await;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("release\nuser stranger: admin until 2026-11-21T23:45:00Z"), "{listed}");
    assert!(listed.ends_with("(the ledger does not know of it)"), "{listed}");
    // Without the ledger, the list has the access that IAM shows; without IAM, the access that the ledger records.
    account.fail_ledger(|_| true);
    let listed = account.text(LIST).await;
    assert!(listed.contains("user prd-user: admin") && listed.contains("the reasons are missing"), "{listed}");
    account.fail_ledger(|_| false);
    account.cloud.fail("GetAccountAuthorizationDetails", 9, Fault::Code("AccessDenied", 403));
    let listed = account.text(LIST).await;
    assert!(listed.contains("user prd-user: admin until 2026-11-21T21:15:0"), "{listed}");
    assert!(listed.contains("Not all users and roles could be read"), "{listed}");
    // The ledger records a grant, but its policy was deleted by hand.
    advance(minutes(5)).await;
    account.cloud.remove(User, "prd-user", "sekisho-admin");
    let listed = account.text(LIST).await;
    assert!(listed.contains("only the ledger says so"), "{listed}");
}
