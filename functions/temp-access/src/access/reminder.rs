//! The reminder ten minutes before the end of access.

use sekisho_domain::access::{Access, Approval};
use sekisho_domain::timestamp;
use sekisho_ledger::{Row, Store};
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

use crate::access::owed::{notify_once, subject};
use crate::notice::ending::{self, Reminder};
use crate::row::{GrantRow, State};
use crate::run::Run;

/// How long before the end the reminder is sent.
const AHEAD: Duration = Duration::minutes(10);

/// Sends each reminder that is due, once for each end.
pub(super) async fn remind<S: Store>(rows: &[Row<GrantRow>], deadline: Instant, run: &Run<'_, S>) {
    for row in rows {
        if !is_due(&row.state, run.now()) {
            continue;
        }
        let Some((principal, profile)) = subject(row, run) else { continue };
        let obstacle = run.access.as_ref().ok().and_then(|access| obstacle(access, &profile, &row.state));
        let GrantRow { end, reason, consent, .. } = &row.state;
        let (end, reason) = (*end, reason.as_deref());
        let reminder = Reminder { principal: &principal, profile: &profile, end, reason, consent, obstacle };
        let marked = GrantRow { reminded: Some(end), ..row.state.clone() };
        notify_once(row, &marked, &ending::reminder(&reminder, run.invocation), deadline, run).await;
    }
}

/// Whether the access ends within ten minutes, and was given or extended earlier than that. Whoever asked later has
/// just read the end in the answer.
fn is_due(row: &GrantRow, now: OffsetDateTime) -> bool {
    let begin = row.end - AHEAD;
    row.state == State::Granted
        && (begin..row.end).contains(&now)
        && row.reminded != Some(row.end)
        && row.window().start < begin
        && row.claimed < timestamp::epoch_millis(begin)
}

/// Why a request at the channel's door could not extend the access.
fn obstacle(access: &Access, profile: &str, row: &GrantRow) -> Option<&'static str> {
    let Some((_, configured)) = access.profiles.iter().find(|(name, _)| name.as_str() == profile) else {
        return Some("It cannot be extended, because the configuration does not have this profile any more.");
    };
    if configured.approval == Approval::Another {
        return Some("To extend it, ask at your own door; somebody else has to approve the request.");
    }
    if configured.break_glass {
        return Some("To extend it, ask at your own door.");
    }
    let last = row.start.saturating_add(access.longest(profile).duration());
    (last <= row.end).then_some("It cannot be extended, because the chain of grants is as long as the profile allows.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Window;
    use sekisho_domain::config::Document;
    use time::macros::datetime;

    const START: OffsetDateTime = datetime!(2026-11-21 20:45 UTC);

    fn granted(minutes: i64) -> GrantRow {
        let window = Window { start: START, end: START + Duration::minutes(minutes) };
        GrantRow::held(State::Intent, window, "one", None, START).settled(State::Granted)
    }

    #[test]
    fn a_reminder_is_due_in_the_last_ten_minutes() {
        let row = granted(30);
        for (minute, due) in [(0, false), (19, false), (20, true), (29, true), (30, false)] {
            assert_eq!(is_due(&row, START + Duration::minutes(minute)), due, "{minute}");
        }
        let now = START + Duration::minutes(21);
        for state in [State::Intent, State::Revoked, State::Expired] {
            assert!(!is_due(&GrantRow { state, ..row.clone() }, now), "{state:?}");
        }
        assert!(!is_due(&GrantRow { reminded: Some(row.end), ..row.clone() }, now));
        assert!(is_due(&GrantRow { reminded: Some(row.end - Duration::SECOND), ..row }, now));
    }

    #[test]
    fn whoever_asked_within_the_last_ten_minutes_needs_no_reminder() {
        assert!(!is_due(&granted(10), START + Duration::MINUTE));
        assert!(is_due(&granted(11), START + Duration::minutes(2)));
        // Somebody extends the access by ten minutes.
        let now = START + Duration::minutes(25);
        let later = Window { start: START, end: START + Duration::minutes(35) };
        let row = GrantRow::held(State::Intent, later, "two", Some(&granted(30)), now).settled(State::Granted);
        assert!(!is_due(&row, now + Duration::MINUTE));
    }

    #[test]
    fn the_button_is_left_out_if_it_could_not_extend_the_access() {
        let config = r#"
[access]
default_minutes = 30
max_minutes     = 60
default_profile = "plain"
[access.profiles.plain]
statements = [{ actions = ["ec2:*"], resources = ["*"] }]
[access.profiles.approved]
statements = [{ actions = ["ec2:*"], resources = ["*"] }]
approval = "another"
[access.profiles.urgent]
statements = [{ actions = ["ec2:*"], resources = ["*"] }]
break_glass = true
"#;
        let access = Document::parse("sekisho.toml", config).unwrap().access().unwrap();
        let cases = [
            ("plain", 59, None),
            ("plain", 60, Some("as long as the profile allows")),
            ("approved", 30, Some("somebody else has to approve")),
            ("urgent", 30, Some("ask at your own door.")),
            ("gone", 30, Some("does not have this profile")),
        ];
        for (profile, minutes, expected) in cases {
            let found = obstacle(&access, profile, &granted(minutes));
            assert_eq!(found.is_some(), expected.is_some(), "{profile} {minutes}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{profile}: {found:?}");
        }
    }
}
