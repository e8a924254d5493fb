//! Limits the number of requests that a sweep keeps in flight to what S3 accepts.

use std::time::{Duration, Instant};

/// The number of requests that may be in flight at the start of a sweep.
const FIRST: f64 = 16.0;
const LOWEST: f64 = 2.0;
/// If each request takes 96 ms, 256 requests in flight reach the highest rate of a sweep.
const HIGHEST: f64 = 256.0;
/// For this time after a cut, further throttled requests do not cut the limit again, because they were in flight
/// already.
const SAME_SIGNAL: Duration = Duration::from_millis(250);

/// A concurrency limit that grows with every answer and halves when S3 throttles.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    limit: f64,
    /// Until S3 first throttles, the limit doubles with each round of answers.
    is_starting: bool,
    last_cut: Option<Instant>,
}

impl Default for ConcurrencyLimit {
    fn default() -> Self {
        Self { limit: FIRST, is_starting: true, last_cut: None }
    }
}

impl ConcurrencyLimit {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the limit is between 2 and 256")]
    pub(crate) fn requests(&self) -> usize {
        self.limit as usize
    }

    /// Raises the limit after an answer.
    pub(crate) fn raise(&mut self) {
        let step = if self.is_starting { 1.0 } else { 1.0 / self.limit };
        self.limit = (self.limit + step).min(HIGHEST);
    }

    /// Halves the limit after a throttled request.
    pub(crate) fn cut(&mut self, now: Instant) {
        self.is_starting = false;
        if self.last_cut.is_none_or(|last| now.duration_since(last) >= SAME_SIGNAL) {
            self.last_cut = Some(now);
            self.limit = (self.limit / 2.0).max(LOWEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_halves_once_per_signal_and_grows_again() {
        let start = Instant::now();
        let mut limit = ConcurrencyLimit::default();
        for _ in 0..1000 {
            limit.raise();
        }
        assert_eq!(limit.requests(), 256);
        for _ in 0..100 {
            limit.cut(start);
        }
        assert_eq!(limit.requests(), 128);
        for round in 1..20 {
            limit.cut(start + SAME_SIGNAL * round);
        }
        assert_eq!(limit.requests(), 2);
        for _ in 0..40_000 {
            limit.raise();
        }
        assert_eq!(limit.requests(), 256);
    }
}
