//! Which policies of our name have had their time.

use time::OffsetDateTime;

use crate::iam::Found;
use crate::policy::{self, Reading};
use crate::window::Window;

/// What a policy of our name is to a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It still gives access: left alone.
    Live(Window),
    /// It has ended: removed, unless it has been extended meanwhile.
    Ended(Window),
    /// It is not ours, since it does not end: somebody has to look.
    OpenEnded(&'static str),
    /// It is not ours, and gives no access.
    Harmless,
}

/// Judges a policy by its own text.
#[must_use]
pub fn verdict(found: &Found, now: OffsetDateTime) -> Verdict {
    match policy::read(&found.document) {
        Reading::Grant(window) if window.is_live(now) => Verdict::Live(window),
        Reading::Grant(window) => Verdict::Ended(window),
        Reading::Foreign(why) => Verdict::OpenEnded(why),
        Reading::Denies => Verdict::Harmless,
    }
}
