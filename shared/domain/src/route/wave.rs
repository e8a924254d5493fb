//! `[[route.wave]]`: targets that get a change together, after the wave before them has proved it healthy.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::glob::GlobList;
use super::spelling::NameKind;
use super::target::Target;
use super::written::{Expansion, WrittenTarget, check_name};
use crate::bake::BakeTime;
use crate::mistake::Mistake;
use crate::window::Windows;

/// What an alarm without data means at the end of a bake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Nobody can tell whether the change is healthy. The wave holds.
    #[default]
    Unknown,
    /// The alarm counts as quiet.
    Healthy,
}

/// What goes back to an earlier change when a wave fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retreat {
    /// Only the targets that failed. They go back by themselves.
    Target,
    /// Every target of the wave that has the change.
    #[default]
    Wave,
    /// Every target of the wave, and of the waves before it, that has the change.
    Train,
}

/// A wave of a route.
#[derive(Debug, Clone)]
pub struct Wave {
    /// The name, unique within the route, by which requests go.
    pub name: String,
    /// How long the alarms of a target must stay quiet after its pipeline succeeds.
    pub bake: BakeTime,
    /// The alarms of a target's account and region that judge it. Never empty if the wave has a bake.
    pub alarms: AlarmGlobs,
    /// What an alarm without data means.
    pub missing: Missing,
    /// How many targets may deploy at the same time. `None` means all.
    pub at_once: Option<NonZeroU32>,
    /// How many targets may fail without failing the wave.
    pub tolerate: u32,
    /// What goes back if the wave fails.
    pub retreat: Retreat,
    /// When a change may enter.
    pub windows: Windows,
    /// The targets, in order. Never empty.
    pub targets: Vec<Target>,
}

/// Globs for the names of CloudWatch alarms. The name of an alarm has no folders, so `*` also matches `/`. For each
/// name, the last matching glob decides. As JSON, it is the list of the patterns.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct AlarmGlobs(GlobList);

impl AlarmGlobs {
    /// Whether there is no glob, so that no alarm matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an alarm of this name counts.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.includes(name)
    }

    /// The literal beginning of each glob that includes names. The name of each matching alarm begins with at least one
    /// of these texts. An empty text means that all alarms must be listed.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|one| !one.excludes).map(|one| one.glob.literal_prefix())
    }

    /// The globs as they are written in the configuration.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|one| format!("{}{}", if one.excludes { "!" } else { "" }, one.glob.pattern()))
    }
}

impl TryFrom<Vec<String>> for AlarmGlobs {
    type Error = String;
    fn try_from(written: Vec<String>) -> Result<Self, String> {
        GlobList::stored(&written, NameKind::Alarm).map(Self)
    }
}

impl From<AlarmGlobs> for Vec<String> {
    fn from(globs: AlarmGlobs) -> Self {
        globs.patterns().collect()
    }
}

impl PartialEq for AlarmGlobs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns().eq(other.patterns())
    }
}

impl Eq for AlarmGlobs {}

/// One `[[route.wave]]` as it is written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenWave {
    name: Option<String>,
    #[serde(default)]
    bake: BakeTime,
    #[serde(default)]
    alarms: Vec<String>,
    #[serde(default)]
    missing: Missing,
    at_once: Option<u32>,
    #[serde(default)]
    tolerate: u32,
    #[serde(default)]
    retreat: Retreat,
    windows: Option<Vec<String>>,
    #[serde(default)]
    closed: Vec<String>,
    #[serde(default, rename = "target")]
    targets: Vec<WrittenTarget>,
}

impl WrittenWave {
    /// Checks the wave's keys, and adds its targets to those of its route. `place` is the wave's path after the
    /// route's, such as `wave[0]`.
    pub(super) fn check(self, place: &str, expansion: &mut Expansion<'_>) -> Result<Wave, Mistake> {
        let key = expansion.key(place);
        let at = |name: &str| format!("{key}.{name}");
        let Some(name) = self.name else {
            let reason = "missing field `name`: add one, such as `name = \"one-box\"`, because requests go by it";
            return Err(Mistake::new(key, reason));
        };
        check_name(&name, "wave").map_err(|reason| Mistake::new(at("name"), reason))?;
        let alarms = GlobList::parse(&self.alarms, NameKind::Alarm).map_err(|(index, reason)| {
            let place = index.map_or_else(String::new, |i| format!("[{i}]"));
            Mistake::new(at("alarms") + &place, reason)
        })?;
        if !self.bake.is_none() && alarms.is_empty() {
            let reason = "a bake without alarms shows nothing: add `alarms`, such as `alarms = [\"shop-*\"]`, or remove \
                          `bake`";
            return Err(Mistake::new(at("bake"), reason));
        }
        let at_once = self.at_once.map(|number| {
            let reason = "0 lets no target deploy: write at least 1, or remove the key, so that all may";
            NonZeroU32::new(number).ok_or_else(|| Mistake::new(at("at_once"), reason))
        });
        let windows = Windows::parse(self.windows.as_deref(), &self.closed)
            .map_err(|(place, reason)| Mistake::new(at(&place), reason))?;
        Ok(Wave {
            name,
            bake: self.bake,
            alarms: AlarmGlobs(alarms),
            missing: self.missing,
            at_once: at_once.transpose()?,
            tolerate: self.tolerate,
            retreat: self.retreat,
            windows,
            targets: expansion.add(self.targets, Some(place))?,
        })
    }
}

#[cfg(test)]
mod tests;
