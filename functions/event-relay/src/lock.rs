//! Locks for targets, among the tasks of one invocation. Other invocations are kept out by the revisions of rows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sekisho_domain::route::TargetId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One lock for each target.
#[derive(Debug, Default)]
pub(crate) struct Locks(RefCell<BTreeMap<TargetId, Arc<Semaphore>>>);

impl Locks {
    /// Waits for the locks of these targets. The targets are sorted, so two tasks never wait for each other.
    pub(crate) async fn acquire(&self, targets: &BTreeSet<TargetId>) -> Vec<OwnedSemaphorePermit> {
        let mut permits = Vec::with_capacity(targets.len());
        for target in targets {
            let lock = self.0.borrow_mut().entry(target.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
            permits.extend(lock.acquire_owned().await);
        }
        permits
    }
}
