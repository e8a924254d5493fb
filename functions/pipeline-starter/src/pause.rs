//! The pauses between attempts that fail.

use std::time::Duration;

/// The pause after this many failures in a row: a minute, doubled after each failure.
pub(crate) fn backoff(failures: u32, longest: Duration) -> Duration {
    let factor = 1_u32 << failures.saturating_sub(1).min(10);
    (Duration::from_mins(1) * factor).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let minutes = |failures| backoff(failures, Duration::from_hours(1)).as_secs() / 60;
        assert_eq!([0, 1, 2, 3, 7, 100].map(minutes), [1, 1, 2, 4, 60, 60]);
    }
}
