//! Limits the rate of the requests of a sweep.

use std::cell::Cell;
use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::rate::Rates;

/// The requests of this time that have to wait pass together, because a timer for each request would cost CPU time.
const TICK: Duration = Duration::from_millis(20);
/// For this time after a cut, further throttled requests do not cut the rate again, because they were sent before it.
const SAME_SIGNAL: Duration = Duration::from_secs(1);
/// After a cut, the rate rises by half of the highest rate in this time.
const RECOVERY: Duration = Duration::from_mins(1);
/// The smallest part of the highest rate.
const LOWEST: f64 = 1.0 / 16.0;

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

    /// Sets the highest rates.
    pub(crate) fn set(&self, rates: Rates) {
        self.s3.set(rates.s3);
        self.kms.set(rates.kms);
    }

    /// Lets no further request pass.
    pub(crate) fn stop(&self) {
        self.s3.is_stopped.set(true);
        self.kms.is_stopped.set(true);
    }

    /// Halves the rates after a throttled request. Others use more than their half, and the sweep makes room for them.
    pub(crate) fn cut(&self) {
        self.s3.cut();
        self.kms.cut();
    }
}

/// Lets requests pass at a rate, which halves when requests are throttled, and then rises again.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// The time between two requests at the highest rate; zero means no limit.
    interval: Cell<Duration>,
    /// The last cut, and the part of the highest rate after it.
    cut: Cell<Option<(Instant, f64)>>,
    /// When the next request may pass. Requests wait for the end of their tick, so a second may have the requests of a
    /// second and a tick. After a pause, the requests of a tick pass at once.
    next: Cell<Instant>,
    /// The beginning of the first tick.
    start: Instant,
    is_stopped: Cell<bool>,
}

impl RateLimit {
    fn new(per_second: u32) -> Self {
        let start = Instant::now();
        let (interval, cut, next) = (Cell::default(), Cell::new(None), Cell::new(start));
        let limit = Self { interval, cut, next, start, is_stopped: Cell::new(false) };
        limit.set(per_second);
        limit
    }

    fn set(&self, per_second: u32) {
        self.interval.set(Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::ZERO));
    }

    /// The part of the highest rate at which requests pass now.
    fn part(&self, now: Instant) -> f64 {
        let Some((since, part)) = self.cut.get() else { return 1.0 };
        (part + 0.5 * (now - since).as_secs_f64() / RECOVERY.as_secs_f64()).min(1.0)
    }

    /// How many requests pass within this time.
    pub(crate) fn within(&self, time: Duration) -> usize {
        let passing = time.mul_f64(self.part(Instant::now())).as_nanos().checked_div(self.interval.get().as_nanos());
        passing.and_then(|passing| usize::try_from(passing).ok()).unwrap_or(usize::MAX)
    }

    fn cut(&self) {
        let now = Instant::now();
        if self.cut.get().is_none_or(|(last, _)| now - last >= SAME_SIGNAL) {
            self.cut.set(Some((now, (self.part(now) / 2.0).max(LOWEST))));
        }
    }

    /// Waits until this many requests may be sent; after a stop, forever. `began` is the time at which their check began,
    /// and moves by the time of the wait, so that the wait does not make the check a slow one.
    pub(crate) async fn pass(&self, requests: u32, began: &Cell<Instant>) {
        self.wait(requests, began).await;
        if self.is_stopped.get() {
            pending::<()>().await;
        }
    }

    async fn wait(&self, requests: u32, began: &Cell<Instant>) {
        let interval = self.interval.get();
        if interval.is_zero() {
            return;
        }
        let now = Instant::now();
        let at = self.next.get().max(now.checked_sub(TICK).unwrap_or(now));
        self.next.set(at + (interval * requests).div_f64(self.part(now)));
        if at > now {
            let end = self.end_of_tick(at);
            began.set(began.get() + (end - now));
            sleep_until(end).await;
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
    async fn requests_pass_at_the_rate_and_a_pause_saves_no_more_than_a_tick() {
        let limit = RateLimit::new(1_000);
        let start = Instant::now();
        let began = Cell::new(start);
        join_all((0..2_100).map(|_| limit.pass(1, &began))).await;
        let took = start.elapsed();
        assert!((2_090..=2_120).contains(&took.as_millis()), "{took:?}");
        tokio::time::sleep(Duration::from_mins(1)).await;
        let start = Instant::now();
        join_all((0..300).map(|_| limit.pass(4, &began))).await;
        let took = start.elapsed();
        assert!((1_170..=1_200).contains(&took.as_millis()), "{took:?}");
        limit.set(100);
        let start = Instant::now();
        join_all((0..100).map(|_| limit.pass(1, &began))).await;
        let took = start.elapsed();
        assert!((980..=1_010).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_rate_halves_once_in_a_second_and_rises_again() {
        let limit = RateLimit::new(1_000);
        let began = Cell::new(Instant::now());
        let requests = async |seconds: u64| {
            let end = Instant::now() + Duration::from_secs(seconds);
            let mut passed = 0;
            while Instant::now() < end {
                limit.pass(1, &began).await;
                passed += 1;
            }
            passed
        };
        for _ in 0..100 {
            limit.cut();
        }
        let after_one_signal = requests(1).await;
        assert!((490..=620).contains(&after_one_signal), "{after_one_signal}");
        tokio::time::sleep(RECOVERY).await;
        let recovered = requests(1).await;
        assert!((990..=1_120).contains(&recovered), "{recovered}");
        for _ in 0..10 {
            limit.cut();
            tokio::time::sleep(SAME_SIGNAL).await;
        }
        let slowest = requests(1).await;
        assert!((60..=200).contains(&slowest), "{slowest}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let limits = RateLimits::new(Rates::UNLIMITED);
        let start = Instant::now();
        let began = Cell::new(start);
        for _ in 0..100_000 {
            limits.s3.pass(1, &began).await;
            limits.kms.pass(4, &began).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
