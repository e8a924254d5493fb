//! The time for which the alarms of a target must stay quiet after its pipeline succeeds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Malformed;

const SECONDS_PER_MINUTE: u32 = 60;
const SECONDS_PER_HOUR: u32 = 60 * SECONDS_PER_MINUTE;
/// The longest bake: a week.
const LONGEST: u32 = 168 * SECONDS_PER_HOUR;

/// The length of a bake in whole seconds, up to 168 hours. As text, it is a whole number with a unit: `90s`, `30m` or
/// `2h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BakeTime(u32);

impl BakeTime {
    /// No bake: a target is healthy as soon as its pipeline succeeds.
    pub const NONE: Self = Self(0);

    /// The longest bake.
    pub const LONGEST: Self = Self(LONGEST);

    /// The length in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// The length as a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    /// Whether nothing bakes.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    fn parse(text: &str) -> Option<Self> {
        let seconds_per_unit = match text.chars().last()? {
            's' => 1,
            'm' => SECONDS_PER_MINUTE,
            'h' => SECONDS_PER_HOUR,
            _ => return None,
        };
        let number = &text[..text.len() - 1];
        // `parse` alone would also take a `+` in front.
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let seconds = number.parse::<u32>().ok()?.checked_mul(seconds_per_unit)?;
        (seconds <= LONGEST).then_some(Self(seconds))
    }
}

impl TryFrom<String> for BakeTime {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        Self::parse(&value).ok_or_else(|| {
            Malformed::new(&value, "a duration: write a whole number with `s`, `m` or `h`, up to `168h`, such as `30m`")
        })
    }
}

impl std::str::FromStr for BakeTime {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::try_from(text.to_owned())
    }
}

impl From<BakeTime> for String {
    fn from(bake: BakeTime) -> Self {
        bake.to_string()
    }
}

/// The text has the largest unit that divides the length: `5400s` is written as `90m`.
impl std::fmt::Display for BakeTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0;
        if seconds != 0 && seconds.is_multiple_of(SECONDS_PER_HOUR) {
            write!(f, "{}h", seconds / SECONDS_PER_HOUR)
        } else if seconds != 0 && seconds.is_multiple_of(SECONDS_PER_MINUTE) {
            write!(f, "{}m", seconds / SECONDS_PER_MINUTE)
        } else {
            write!(f, "{seconds}s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bake_is_a_whole_number_with_a_unit() {
        let cases = [
            ("0s", 0, "0s"),
            ("0h", 0, "0s"),
            ("90s", 90, "90s"),
            ("060s", 60, "1m"),
            ("30m", 1_800, "30m"),
            ("90m", 5_400, "90m"),
            ("120m", 7_200, "2h"),
            ("168h", 604_800, "168h"),
            ("604800s", 604_800, "168h"),
        ];
        for (text, seconds, printed) in cases {
            let bake: BakeTime = text.parse().unwrap();
            assert_eq!((bake.seconds(), bake.to_string().as_str()), (seconds, printed));
            assert_eq!(bake.to_string().parse(), Ok(bake));
        }
        assert!("2h".parse::<BakeTime>().unwrap() > "119m".parse().unwrap());
        assert!(BakeTime::default().is_none());
    }

    #[test]
    fn a_malformed_bake_is_refused() {
        let malformed = [
            "",
            "30",
            "m",
            "s",
            "30 m",
            " 30m",
            "30m ",
            "+30m",
            "-30m",
            "1.5h",
            "1h30m",
            "30min",
            "30M",
            "1d",
            "169h",
            "604801s",
            "4294967296s",
            "99999999999h",
            "３m",
            "30ｍ",
        ];
        for text in malformed {
            let error = text.parse::<BakeTime>().unwrap_err().to_string();
            assert!(error.contains("168h") && error.contains(text), "{error}");
        }
    }
}
