//! Keeps what one invocation learned about pipelines and buckets for later invocations of the same process.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::artifact_stores::ShownStores;
use crate::right_key::KeyAssessment;

/// How long a cached value is used.
const LIFETIME: Duration = Duration::from_mins(5);

/// The artifact stores of the account's pipelines, and the right keys of buckets.
#[derive(Debug, Default)]
pub struct Cache {
    stores: RefCell<Option<Cached<Rc<ShownStores>>>>,
    key_assessments: RefCell<HashMap<String, Cached<KeyAssessment>>>,
}

#[derive(Debug)]
struct Cached<T> {
    since: OffsetDateTime,
    value: T,
}

impl<T: Clone> Cached<T> {
    fn current(&self, now: OffsetDateTime) -> Option<T> {
        (now - self.since < LIFETIME).then(|| self.value.clone())
    }
}

impl Cache {
    pub(crate) fn stores(&self, now: OffsetDateTime) -> Option<Rc<ShownStores>> {
        self.stores.borrow().as_ref()?.current(now)
    }

    pub(crate) fn set_stores(&self, value: Rc<ShownStores>, now: OffsetDateTime) {
        *self.stores.borrow_mut() = Some(Cached { since: now, value });
    }

    pub(crate) fn key_assessment(&self, bucket: &str, now: OffsetDateTime) -> Option<KeyAssessment> {
        self.key_assessments.borrow().get(bucket)?.current(now)
    }

    pub(crate) fn set_key_assessment(&self, bucket: &str, value: KeyAssessment, now: OffsetDateTime) {
        self.key_assessments.borrow_mut().insert(bucket.to_owned(), Cached { since: now, value });
    }

    pub(crate) fn forget_key_assessment(&self, bucket: &str) {
        self.key_assessments.borrow_mut().remove(bucket);
    }
}
