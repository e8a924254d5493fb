//! Limits the rate of the requests of a sweep.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::rate::Rates;

/// After a pause, the requests of this time are sent at once.
const BURST: Duration = Duration::from_millis(100);
/// The requests of this time that have to wait pass together, because a timer for each request would cost CPU time.
const TICK: Duration = Duration::from_millis(20);

/// The limits of one sweep.
#[derive(Debug)]
pub(crate) struct RateLimits {
    pub(crate) s3: RateLimit,
    pub(crate) kms: RateLimit,
}

impl RateLimits {
    pub(crate) fn new(rates: Rates) -> Self {
        Self { s3: RateLimit::new(rates.s3), kms: RateLimit::new(rates.kms) }
    }
}

/// Lets requests pass at a rate.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// The time between two requests; zero means no limit.
    interval: Duration,
    /// When the next request may pass.
    next: Cell<Option<Instant>>,
    /// The beginning of the first tick.
    start: Instant,
}

impl RateLimit {
    fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::ZERO);
        Self { interval, next: Cell::new(None), start: Instant::now() }
    }

    /// Waits until this many requests may be sent.
    pub(crate) async fn pass(&self, requests: u32) {
        if self.interval.is_zero() {
            return;
        }
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let at = self.next.get().map_or(earliest, |next| next.max(earliest));
        self.next.set(Some(at + self.interval * requests));
        if at > now {
            sleep_until(self.end_of_tick(at)).await;
        }
    }

    fn end_of_tick(&self, at: Instant) -> Instant {
        let ticks = (at - self.start).as_millis().div_ceil(TICK.as_millis());
        self.start + TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_pass_at_the_rate_and_a_pause_saves_no_more_than_a_burst() {
        let limit = RateLimit::new(1_000);
        let start = Instant::now();
        join_all((0..2_100).map(|_| limit.pass(1))).await;
        let took = start.elapsed();
        assert!((1_990..=2_020).contains(&took.as_millis()), "{took:?}");
        tokio::time::sleep(Duration::from_mins(1)).await;
        let start = Instant::now();
        join_all((0..300).map(|_| limit.pass(4))).await;
        let took = start.elapsed();
        assert!((1_090..=1_120).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let limits = RateLimits::new(Rates::UNLIMITED);
        let start = Instant::now();
        for _ in 0..100_000 {
            limits.s3.pass(1).await;
            limits.kms.pass(4).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
