//! An event bus with the events that wait for their delivery, and the events that it ever accepted.

use std::cell::{Cell, RefCell};

use sekisho_lambda::eventbridge::{Entry, EntryResult};

use crate::cloud::Chance;

/// A bus of EventBridge.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    /// Accepted events that were not delivered yet.
    queue: RefCell<Vec<Message>>,
    /// All events that were ever accepted, in order.
    accepted: RefCell<Vec<Message>>,
    /// Whether the bus refuses every event at the moment: it does not exist, or denies access.
    is_closed: Cell<bool>,
    /// An account whose events the bus refuses at the moment.
    pub(crate) refused_sender: Cell<Option<&'static str>>,
    /// The number of events that the bus did not accept.
    pub(crate) not_accepted: Cell<usize>,
}

/// An event on a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The account that put the event on the bus.
    pub(crate) sender: &'static str,
    pub(crate) source: &'static str,
    pub(crate) detail_type: &'static str,
    pub(crate) detail: String,
}

impl Bus {
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
    }

    pub(crate) fn open(&self) {
        self.is_closed.set(false);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Puts one event on the bus.
    pub(crate) fn put(&self, sender: &'static str, entry: &Entry, chance: &Chance) -> EntryResult {
        let refused = if self.is_closed.get() || self.refused_sender.get() == Some(sender) {
            Some(EntryResult::Refused("AccessDeniedException".to_owned()))
        } else if chance.fails(8) {
            Some(EntryResult::Retryable("ThrottlingException".to_owned()))
        } else if chance.fails(3) {
            Some(EntryResult::Refused("AccessDeniedException".to_owned()))
        } else {
            None
        };
        if let Some(refused) = refused {
            self.not_accepted.set(self.not_accepted.get() + 1);
            return refused;
        }
        let Entry { source, detail_type, detail, .. } = entry;
        let message = Message { sender, source, detail_type, detail: detail.clone() };
        self.queue.borrow_mut().push(message.clone());
        self.accepted.borrow_mut().push(message);
        // The bus has accepted the event, but the answer may be lost.
        if chance.fails(5) { EntryResult::Retryable("no answer".to_owned()) } else { EntryResult::Accepted }
    }

    /// Takes a random event for delivery. Some events stay on the bus, so that they are delivered twice.
    pub(crate) fn take(&self, chance: &Chance) -> Option<Message> {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            return None;
        }
        let index = chance.below(queue.len());
        if chance.fails(10) { queue.get(index).cloned() } else { Some(queue.swap_remove(index)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// All events that were ever accepted, in order.
    pub(crate) fn accepted(&self) -> Vec<Message> {
        self.accepted.borrow().clone()
    }

    pub(crate) fn accepted_count(&self) -> usize {
        self.accepted.borrow().len()
    }
}
