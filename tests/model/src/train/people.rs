//! The people who send requests about the train, most of them at the wrong time.

use sekisho_domain::change::Revision;
use serde_json::json;

use crate::cloud::Cloud;
use crate::configuration::Features;
use crate::developer;
use crate::in_flight::InFlight;
use crate::repository::{Reference, SHOP};
use crate::train::configuration::{ROUTE, wave_names};

/// The branches of the route.
const BRANCHES: [&str; 2] = ["refs/heads/main", "refs/heads/release/1"];
/// The paths do not matter to the train.
const PATH: &str = "web/index.html";

/// The branch that most changes come from.
pub(crate) fn main_branch() -> Reference {
    Reference::new(SHOP, BRANCHES[0])
}

/// Pushes a new commit to a branch, or points the branch at an older commit.
pub(crate) fn push(cloud: &Cloud, in_flight: &mut InFlight) {
    let branch = Reference::new(SHOP, if cloud.chance.percent(80) { BRANCHES[0] } else { BRANCHES[1] });
    let repository = &cloud.repositories[SHOP];
    let old = repository.commits();
    let commit = match old.get(cloud.chance.below(old.len())) {
        Some(old) if cloud.chance.percent(15) => old.clone(),
        _ => repository.commit(cloud.head(&branch).as_ref(), PATH),
    };
    if cloud.head(&branch).as_ref() != Some(&commit) {
        developer::point(cloud, in_flight, &branch, &commit);
    }
}

/// Pushes a new commit to the main branch.
pub(crate) fn push_fix(cloud: &Cloud, in_flight: &mut InFlight) -> Revision {
    let branch = main_branch();
    let commit = cloud.repositories[SHOP].commit(cloud.head(&branch).as_ref(), PATH);
    developer::point(cloud, in_flight, &branch, &commit);
    commit
}

/// A random request. Many cannot be carried out.
pub(crate) fn request(cloud: &Cloud, features: Features) -> Request {
    let names = wave_names(features);
    let wave = if cloud.chance.percent(5) { "gone" } else { names[cloud.chance.below(names.len())] };
    let commits = cloud.repositories[SHOP].commits();
    let revision = commits.get(cloud.chance.below(commits.len())).map(ToString::to_string);
    let action = match cloud.chance.below(16) {
        0..=2 => Action::Hold,
        3..=4 => Action::Resume,
        5..=7 => Action::Accept,
        8..=10 => Action::Promote,
        11..=12 => Action::Pardon,
        13..=14 => Action::Rollback,
        _ => Action::Train,
    };
    let wave = match action {
        Action::Hold | Action::Resume if cloud.chance.percent(40) => None,
        Action::Train | Action::Pardon => None,
        _ => Some(wave),
    };
    let minutes = (action == Action::Hold && cloud.chance.percent(50)).then_some(30);
    Request { action, wave: wave.map(ToOwned::to_owned), revision, minutes }
}

/// A request about the train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) action: Action,
    pub(crate) wave: Option<String>,
    pub(crate) revision: Option<String>,
    pub(crate) minutes: Option<u32>,
}

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Train,
    Hold,
    Resume,
    Accept,
    Promote,
    Pardon,
    Rollback,
}

impl Request {
    pub(crate) fn new(action: Action, wave: Option<&str>, revision: Option<&Revision>) -> Self {
        let revision = revision.map(ToString::to_string);
        Self { action, wave: wave.map(ToOwned::to_owned), revision, minutes: None }
    }

    pub(crate) fn payload(&self) -> String {
        let name = match self.action {
            Action::Train => "train",
            Action::Hold => "hold",
            Action::Resume => "resume",
            Action::Accept => "accept",
            Action::Promote => "promote",
            Action::Pardon => "pardon",
            Action::Rollback => "rollback",
        };
        let mut payload = json!({"action": name, "route": ROUTE});
        if let Some(wave) = &self.wave {
            payload["wave"] = json!(wave);
        }
        if let Some(revision) = self.revision.as_ref().filter(|_| self.needs_revision()) {
            payload["revision"] = json!(revision);
        }
        if let Some(minutes) = self.minutes {
            payload["minutes"] = json!(minutes);
        }
        if !matches!(self.action, Action::Train | Action::Resume) {
            payload["reason"] = json!("the model");
        }
        payload.to_string()
    }

    fn needs_revision(&self) -> bool {
        matches!(self.action, Action::Promote | Action::Pardon)
    }
}
