//! The state of the model that lasts longer than an invocation: the repository account and two places where pipelines
//! run.

use std::cell::{Cell, RefCell};

use event_relay::target::PlacedOrder;
use sekisho_domain::change::Revision;
use sekisho_lambda::ServiceError;
use sekisho_lambda::service_error::Kind;
use sekisho_ledger::{Key, Memory};
use time::{Duration, OffsetDateTime};

use crate::bus::Bus;
use crate::check::Broken;
use crate::cloudwatch::CloudWatch;
use crate::codepipeline::CodePipeline;
use crate::registry::Registry;
use crate::repository::{Reference, Repository};
use crate::train::witness::Witness;

pub(crate) const REPOSITORY_ACCOUNT: &str = "111111111111";
pub(crate) const REPOSITORY_REGION: &str = "ap-northeast-1";

/// The account and region of each place, by the place's index.
pub(crate) const PLACES: [(&str, &str); 2] = [("222222222222", "ap-northeast-1"), ("333333333333", "us-east-1")];

/// The largest difference between an invocation's clock and the true time.
const LARGEST_SKEW: i64 = 20_000;

/// Everything outside the functions.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) chance: Chance,
    pub(crate) clock: Clock,
    /// The repositories. The last one has the tags of images that a route may lead to a pipeline.
    pub(crate) repositories: [Repository; 3],
    pub(crate) registry: Registry,
    /// Whether somebody pushes images in the history.
    pub(crate) has_images: Cell<bool>,
    pub(crate) relay_ledger: Memory,
    /// Whether event-relay's ledger was lost.
    pub(crate) is_ledger_lost: Cell<bool>,
    /// Each order that event-relay wrote into its ledger, in the order of the writes.
    pub(crate) placed: RefCell<Vec<Placing>>,
    /// The bus of the repository account, which gets the reports.
    pub(crate) report_bus: Bus,
    pub(crate) places: [Place; 2],
    /// What went wrong while a history ran. Only the first entry is reported.
    pub(crate) broken: RefCell<Vec<Broken>>,
    /// What the model knows about its train, if it has one.
    pub(crate) train: RefCell<Option<Witness>>,
}

/// An order that event-relay wrote into the row of a target.
#[derive(Debug, Clone)]
pub(crate) struct Placing {
    /// The key of the target's row.
    pub(crate) key: Key,
    pub(crate) order: PlacedOrder,
    /// The id of the request that wrote the order.
    pub(crate) request: String,
    /// Whether the ledger had been lost before.
    pub(crate) is_after_loss: bool,
}

/// An account and region with pipelines. [`PLACES`] has the region.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) account: &'static str,
    pub(crate) ledger: Memory,
    /// The bus of the account, which gets the orders.
    pub(crate) bus: Bus,
    pub(crate) codepipeline: CodePipeline,
    pub(crate) cloudwatch: CloudWatch,
    /// The links of the notices that were published.
    pub(crate) notices: RefCell<Vec<String>>,
}

impl Cloud {
    pub(crate) fn new(seed: u64) -> Self {
        let chance = Chance { rng: RefCell::new(fastrand::Rng::with_seed(seed)), faults: Cell::new(true) };
        let place = |(account, _)| Place {
            account,
            ledger: Memory::default(),
            bus: Bus::default(),
            codepipeline: CodePipeline::new(&chance),
            cloudwatch: CloudWatch::default(),
            notices: RefCell::default(),
        };
        Self {
            clock: Clock::default(),
            repositories: [Repository::new(0), Repository::new(1), Repository::new(2)],
            registry: Registry::default(),
            has_images: Cell::default(),
            relay_ledger: Memory::default(),
            is_ledger_lost: Cell::default(),
            placed: RefCell::default(),
            report_bus: Bus::default(),
            places: PLACES.map(place),
            broken: RefCell::default(),
            train: RefCell::default(),
            chance,
        }
    }

    /// The head of a branch or tag.
    pub(crate) fn head(&self, reference: &Reference) -> Option<Revision> {
        self.repositories[reference.repository].head(&reference.source_ref)
    }

    /// Begins a call to a service. The call may fail before it takes effect.
    pub(crate) async fn begin(&self, call: &'static str) -> Result<(), ServiceError> {
        give_way().await;
        if self.chance.fails(3) {
            return Err(ServiceError::unexpected(call, "the model fails this call").with_kind(Kind::Throttled));
        }
        Ok(())
    }
}

/// The source of everything random in a history.
#[derive(Debug)]
pub(crate) struct Chance {
    rng: RefCell<fastrand::Rng>,
    /// Whether calls can fail. At the end of a history, no call fails.
    pub(crate) faults: Cell<bool>,
}

impl Chance {
    pub(crate) fn percent(&self, percent: u32) -> bool {
        self.rng.borrow_mut().u32(0..100) < percent
    }

    /// A random number below `n`, or 0 if `n` is 0.
    pub(crate) fn below(&self, n: usize) -> usize {
        if n == 0 { 0 } else { self.rng.borrow_mut().usize(0..n) }
    }

    /// Decides at random whether a call fails. After the end of the faults, no call fails.
    pub(crate) fn fails(&self, percent: u32) -> bool {
        self.faults.get() && self.percent(percent)
    }

    /// The difference of a clock from the true time.
    pub(crate) fn skew(&self) -> Duration {
        Duration::milliseconds(self.rng.borrow_mut().i64(-LARGEST_SKEW..=LARGEST_SKEW))
    }
}

/// The true time, and the clock of the invocation that runs at the moment.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) now: Cell<OffsetDateTime>,
    /// The difference of the running invocation's clock from the true time. [`crate::lambda::Lambda`] sets the value
    /// before it runs a step of an invocation.
    pub(crate) skew: Cell<Duration>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { now: Cell::new(OffsetDateTime::UNIX_EPOCH + Duration::days(20_000)), skew: Cell::new(Duration::ZERO) }
    }
}

impl Clock {
    /// The time that the running invocation sees.
    pub(crate) fn seen(&self) -> OffsetDateTime {
        self.now.get() + self.skew.get()
    }

    /// Waits in an invocation until this time has passed.
    pub(crate) async fn sleep(&self, time: std::time::Duration) {
        let until = self.now.get() + time;
        while self.now.get() < until {
            give_way().await;
        }
    }
}

/// Yields once, so that the history can run another invocation or crash this invocation.
pub(crate) async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if given {
            return std::task::Poll::Ready(());
        }
        given = true;
        // The waker must be called, because a future that joins other futures polls only the futures that were woken.
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
