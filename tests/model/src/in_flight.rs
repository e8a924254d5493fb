//! Events of CodeCommit and CodePipeline that were not delivered yet.

use crate::cloud::Chance;
use crate::lambda::Function;

/// The events on their way, each with the function that gets it.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    events: Vec<(Function, String)>,
    /// The number of events so far. Each event gets its own number.
    count: u64,
    /// The number of lost events.
    pub(crate) lost: usize,
}

impl InFlight {
    /// The number of the next event.
    pub(crate) fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Sends an event. These events are best effort, so the model loses some of them.
    pub(crate) fn send(&mut self, function: Function, payload: String, chance: &Chance) {
        if chance.percent(20) {
            self.lost += 1;
        } else {
            self.events.push((function, payload));
        }
    }

    /// Takes a random event for delivery. Some events stay, so that they are delivered twice.
    pub(crate) fn take(&mut self, chance: &Chance) -> Option<(Function, String)> {
        if self.events.is_empty() {
            return None;
        }
        let index = chance.below(self.events.len());
        if chance.fails(10) { self.events.get(index).cloned() } else { Some(self.events.swap_remove(index)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether an event with this text is on its way.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.events.iter().any(|(_, payload)| payload.contains(text))
    }
}
