//! Who repairs an object: one invocation at a time, and not again and again.
//!
//! A repair by copy is an event of its own, and another's automation may undo it; what counts the tries must outlive
//! the invocation.

use std::time::Duration;

use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Error, Key, Row, Store};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::object::Target;
use crate::repair::TRIES;

/// Repairs of one object that follow on each other within this count as tries of one.
const CHAIN: Duration = Duration::from_mins(10);
/// How long a claim holds when its invocation dies: a copy's time and a margin.
const LEASE: Duration = Duration::from_mins(5);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    copies: u32,
    /// Of which version `updates` counts: those of another are no tries of the same.
    version: String,
    updates: u32,
    last: u64,
    /// Nobody else repairs before.
    until: u64,
    holder: String,
    expires: u64,
}

/// The right to repair one object.
#[derive(Debug)]
pub struct Claim {
    key: Key,
    state: State,
    revision: Option<u64>,
    holder: String,
}

/// What asking for a claim came to.
#[derive(Debug)]
pub enum Asked {
    /// It is ours.
    Claimed(Claim),
    /// Another live invocation has it.
    Held,
}

/// A write that is to be tried.
#[derive(Debug, Clone, Copy)]
pub enum Write<'a> {
    /// A copy: whichever version it makes, it is one more of the object's.
    Copy,
    /// An update of this version.
    Update(&'a str),
}

/// Asks for the right to repair.
///
/// # Errors
/// Where the ledger did not answer.
pub async fn ask(ledger: &impl Store, target: &Target, holder: &str, now: OffsetDateTime) -> Result<Asked, Error> {
    let key = Key::state(format!("repair#{}#{}", target.bucket, target.key));
    let row: Option<Row<State>> = ledger.read(&key).await?;
    let revision = row.as_ref().map(|row| row.revision);
    let mut state = row.map(|row| row.state).unwrap_or_default();
    let now = epoch_millis(now);
    if state.until > now && state.holder != holder {
        return Ok(Asked::Held);
    }
    if state.last + millis(CHAIN) < now {
        (state.copies, state.updates) = (0, 0);
    }
    let mut claim = Claim { key, state, revision, holder: holder.to_owned() };
    match claim.keep(ledger, now, now + millis(LEASE)).await {
        Ok(()) => Ok(Asked::Claimed(claim)),
        Err(Error::Changed(_)) => Ok(Asked::Held),
        Err(error) => Err(error),
    }
}

impl Claim {
    /// Counts a try before it is made; false where there were enough.
    ///
    /// # Errors
    /// Where the ledger did not answer, or another invocation has taken over.
    pub async fn try_once(
        &mut self,
        ledger: &impl Store,
        write: Write<'_>,
        now: OffsetDateTime,
    ) -> Result<bool, Error> {
        if let Write::Update(version) = write
            && version != self.state.version
        {
            version.clone_into(&mut self.state.version);
            self.state.updates = 0;
        }
        let tries = self.tries(write);
        if *tries >= TRIES {
            return Ok(false);
        }
        *tries += 1;
        let now = epoch_millis(now);
        self.state.last = now;
        self.keep(ledger, now, now + millis(LEASE)).await?;
        Ok(true)
    }

    /// What S3 has refused, or not answered, was no try: the next look tells whether it was done.
    pub fn was_none(&mut self, write: Write<'_>) {
        *self.tries(write) -= 1;
    }

    fn tries(&mut self, write: Write<'_>) -> &mut u32 {
        match write {
            Write::Copy => &mut self.state.copies,
            Write::Update(_) => &mut self.state.updates,
        }
    }

    /// Lets others have it.
    ///
    /// # Errors
    /// Where the ledger did not answer.
    pub async fn release(mut self, ledger: &impl Store, now: OffsetDateTime) -> Result<(), Error> {
        match self.keep(ledger, epoch_millis(now), 0).await {
            // Whoever has taken over holds it now.
            Ok(()) | Err(Error::Changed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn keep(&mut self, ledger: &impl Store, now: u64, until: u64) -> Result<(), Error> {
        self.state.until = until;
        self.state.holder.clone_from(&self.holder);
        self.state.expires = (now + millis(CHAIN) + millis(LEASE)) / 1000;
        self.revision = Some(ledger.write(&self.key, &self.state, self.revision, &self.holder).await?);
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sekisho_ledger::Memory;
    use time::macros::datetime;

    fn target() -> Target {
        Target { bucket: "b".into(), key: "k".into(), version: None }
    }

    async fn claimed(ledger: &Memory, holder: &str, now: OffsetDateTime) -> Claim {
        match ask(ledger, &target(), holder, now).await.unwrap() {
            Asked::Claimed(claim) => claim,
            Asked::Held => panic!("held"),
        }
    }

    #[tokio::test]
    async fn one_at_a_time_and_three_tries_in_a_chain() {
        let ledger = Memory::default();
        let mut now = datetime!(2026-11-21 00:00 UTC);
        let mut first = claimed(&ledger, "a", now).await;
        assert!(first.try_once(&ledger, Write::Copy, now).await.unwrap());
        assert!(matches!(ask(&ledger, &target(), "b", now).await.unwrap(), Asked::Held));
        first.release(&ledger, now).await.unwrap();
        for (holder, expected) in [("b", true), ("c", true), ("d", false)] {
            now += Duration::from_mins(9);
            let mut claim = claimed(&ledger, holder, now).await;
            assert_eq!(claim.try_once(&ledger, Write::Copy, now).await.unwrap(), expected);
            claim.release(&ledger, now).await.unwrap();
        }
        now += Duration::from_mins(2);
        let mut later = claimed(&ledger, "e", now).await;
        for expected in [true, true, true, false] {
            assert_eq!(later.try_once(&ledger, Write::Copy, now).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn updates_are_counted_by_version_and_refusals_not_at_all() {
        let ledger = Memory::default();
        let now = datetime!(2026-11-21 00:00 UTC);
        let mut claim = claimed(&ledger, "a", now).await;
        for version in ["v1", "v2", "v3", "v4", "v5"] {
            assert!(claim.try_once(&ledger, Write::Update(version), now).await.unwrap());
        }
        for expected in [true, true, false] {
            assert_eq!(claim.try_once(&ledger, Write::Update("v5"), now).await.unwrap(), expected);
        }
        claim.was_none(Write::Update("v5"));
        assert!(claim.try_once(&ledger, Write::Update("v5"), now).await.unwrap());
        assert!(claim.try_once(&ledger, Write::Copy, now).await.unwrap());
    }

    #[tokio::test]
    async fn a_dead_invocations_claim_is_taken_over_and_its_retry_has_it_at_once() {
        let ledger = Memory::default();
        let now = datetime!(2026-11-21 00:00 UTC);
        let mut dead = claimed(&ledger, "a", now).await;
        claimed(&ledger, "a", now + Duration::from_mins(1)).await;
        assert!(matches!(dead.try_once(&ledger, Write::Copy, now).await, Err(Error::Changed(_))));
        claimed(&ledger, "b", now + Duration::from_secs(361)).await;
    }
}
