//! Sessions of Session Manager: whose a session is, and whether it began inside a window.

use time::OffsetDateTime;

use crate::principal::{Kind, Principal};
use crate::window::LEEWAY;

/// What the name of the role of our permission set begins with; its name ends with a random part.
pub(crate) const WINDOW_ROLE: &str = "AWSReservedSSO_sekisho-window_";

/// A session that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenSession {
    /// The session's id, which begins with the name of the user or of the role's session.
    pub(crate) id: String,
    /// The ARN of the caller that opened the session: a user's ARN, or that of a role's session.
    pub(crate) owner: String,
    /// When the session began, if SSM says it.
    pub(crate) start: Option<OffsetDateTime>,
}

impl OpenSession {
    /// Whether the principal opened the session, and between the two times. A session without a start counts.
    pub(crate) fn belongs_to(
        &self,
        principal: &Principal,
        account: &str,
        (from, until): (OffsetDateTime, Option<OffsetDateTime>),
    ) -> bool {
        // A policy begins to give access a little before its window, and clocks disagree about its end as well.
        let began_inside = self.start.is_none_or(|start| {
            from.saturating_sub(LEEWAY) <= start && until.is_none_or(|until| start <= until.saturating_add(LEEWAY))
        });
        began_inside && is_opened_by(&self.owner, principal, account)
    }
}

/// Whether an ARN is that of the user, or of a session of the role.
fn is_opened_by(owner: &str, principal: &Principal, account: &str) -> bool {
    let parts: Vec<&str> = owner.splitn(6, ':').collect();
    let ["arn", _, service, _, owned_by, resource] = parts.as_slice() else { return false };
    let names: Vec<&str> = resource.split('/').collect();
    let is_same = match (principal.kind(), *service, names.as_slice()) {
        // A user's ARN has the user's path before the name.
        (Kind::User, "iam", ["user", .., name]) | (Kind::Role, "sts", ["assumed-role", name, _]) => {
            *name == principal.name()
        }
        // The role belongs to all people of the permission set. Identity Center names a session after the user.
        (Kind::Person, "sts", ["assumed-role", role, name]) => {
            role.starts_with(WINDOW_ROLE) && name.eq_ignore_ascii_case(principal.name())
        }
        _ => false,
    };
    is_same && *owned_by == account
}

/// What happened to the open sessions of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionsEnd {
    /// All of them were ended, with their number.
    Ended(usize),
    /// Some or all of them may still be open.
    Failed {
        /// How many were ended.
        ended: usize,
        /// The reason.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    const FROM: OffsetDateTime = datetime!(2026-11-21 20:45 UTC);

    fn session(owner: &str, start: Option<OffsetDateTime>) -> OpenSession {
        OpenSession { id: "one".to_owned(), owner: owner.to_owned(), start }
    }

    #[test]
    fn a_session_belongs_to_the_user_or_role_that_opened_it() {
        let user = Principal::new(Kind::User, "prd-user").unwrap();
        let role = Principal::new(Kind::Role, "ops").unwrap();
        let person = Principal::person("0123456789-a", Some("hana@example.com"));
        let owner =
            |role: &str, name: &str| format!("arn:aws:sts::333333333333:assumed-role/AWSReservedSSO_{role}/{name}");
        for (owner, of_person) in [
            (owner("sekisho-window_0123456789abcdef", "hana@example.com"), true),
            (owner("sekisho-window_0123456789abcdef", "Hana@example.com"), true),
            (owner("sekisho-window_0123456789abcdef", "taro@example.com"), false),
            (owner("ReadOnly_0123456789abcdef", "hana@example.com"), false),
            ("arn:aws:iam::333333333333:user/hana@example.com".to_owned(), false),
            ("arn:aws:sts::333333333333:assumed-role/ops/hana@example.com".to_owned(), false),
        ] {
            let session = session(&owner, Some(FROM));
            assert_eq!(session.belongs_to(&person, "333333333333", (FROM, None)), of_person, "{owner}");
        }
        let cases = [
            ("arn:aws:iam::333333333333:user/prd-user", true, false),
            ("arn:aws:iam::333333333333:user/team/night/prd-user", true, false),
            ("arn:aws:iam::444444444444:user/prd-user", false, false),
            ("arn:aws:iam::333333333333:user/prd-user-2", false, false),
            ("arn:aws:iam::333333333333:user/PRD-user", false, false),
            ("arn:aws:sts::333333333333:assumed-role/ops/hana", false, true),
            ("arn:aws:sts::333333333333:assumed-role/ops/prd-user", false, true),
            ("arn:aws:sts::333333333333:assumed-role/other/ops", false, false),
            ("arn:aws:sts::333333333333:assumed-role/ops", false, false),
            ("arn:aws:sts::444444444444:assumed-role/ops/hana", false, false),
            ("arn:aws:sts::333333333333:federated-user/prd-user", false, false),
            ("arn:aws:iam::333333333333:role/ops", false, false),
            ("arn:aws:iam::333333333333:root", false, false),
            ("prd-user", false, false),
            ("", false, false),
        ];
        for (owner, of_user, of_role) in cases {
            let session = session(owner, Some(FROM));
            assert_eq!(session.belongs_to(&user, "333333333333", (FROM, None)), of_user, "{owner}");
            assert_eq!(session.belongs_to(&role, "333333333333", (FROM, None)), of_role, "{owner}");
        }
    }

    #[test]
    fn a_session_that_began_outside_the_window_is_left() {
        let user = Principal::new(Kind::User, "prd-user").unwrap();
        let until = FROM + Duration::HOUR;
        let belongs = |start, until| {
            let session = session("arn:aws:iam::333333333333:user/prd-user", start);
            session.belongs_to(&user, "333333333333", (FROM, until))
        };
        for start in [Some(FROM - LEEWAY), Some(until + LEEWAY), None] {
            assert!(belongs(start, Some(until)), "{start:?}");
        }
        let late = Some(until + LEEWAY + Duration::SECOND);
        assert!(!belongs(Some(FROM - LEEWAY - Duration::SECOND), None) && !belongs(late, Some(until)));
        assert!(belongs(late, None));
    }
}
