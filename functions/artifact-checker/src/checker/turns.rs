//! Lets the repairs of one object take turns within an invocation.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Mutex;

/// The turns of the objects that are being repaired. The versions of an object share one claim in the ledger, and a
/// sweep checks many versions at the same time, so the repairs would take the claim away from each other.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    by_key: RefCell<HashMap<String, Rc<Mutex<()>>>>,
}

impl Turns {
    /// Does `work` when no other work on the object with this key is left.
    pub(crate) async fn take<T>(&self, key: &str, work: impl Future<Output = T>) -> T {
        let turn = Rc::clone(self.by_key.borrow_mut().entry(key.to_owned()).or_default());
        let guard = turn.lock().await;
        let result = work.await;
        drop(guard);
        // If nobody waits, the map and this call have the only two references.
        if Rc::strong_count(&turn) == 2 {
            self.by_key.borrow_mut().remove(key);
        }
        result
    }
}
