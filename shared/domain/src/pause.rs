//! Pauses between repetitions that are hours or days apart, so that a ledger row holds their number.

use std::time::Duration;

/// The pause after this many attempts: `first` after one attempt, and twice as long after each further one, up to
/// `longest`.
#[must_use]
pub fn doubled(first: Duration, attempts: u32, longest: Duration) -> Duration {
    let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
    first.saturating_mul(factor).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let minutes = |attempts| doubled(Duration::from_mins(1), attempts, Duration::from_hours(1)).as_secs() / 60;
        assert_eq!([0, 1, 2, 3, 7, 100].map(minutes), [1, 1, 2, 4, 60, 60]);
    }
}
