//! The lists of alarms that an invocation has read, which its orders share.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::judge::Gap;
use crate::world::{Alarm, Extent, World};

/// The newest lists of alarms that an invocation has read.
#[derive(Debug)]
pub(crate) struct AlarmLists {
    /// A time before all readings. Every bake is judged at this time, so that a list which was read before the end of a
    /// bake is never taken for one after the end.
    pub(crate) at: OffsetDateTime,
    by_prefix: RefCell<BTreeMap<(String, Extent), AlarmList>>,
}

/// A list of alarms.
#[derive(Debug)]
struct AlarmList {
    /// A time before the call.
    at: OffsetDateTime,
    alarms: Rc<OnceCell<Result<Rc<[Alarm]>, Gap>>>,
}

impl AlarmLists {
    pub(crate) fn new(now: OffsetDateTime) -> Self {
        Self { at: now, by_prefix: RefCell::default() }
    }

    /// The alarms whose names begin with this prefix, as they were at `since` or later. An older list is read again. A
    /// call that failed is not repeated, because the next follow-up comes within a minute.
    pub(crate) async fn read<W: World>(
        &self,
        world: &W,
        prefix: &str,
        extent: Extent,
        since: OffsetDateTime,
    ) -> Result<Rc<[Alarm]>, Gap> {
        let new = || AlarmList { at: world.now(), alarms: Rc::default() };
        let list = {
            let mut lists = self.by_prefix.borrow_mut();
            let list = lists.entry((prefix.to_owned(), extent)).or_insert_with(new);
            let has_failed = list.alarms.get().is_some_and(Result::is_err);
            if list.at < since && !has_failed {
                *list = new();
            }
            Rc::clone(&list.alarms)
        };
        let read = || async { world.alarms(prefix, extent).await.map(Rc::from).map_err(|error| Gap::of(&error)) };
        list.get_or_init(read).await.clone()
    }
}
