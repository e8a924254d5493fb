//! What happened in a history, so that a test can check that everything happened often enough.

use std::ops::AddAssign;

macro_rules! counts {
    ($(#[$about:meta])* $report:ident: $($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $report {
            $($(#[$doc])* pub $name: usize,)+
        }

        impl $report {
            /// The name of each kind of thing, and its number.
            #[must_use]
            pub fn counts(&self) -> Vec<(&'static str, usize)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }

        impl AddAssign<&$report> for $report {
            fn add_assign(&mut self, other: &$report) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counts! {
    /// The number of times that each kind of thing happened in a history.
    Report:
    /// Moves of branches and tags.
    moves,
    /// Deleted branches and tags.
    deletions,
    /// Lost events of CodeCommit and CodePipeline.
    lost,
    /// Invocations that crashed between two calls.
    crashes,
    /// Retries of failed invocations.
    retries,
    /// Events that a function could not handle in three attempts, and that nobody sent again.
    dropped,
    /// Events that were sent again from the dead-letter queues.
    redriven,
    /// Deployments of a configuration to one account.
    deployments,
    /// Events that a bus did not accept.
    not_accepted,
    /// Starts of an execution whose answer was lost.
    lost_starts,
    /// Starts that took effect only after the caller had seen a timeout.
    late_starts,
    /// Executions that orders started.
    executions,
    /// Executions that no order started.
    other_executions,
    /// Executions that CodePipeline canceled.
    canceled,
    /// Executions that a person stopped, or that a newer execution replaced.
    stopped,
    /// Retries of failed stages.
    retried_stages,
    /// Executions that failed in their source action.
    failed_sources,
    /// Orders that event-relay placed.
    orders,
    /// Orders that a bus accepted more than once.
    repeated_offers,
    /// Orders that a target refused, because its account did not route them.
    refusals,
    /// Reports that reached the bus of the repository account.
    reports,
    /// Branches that were recorded and not deployed when a glob covered them first.
    baselines,
    /// Requests of people to send orders again.
    resends,
    /// Moves of the tags of images.
    image_moves,
    /// Images and other manifests that were deleted.
    lost_images,
    /// Executions of the pipeline with two sources that orders started.
    pairs,
    /// Executions whose other source is pinned at an older revision, because its newest order failed.
    passed_over,
    /// Ledgers of event-relay that were lost.
    lost_ledgers,
    /// Histories that begin with the ledgers of an earlier version.
    upgrades,
}

counts! {
    /// The number of times that each kind of thing happened in a history of a train.
    TrainReport:
    /// Moves of branches.
    pushes,
    /// Invocations that crashed between two calls.
    crashes,
    /// Functions that could not run for a while.
    outages,
    /// Changes of the configuration.
    edits,
    /// Alarms that rang, had no data, were edited or deleted for no reason that lies in a commit.
    disturbed_alarms,
    /// Deployments of a commit that makes an alarm ring.
    bad_deployments,
    /// Requests of people.
    requests,
    /// Orders that event-relay placed.
    orders,
    /// Orders of kind `rollback`.
    rollbacks,
    /// Starts of the pipeline with two sources that lead back to a set of revisions.
    whole_sets,
    /// Reports of targets that went back.
    failed_bakes,
    /// Histories in which the last change reached every target.
    arrivals,
    /// Histories in which something kept the last change, and `train` says what.
    held_ends,
}
