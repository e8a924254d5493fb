//! An account with pipelines, as pipeline-starter sees it.

use std::rc::Rc;
use std::time::Duration;

use pipeline_starter::world::{
    ActionCategory, Alarm, AlarmEvent, BegunAction, Entry, EntryResult, ExecutionPage, ExecutionStatus, Extent,
    FailureDetails, PipelineStart, StartAnswer, Stop, World,
};
use sekisho_domain::account::Region;
use sekisho_domain::change::Revision;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::ServiceError;
use time::OffsetDateTime;

use crate::cloud::{Cloud, Place, give_way};
use crate::lambda::Function;
use crate::ledger::Ledger;
use crate::train::{pair, witness};

/// The outside world of one pipeline-starter.
#[derive(Debug, Clone)]
pub(crate) struct StarterAccount {
    cloud: Rc<Cloud>,
    ledger: Ledger,
    place: usize,
}

impl StarterAccount {
    pub(crate) fn new(cloud: &Rc<Cloud>, place: usize) -> Self {
        let ledger = Ledger { cloud: cloud.clone(), function: Function::Starter(place) };
        Self { cloud: cloud.clone(), ledger, place }
    }

    fn place(&self) -> &Place {
        &self.cloud.places[self.place]
    }
}

impl World for StarterAccount {
    type Ledger = Ledger;

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        self.cloud.clock.seen()
    }

    async fn sleep(&self, time: Duration) {
        self.cloud.clock.sleep(time).await;
    }

    async fn start(&self, start: &PipelineStart) -> StartAnswer {
        pair::see_start(&self.cloud, self.place, start);
        let chance = &self.cloud.chance;
        let codepipeline = &self.place().codepipeline;
        if chance.fails(3) {
            codepipeline.start_late(start, self.cloud.clock.now.get(), chance);
            give_way().await;
            return StartAnswer::Unanswered("timeout".to_owned());
        }
        give_way().await;
        let answer = codepipeline.start(start, self.cloud.clock.now.get(), chance);
        give_way().await;
        match answer {
            // The execution has started, but the answer may be lost.
            StartAnswer::Started(_) if chance.fails(5) => {
                codepipeline.lost_answers.set(codepipeline.lost_answers.get() + 1);
                StartAnswer::Unanswered("no answer".to_owned())
            }
            answer => answer,
        }
    }

    async fn executions(&self, pipeline: &PipelineName, page: Option<String>) -> Result<ExecutionPage, ServiceError> {
        self.cloud.begin("ListPipelineExecutions").await?;
        let now = self.cloud.clock.now.get();
        Ok(self.place().codepipeline.list(pipeline.as_str(), page, now, &self.cloud.chance))
    }

    async fn execution_status(
        &self,
        pipeline: &PipelineName,
        execution: &str,
    ) -> Result<Option<ExecutionStatus>, ServiceError> {
        self.cloud.begin("GetPipelineExecution").await?;
        Ok(self.place().codepipeline.execution(pipeline.as_str(), execution).map(|execution| execution.status))
    }

    async fn failure_details(&self, pipeline: &str, execution: &str) -> Result<FailureDetails, ServiceError> {
        self.cloud.begin("ListActionExecutions").await?;
        let execution = self.place().codepipeline.execution(pipeline, execution);
        let is_in_source = execution.is_some_and(|execution| execution.failed_in_source());
        Ok(FailureDetails { is_in_source, ..FailureDetails::default() })
    }

    async fn execution_revisions(&self, pipeline: &str, execution: &str) -> Result<Vec<Revision>, ServiceError> {
        self.cloud.begin("GetPipelineExecution").await?;
        let execution = self.place().codepipeline.execution(pipeline, execution);
        Ok(execution.map(|execution| execution.pins.into_values().collect()).unwrap_or_default())
    }

    async fn begun_actions(&self, pipeline: &PipelineName, execution: &str) -> Result<Vec<BegunAction>, ServiceError> {
        self.cloud.begin("ListActionExecutions").await?;
        let now = self.cloud.clock.now.get();
        Ok(self.place().codepipeline.begun_actions(pipeline.as_str(), execution, now))
    }

    async fn categories(&self, _pipeline: &PipelineName) -> Result<Vec<ActionCategory>, ServiceError> {
        self.cloud.begin("GetPipeline").await?;
        Ok(vec![ActionCategory::Source, ActionCategory::Deploy])
    }

    async fn stop(&self, pipeline: &PipelineName, execution: &str, how: Stop) -> Result<(), ServiceError> {
        self.cloud.begin("StopPipelineExecution").await?;
        let now = self.cloud.clock.now.get();
        let codepipeline = &self.place().codepipeline;
        let actions = codepipeline.begun_actions(pipeline.as_str(), execution, now);
        let in_progress = || actions.iter().filter(|action| action.is_in_progress);
        let stops = match how {
            Stop::BeforeNextAction => in_progress().next().is_none(),
            Stop::AbandonApproval => in_progress().all(|action| action.category == ActionCategory::Approval),
        };
        let is_running = codepipeline.execution(pipeline.as_str(), execution).is_some_and(|one| one.is_running());
        if stops && is_running {
            // The event is lost, so the next look at the execution finds it.
            codepipeline.set_status(pipeline.as_str(), execution, ExecutionStatus::Stopped, now);
        }
        Ok(())
    }

    async fn alarms(&self, prefix: &str, extent: Extent) -> Result<Vec<Alarm>, ServiceError> {
        self.cloud.begin("DescribeAlarms").await?;
        Ok(self.place().cloudwatch.alarms(prefix, extent))
    }

    async fn alarm_history(
        &self,
        alarm: &str,
        since: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<AlarmEvent>, ServiceError> {
        self.cloud.begin("DescribeAlarmHistory").await?;
        Ok(self.place().cloudwatch.history(alarm, (since, until), self.cloud.clock.now.get()))
    }

    async fn put_event(&self, _region: &Region, event: &Entry) -> EntryResult {
        give_way().await;
        witness::see_report(&self.cloud, self.place, event);
        let result = self.cloud.report_bus.put(self.place().account, event, &self.cloud.chance);
        give_way().await;
        result
    }

    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError> {
        self.cloud.begin("Publish").await?;
        self.place().notices.borrow_mut().extend(notice.link.iter().map(|(_, address)| address.clone()));
        give_way().await;
        Ok(())
    }
}
