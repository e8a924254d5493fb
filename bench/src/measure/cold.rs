//! Cold starts: of the everyday events, and of a grant in another account, which takes two functions.

use serde_json::json;

use super::{Bench, Cold, Counted, Figures, count, micros, request};
use crate::Failure;
use crate::aws::State;
use crate::events::Program;
use crate::runtime::Event;
use crate::throttle::Throttle;

impl Bench<'_> {
    /// Measures the everyday event of a program.
    pub(super) async fn cold(
        &self,
        program: Program,
        before: &State,
        throttle: Option<&Throttle>,
    ) -> Result<Cold, Failure> {
        *self.aws.state() = before.clone();
        self.cold_event(program, "everyday", self.event(program, 2)?, throttle).await
    }

    async fn cold_event(
        &self,
        program: Program,
        configuration: &str,
        event: Event,
        throttle: Option<&Throttle>,
    ) -> Result<Cold, Failure> {
        let mut running = self.start(program, configuration).await?;
        let asked = running.settle().await?;
        let init_cpu = running.process.cpu()?;
        if let Some(throttle) = throttle {
            throttle.add(running.process.id())?;
        }
        let invocation = running.invoke(event).await?;
        let _next = running.settle().await?;
        let cold = Cold {
            init: micros(asked - running.spawned),
            init_cpu: micros(init_cpu),
            invocation: micros(invocation.took),
            wall: micros(invocation.answered - running.spawned),
            cpu: micros(running.process.cpu()?),
            peak: count(running.process.peak()?),
        };
        running.process.end().await?;
        Ok(cold)
    }

    /// The calls since the state of AWS was set.
    pub(super) fn counted(&self) -> Counted {
        let state = self.aws.state();
        Counted { calls: state.calls.clone(), units: state.units, connections: state.connections.values().sum() }
    }

    /// Measures the two functions of a grant in another account, each in a process of its own. On AWS, the hub waits
    /// while the other function works. Here, the hub gets its answer at once, so each figure is the work of one
    /// function.
    pub(super) async fn handed_on(&self, figures: &mut Figures) -> Result<(), Failure> {
        let program = Program::TempAccess;
        if !self.plan.commands.contains_key(program.name()) {
            return Ok(());
        }
        let (mut grant, _) = program.event(2, &self.plan.events)?;
        let until = "2099-01-01T00:00:00.000Z";
        let envelope = json!({"version": 1, "id": "2", "until": until, "door": null, "request": grant});
        let mut at_other = request(program, envelope.to_string(), 2);
        at_other.function.push_str(":hub");
        grant["account"] = json!("other");
        let at_hub = request(program, grant.to_string(), 2);
        for _ in 0..self.plan.runs {
            for (name, event) in [("hub", &at_hub), ("other", &at_other)] {
                *self.aws.state() = State::default();
                let cold = self.cold_event(program, "hub", event.clone(), None).await?;
                figures.handed_on.entry(name).or_default().push(cold);
                figures.calls.insert(name, self.counted());
            }
        }
        Ok(())
    }
}
