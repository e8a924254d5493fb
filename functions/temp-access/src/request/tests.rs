//! What people type, and what the answer to a mistyped request says.

use super::*;
use proptest::prelude::*;

fn grant(payload: &str) -> Grant {
    match parse(payload).unwrap() {
        Payload::Here(Request::Grant(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_with_only_a_user_is_complete() {
    let grant = grant(r#"{"user":"prd-user"}"#);
    assert_eq!(grant.principal.to_string(), "user prd-user");
    assert_eq!((grant.minutes, grant.profile, grant.reason, grant.dry_run), (None, None, None, false));
}

#[test]
fn what_chat_mangles_is_understood() {
    let mailto = r#"{"user":"<mailto:hana@example.com|hana@example.com>"}"#;
    assert_eq!(grant(mailto).principal.name(), "hana@example.com");
    let spaces = "{\u{a0}\"user\":\u{a0}\"prd-user\",\u{2003}\"minutes\":\u{3000}30}";
    assert_eq!(grant(spaces).minutes, Some(30));
    let reason = grant(r#"{"user":"a","reason":"the “shop” isn’t up &amp; <http://api.example|api.example> is"}"#);
    assert_eq!(reason.reason.as_deref(), Some("the “shop” isn’t up & api.example is"));
    // The quotes inside the reason are not the problem.
    let Err(Error::Invalid(message)) = parse(r#"{"user":"a","reason":"isn’t up""#) else { panic!("accepted") };
    assert!(message.contains("not JSON"), "{message}");
}

#[test]
fn all_fields_are_read() {
    let grant = grant(
        r##" {"action":"grant","role":"ops","minutes":30,"profile":"read-only",
            "reason":"障害対応 \"#42\" 🚒","dry_run":true} "##,
    );
    assert_eq!(grant.principal.to_string(), "role ops");
    assert_eq!((grant.minutes, grant.profile.as_deref(), grant.dry_run), (Some(30), Some("read-only"), true));
    assert_eq!(grant.reason.as_deref(), Some("障害対応 \"#42\" 🚒"));
}

#[test]
fn a_schedules_event_asks_for_a_sweep_or_a_follow_up() {
    let event = r#"{"version":"0","id":"x","detail-type":"Scheduled Event","source":"aws.events",
        "account":"333333333333","time":"2026-11-21T00:00:00Z","region":"ap-northeast-1","resources":["arn"],
        "detail":{}}"#;
    let parse = |event: &str| match parse(event).unwrap() {
        Payload::Here(request) => request,
        other @ Payload::Account { .. } => panic!("{other:?}"),
    };
    assert_eq!(parse(event), Request::Sweep);
    assert_eq!(parse(r#"{"source":"aws.events"}"#), Request::Sweep);
    let rule = "arn:aws:events:ap-northeast-1:333333333333:rule/sekisho-access-follow-up";
    assert_eq!(parse(&event.replace("arn", rule)), Request::FollowUp);
}

#[test]
fn a_request_for_another_account_is_handed_on_as_it_was_typed() {
    let payload = "{\u{a0}\"user\":\"<mailto:a@b.c|a@b.c>\",\"account\": \"production\", \"minutes\" : 1.50,\
        \"re\\u0061son\":\"“x”\"}";
    let name = "production".to_owned();
    let request = r#"{"user":"<mailto:a@b.c|a@b.c>","minutes":1.50,"reason":"“x”"}"#.to_owned();
    assert_eq!(parse(payload).unwrap(), Payload::Account { name, request });
    let Err(Error::Invalid(message)) = parse(r#"{"user":"a","account":333333333333}"#) else { panic!("accepted") };
    assert!(message.contains("`account` is a number"), "{message}");
}

#[test]
fn a_widget_is_never_anything_else() {
    for fields in ["", r#","action":"revoke","user":"a""#, r#","source":"aws.events""#, r#","account":"x""#] {
        for widget in [r#""describe":true"#, r#""widgetContext":{}"#] {
            let payload = format!("{{{widget}{fields}}}");
            assert_eq!(parse(&payload).unwrap(), Payload::Here(Request::Widget(payload)));
        }
    }
}

#[test]
fn an_invalid_payload_is_refused_with_the_correction() {
    let long = format!(r#"{{"user":"a","reason":"{}"}}"#, "あ".repeat(501));
    let cases = [
        ("", "one JSON object"),
        ("null", "one JSON object"),
        ("3", "one JSON object"),
        (r#"[{"user":"a"}]"#, "a list"),
        (r#""{\"user\":\"a\"}""#, "quotes around the object"),
        ("{“user”:“a”}", "curly or wide quotes"),
        ("{＂user＂:＂a＂}", "wide quotes"),
        (r#"{"user":"a"} {"user":"b"}"#, "not JSON"),
        (r#"{"user":"a""#, "not JSON"),
        ("{}", "`user`, `role` or `person` is missing"),
        (r#"{"action":"revoke"}"#, "is missing in this revoke"),
        (r#"{"user":"a","role":"b"}"#, "both given"),
        (r#"{"user":"a","user":"b"}"#, "given twice"),
        (r#"{"user":"a","\u0075ser":"a"}"#, "given twice"),
        (r#"{"usr":"a"}"#, "`usr` is not a field"),
        (r#"{"User":"a"}"#, "`User` is not a field"),
        (r#"{"user":null}"#, "`user` is null"),
        (r#"{"user":["a"]}"#, "`user` is a list"),
        (r#"{"user":7}"#, "`user` is a number"),
        (r#"{"user":""}"#, "`user` is empty"),
        (r#"{"user":"“a”"}"#, "straight quotes"),
        (r#"{"user":"a","minutes":"30"}"#, "`minutes` is a text"),
        (r#"{"user":"a","minutes":null}"#, "`minutes` is null"),
        (r#"{"user":"a","minutes":1.5}"#, "not a whole number"),
        (r#"{"user":"a","minutes":30.0}"#, "not a whole number"),
        (r#"{"user":"a","minutes":3e1}"#, "not a whole number"),
        (r#"{"user":"a","minutes":0}"#, "at least 1"),
        (r#"{"user":"a","minutes":-5}"#, "at least 1"),
        (r#"{"user":"a","minutes":-99999999999999999999999999999999999999999999}"#, "below zero"),
        (r#"{"user":"a","profile":1}"#, "`profile` is a number"),
        (r#"{"user":"a","dry_run":"true"}"#, "`dry_run` is a text"),
        (r#"{"user":"a","dry_run":1}"#, "`dry_run` is a number"),
        (r#"{"user":"a","reason":{}}"#, "`reason` is an object"),
        (r#"{"user":"a","reason":"\ud800"}"#, "half a character"),
        (&long, "at most 500"),
        (r#"{"action":"Grant","user":"a"}"#, "write grant, revoke, list, help, approve"),
        (r#"{"action":"revoke","user":"a","profile":"admin"}"#, "not a field of revoke"),
        (r#"{"action":"revoke","user":"a","minutes":1}"#, "not a field of revoke"),
        (r#"{"action":"list","user":"a"}"#, "not a field of list"),
        (r#"{"action":"help","user":"a"}"#, "not a field of help"),
        (r#"{"source":"aws.codecommit","detail-type":"x"}"#, "not aws.events"),
        (r#"{"source":"aws.events","user":"a"}"#, "`user` is not a field of a schedule's event"),
    ];
    for (payload, expected) in cases {
        let Err(Error::Invalid(message)) = parse(payload) else { panic!("{payload} was accepted") };
        assert!(message.contains(expected), "{payload}: {message}");
        assert!(!message.contains('\n') && message.len() < 400, "{message}");
    }
}

#[test]
fn no_number_of_minutes_wraps_around() {
    assert_eq!(grant(r#"{"user":"a","minutes":18446744073709551617}"#).minutes, Some(u64::MAX));
    let digits = "9".repeat(60);
    assert_eq!(grant(&format!(r#"{{"user":"a","minutes":{digits}}}"#)).minutes, Some(u64::MAX));
}

proptest! {
    #[test]
    fn any_reason_without_marks_of_slack_arrives_as_it_was_typed(
        reason in "[^<>&\\pC]{0,500}|[\u{0}-\u{1f}]{0,20}|[^<>&]{0,500}",
    ) {
        let payload = serde_json::json!({"user": "prd-user", "reason": reason}).to_string();
        prop_assert_eq!(grant(&payload).reason, Some(reason));
    }

    #[test]
    fn any_text_is_a_request_or_a_message(payload in ".{0,200}") {
        let _ = parse(&payload);
    }
}
