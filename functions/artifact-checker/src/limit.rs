//! How many requests are in flight at once: as many as S3 takes.

use std::time::Duration;

use tokio::time::Instant;

/// Where it begins; S3 doubles what it takes within minutes, and this function within answers.
const FIRST: f64 = 32.0;
const LEAST: f64 = 2.0;
/// 5,500 requests a second, S3's limit of one prefix, at 45 ms each.
const MOST: f64 = 256.0;
/// Refusals of requests that were in flight together count as one.
const TOGETHER: Duration = Duration::from_millis(250);

/// Climbs with every answer, halves when S3 asks to slow down, and climbs again.
#[derive(Debug)]
pub struct Limit {
    allowed: f64,
    /// Until S3 first asks to slow down, the limit doubles with each round of answers.
    starting: bool,
    cut: Option<Instant>,
}

impl Default for Limit {
    fn default() -> Self {
        Self { allowed: FIRST, starting: true, cut: None }
    }
}

impl Limit {
    /// How many may be in flight.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 2 and 256")]
    pub fn allowed(&self) -> usize {
        self.allowed as usize
    }

    /// S3 has answered.
    pub fn answered(&mut self) {
        let step = if self.starting { 1.0 } else { 1.0 / self.allowed };
        self.allowed = (self.allowed + step).min(MOST);
    }

    /// S3 has asked to slow down.
    pub fn slow_down(&mut self, now: Instant) {
        self.starting = false;
        if self.cut.is_none_or(|cut| now.duration_since(cut) >= TOGETHER) {
            self.cut = Some(now);
            self.allowed = (self.allowed / 2.0).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_climbs_halves_once_a_round_and_climbs_again() {
        let start = Instant::now();
        let mut limit = Limit::default();
        for _ in 0..1000 {
            limit.answered();
        }
        assert_eq!(limit.allowed(), 256);
        for _ in 0..100 {
            limit.slow_down(start);
        }
        assert_eq!(limit.allowed(), 128);
        for round in 1..20 {
            limit.slow_down(start + TOGETHER * round);
        }
        assert_eq!(limit.allowed(), 2);
        for _ in 0..40_000 {
            limit.answered();
        }
        assert_eq!(limit.allowed(), 256);
    }
}
