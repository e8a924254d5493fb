//! Bakes: the time after a successful execution in which the alarms of the target must stay quiet.

use sekisho_domain::bake::BakeTime;
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::route::{AlarmGlobs, Missing, Wave};
use serde::{Deserialize, Serialize};

/// The settings with which an order started, and what its alarms have shown so far. An order is judged to its end by
/// these settings, whatever the configuration says later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bake {
    /// The length: the longer one of the order's bake and that of the target's own wave.
    pub length: BakeTime,
    /// The globs for the names of the alarms. They come from each wave of this account's configuration through which
    /// the change reaches the target. Without globs, the result of a bake is unknown.
    pub alarms: Vec<AlarmGlobs>,
    /// What an alarm without data means at the end.
    pub missing: Missing,
    /// The alarms that rang when a promoted order started. Such an alarm counts only if it still rings at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rang: Vec<String>,
    /// The time of the bake. `None` until the execution has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// The time of a bake, in epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// When the execution succeeded.
    pub since: u64,
    /// The end of the bake.
    pub until: u64,
    /// The alarms that matched at the beginning. `None` until the alarms could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<Vec<String>>,
    /// When a reading after the end failed for the first time. `None` until one has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
}

impl Bake {
    /// The settings for an order that starts now. `waves` are the waves of this account's configuration through which
    /// the change reaches the target. Returns `None` for an order that neither bakes nor goes back by itself.
    pub(crate) fn new<'w>(order: Order, waves: impl Iterator<Item = &'w Wave>) -> Option<Self> {
        let waves: Vec<&Wave> = waves.collect();
        if order.kind == OrderKind::Rollback || (order.bake.is_none() && waves.is_empty()) {
            return None;
        }
        let is_strict = waves.is_empty() || waves.iter().any(|wave| wave.missing == Missing::Unknown);
        Some(Self {
            length: waves.iter().map(|wave| wave.bake).chain(order.bake).max().unwrap_or_default(),
            alarms: waves.iter().map(|wave| wave.alarms.clone()).filter(|globs| !globs.is_empty()).collect(),
            missing: if is_strict { Missing::Unknown } else { Missing::Healthy },
            rang: Vec::new(),
            window: None,
        })
    }

    /// Whether an alarm of this name counts.
    pub(crate) fn watches(&self, alarm: &str) -> bool {
        self.alarms.iter().any(|globs| globs.matches(alarm))
    }

    /// The texts with which the names of the alarms begin. No name begins with two of them.
    pub(crate) fn prefixes(&self) -> Vec<&str> {
        let mut prefixes: Vec<&str> = self.alarms.iter().flat_map(AlarmGlobs::prefixes).collect();
        // A prefix sorts directly before the texts that begin with it.
        prefixes.sort_unstable();
        prefixes.dedup_by(|longer, shorter| longer.starts_with(*shorter));
        prefixes
    }

    /// The settings after the execution has succeeded at `since`, in epoch milliseconds. Returns `None` if nothing
    /// bakes.
    pub(crate) fn begun(&self, since: u64) -> Option<Self> {
        let millis = u64::from(self.length.seconds()) * 1_000;
        let window = Window { since, until: since.saturating_add(millis), watched: None, failing_since: None };
        (millis > 0).then(|| Self { window: Some(window), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefixes_of_alarms_are_as_few_and_as_long_as_possible() {
        let cases: [(&[&[&str]], &[&str]); 8] = [
            (&[&["shop-*", "shop-errors", "shop-?"]], &["shop-"]),
            (&[&["b/**", "a", "ab"]], &["a", "b/"]),
            (&[&["shop-*", "!shop-noise-*"]], &["shop-"]),
            (&[&["{a,b}-*", "shop"]], &[""]),
            (&[&["shop\\*", "shop[12]"]], &["shop"]),
            (&[&["*", "shop"]], &[""]),
            (&[&["shop-errors", "all-*"], &["shop-*"]], &["all-", "shop-"]),
            (&[], &[]),
        ];
        for (waves, expected) in cases {
            let globs = |patterns: &&[&str]| {
                AlarmGlobs::try_from(patterns.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
            };
            let bake = Bake {
                length: BakeTime::default(),
                alarms: waves.iter().map(globs).collect(),
                missing: Missing::Unknown,
                rang: Vec::new(),
                window: None,
            };
            assert_eq!(bake.prefixes(), expected, "{waves:?}");
        }
    }
}
