//! The answer to the request `train`, by what its lines are about. A reason counts only where it is given: for the whole
//! train, for a wave, or for a target.

use sekisho_domain::change::Revision;
use sekisho_domain::route::TargetId;

use crate::check::Broken;

/// What a target waits for whose alarms ring.
const AWAITS_ALARMS: &str = "the order starts when these alarms are quiet: ";

/// The answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The lines about the whole train.
    train: Vec<String>,
    waves: Vec<WaveLines>,
    /// The lines about condemned revisions.
    condemned: Vec<String>,
    /// The table of `where`, if the answer left out lines: the answer then says that `where` shows every target.
    table: Option<String>,
}

#[derive(Debug)]
struct WaveLines {
    name: &'static str,
    line: String,
    /// The lines about the wave's targets.
    targets: Vec<String>,
}

/// Whether an answer to `train` left out lines.
pub(crate) fn is_cut(text: &str) -> bool {
    text.ends_with("more lines: `where` shows every target.")
}

impl Answer {
    /// Reads the answer to `train` about waves with these names. `table` is the answer to `where`.
    pub(crate) fn read(text: &str, names: [&'static str; 3], table: Option<String>) -> Result<Self, Broken> {
        let mut answer = Self { train: vec![], waves: vec![], condemned: vec![], table };
        for line in text.lines() {
            let line = line.to_owned();
            if let Some(name) = names.into_iter().find(|name| line.starts_with(&format!("{name}: "))) {
                answer.waves.push(WaveLines { name, line, targets: vec![] });
            } else if line.starts_with("- ") {
                let wave = answer.waves.last_mut().ok_or_else(|| Broken(format!("`{line}` belongs to no wave")))?;
                wave.targets.push(line);
            } else if line.contains(" is condemned ") {
                answer.condemned.push(line);
            } else {
                answer.train.push(line);
            }
        }
        if answer.waves.iter().map(|wave| wave.name).ne(names) {
            return Err(Broken(format!("`train` does not show the waves {names:?}: {text}")));
        }
        Ok(answer)
    }

    /// Whether a hold or a window keeps changes out of a wave.
    pub(crate) fn closes(&self, wave: &str) -> bool {
        let is_held = self.train.iter().any(|line| line.starts_with("The train is held until "));
        is_held || self.says(wave, &["; held until ", "; closed until "])
    }

    /// Whether a wave waits until a person decides about its unknown targets.
    pub(crate) fn asks_about(&self, wave: &str) -> bool {
        self.says(wave, &["; waits for `accept` or `rollback` of the "])
    }

    fn says(&self, wave: &str, texts: &[&str]) -> bool {
        self.waves.iter().any(|one| one.name == wave && texts.iter().any(|text| one.line.contains(text)))
    }

    /// Whether a target is unknown.
    pub(crate) fn is_unknown(&self, target: &TargetId) -> bool {
        // The table has the state of the last report, so it does not show that a target is silent. The line of the wave
        // counts the unknown targets.
        self.line(target).map_or(self.table.is_some(), |line| line.starts_with(&format!("- {target} unknown")))
    }

    /// Whether a target waits until its alarms are quiet.
    pub(crate) fn awaits_alarms(&self, target: &TargetId) -> bool {
        let line = self.line(target).map(|line| line.starts_with(&format!("- {target} waiting: {AWAITS_ALARMS}")));
        let in_table = || {
            let rows = self.table.as_deref().unwrap_or_default().lines();
            let mut rows = rows.filter(|row| row.starts_with(&format!("{target} ")));
            rows.any(|row| row.contains(" waiting ") && row.contains(AWAITS_ALARMS))
        };
        line.unwrap_or_else(in_table)
    }

    fn line(&self, target: &TargetId) -> Option<&String> {
        let mut lines = self.waves.iter().flat_map(|wave| &wave.targets);
        lines.find(|line| line.starts_with(&format!("- {target} ")))
    }

    /// Whether a revision is condemned. `wave` is the one that works on the revision.
    pub(crate) fn condemns(&self, revision: &Revision, wave: &str) -> bool {
        let revision = revision.short();
        let is_shown = self.condemned.iter().any(|line| line.starts_with(&format!("{revision} ")));
        let has_failed = || {
            let mut waves = self.waves.iter().filter(|one| one.name == wave);
            waves.any(|one| one.line.starts_with(&format!("{wave}: {revision} ")) && one.line.contains(" failed;"))
        };
        is_shown || self.table.is_some() && has_failed()
    }
}
