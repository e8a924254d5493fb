use proptest::prelude::*;

use super::*;

const ACTIONS: [&str; 3] = ["Image", "Source", "Templates"];

fn action(index: usize) -> ActionName {
    ACTIONS[index].parse().unwrap()
}

fn pin(index: usize, revision: usize) -> Pin {
    let text = if index == 0 { format!("sha256:{revision:064x}") } else { format!("{index}{revision:039x}") };
    Pin { revision: text.parse().unwrap(), repository: None, source_ref: None }
}

fn set(revisions: [usize; 3]) -> PinSet {
    revisions.into_iter().enumerate().map(|(index, revision)| (action(index), pin(index, revision))).collect()
}

/// An order of a history: the index of its source action, its revision, whether it is a rollback, and its end.
type Step = (usize, usize, bool, Verdict);

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![Just(Verdict::Open), Just(Verdict::Passed), Just(Verdict::Failed)];
    (0..ACTIONS.len(), 0..6_usize, prop::bool::weighted(0.2), verdict)
}

/// What a history has led to.
#[derive(Default)]
struct History {
    newest: BTreeMap<ActionName, EarlierOrder>,
    good: Vec<PinSet>,
    /// All sets that were healthy.
    every: Vec<PinSet>,
}

impl History {
    /// Checks the pins of the next order, and lets the order end.
    fn check(&mut self, (index, revision, goes_back, verdict): Step) -> Result<(), TestCaseError> {
        let all: BTreeSet<ActionName> = (0..ACTIONS.len()).map(action).collect();
        let own = PinSet::from([(action(index), pin(index, revision))]);
        let restored = if goes_back { newest_with(&self.good, &own) } else { PinSet::new() };
        let newest = self.newest.iter().map(|(action, order)| (action.clone(), order)).collect();
        let sources = Sources { own: own.clone(), all: &all, newest, good: &self.good, restored: &restored };
        let last_healthy = |action: &ActionName| self.every.last().and_then(|set| set.get(action));
        let failed = |action: &ActionName| self.newest.get(action).filter(|order| order.verdict == Verdict::Failed);
        match sources.choose() {
            Ok(chosen) => {
                prop_assert_eq!(chosen.keys().collect::<Vec<_>>(), all.iter().collect::<Vec<_>>());
                prop_assert_eq!(chosen.get(&action(index)), own.get(&action(index)));
                let others = chosen.iter().filter(|(action, _)| !own.contains_key(*action));
                for (action, pin) in others.filter(|_| restored.is_empty()) {
                    if let Some(order) = failed(action) {
                        prop_assert_eq!(Some(pin), last_healthy(action));
                        let was_healthy = self.every.iter().any(|set| has(set, action, &order.pin));
                        prop_assert!(was_healthy || pin != &order.pin, "{action} failed, and rides along");
                    } else {
                        let newest = self.newest.get(action).map(|order| &order.pin);
                        prop_assert_eq!(Some(pin), newest.or(last_healthy(action)));
                    }
                }
                if !restored.is_empty() {
                    prop_assert!(is_same(&chosen, &restored), "a rollback restores the whole set");
                    let kept = self.good.iter().rev().find(|set| set[&action(index)] == own[&action(index)]);
                    prop_assert_eq!(kept, Some(&restored));
                }
                if verdict == Verdict::Passed {
                    self.good = with_healthy(&self.good, &chosen);
                    self.every.push(chosen);
                }
            }
            Err(missing) => {
                prop_assert!(!missing.is_empty() && !missing.contains(&action(index)));
                for action in &missing {
                    prop_assert!(!self.newest.contains_key(action) || failed(action).is_some());
                    prop_assert!(last_healthy(action).is_none());
                }
            }
        }
        let order = EarlierOrder { pin: pin(index, revision), execution: None, verdict };
        self.newest.insert(action(index), order);
        prop_assert!(self.good.len() <= ACTIONS.len() * MOST_REVISIONS);
        prop_assert!(self.good.last().zip(self.every.last()).is_none_or(|(kept, newest)| kept == newest));
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_source_is_pinned_and_failed_code_never_rides_along(steps in prop::collection::vec(step(), 1..60)) {
        let mut history = History::default();
        for step in steps {
            history.check(step)?;
        }
    }
}

#[test]
fn many_new_images_do_not_push_out_the_set_with_the_last_commit() {
    let mut good = Vec::new();
    for image in 0..20 {
        good = with_healthy(&good, &set([image, 1, 1]));
    }
    for image in 20..40 {
        good = with_healthy(&good, &set([image, 2, 1]));
    }
    assert_eq!(good.len(), MOST_REVISIONS + 1);
    let own = PinSet::from([(action(1), pin(1, 1))]);
    assert_eq!(newest_with(&good, &own), set([19, 1, 1]));
    assert!(newest_with(&good, &PinSet::from([(action(1), pin(1, 3))])).is_empty());
}

#[test]
fn a_set_that_is_healthy_again_is_the_newest() {
    let good = [set([1, 1, 1]), set([2, 1, 1])];
    assert_eq!(with_healthy(&good, &set([1, 1, 1])), [set([2, 1, 1]), set([1, 1, 1])]);
}
