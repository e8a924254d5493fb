//! The deployed functions, each with the configuration that its account deployed last.

use std::rc::Rc;

use event_relay::Relay;
use pipeline_starter::Starter;
use sekisho_lambda::Invocation;

use crate::cloud::{Cloud, PLACES, REPOSITORY_ACCOUNT};
use crate::configuration::Features;
use crate::lambda::{AnswerFuture, Event, Function};
use crate::relay_account::RelayAccount;
use crate::starter_account::StarterAccount;

/// All functions.
pub(crate) const FUNCTIONS: [Function; 3] = [Function::Relay, Function::Starter(0), Function::Starter(1)];

/// The functions of all accounts.
pub(crate) struct Deployment {
    cloud: Rc<Cloud>,
    /// The newest configuration in the repository of the configuration.
    pub(crate) newest: Features,
    /// All configurations that event-relay has had since its ledger exists. It has the last one now.
    relay_features: Vec<Features>,
    relay: Rc<Relay<RelayAccount>>,
    starters: [Rc<Starter<StarterAccount>>; PLACES.len()],
}

impl Deployment {
    /// Deploys the same configuration to all accounts.
    pub(crate) fn new(cloud: &Rc<Cloud>, features: Features) -> Self {
        Self {
            cloud: cloud.clone(),
            newest: features,
            relay_features: vec![features],
            relay: Rc::new(relay(cloud, features)),
            starters: [0, 1].map(|place| Rc::new(starter(cloud, place, features))),
        }
    }

    /// Deploys the newest configuration to the account of one function.
    pub(crate) fn deploy(&mut self, function: Function) {
        match function {
            Function::Relay => {
                self.relay_features.push(self.newest);
                self.relay = Rc::new(relay(&self.cloud, self.newest));
            }
            Function::Starter(place) => self.starters[place] = Rc::new(starter(&self.cloud, place, self.newest)),
        }
    }

    /// Forgets the configurations that event-relay had, except the last one.
    pub(crate) fn forget(&mut self) {
        self.relay_features.drain(..self.relay_features.len() - 1);
    }

    /// Whether event-relay ever had a configuration with this feature.
    pub(crate) fn relay_has_had(&self, feature: u8) -> bool {
        self.relay_features.iter().any(|features| features.has(feature))
    }

    /// Whether this feature of event-relay's configuration ever changed.
    pub(crate) fn relay_has_changed(&self, feature: u8) -> bool {
        self.relay_has_had(feature) && self.relay_features.iter().any(|features| !features.has(feature))
    }

    /// The future of an invocation.
    pub(crate) fn handle(&self, event: &Event, invocation: Invocation) -> AnswerFuture {
        let payload = event.payload.clone();
        match event.function {
            Function::Relay => {
                let relay = self.relay.clone();
                Box::pin(async move {
                    let answer = relay.handle(&payload, &invocation).await;
                    answer.map(|_| ()).map_err(|error| error.to_string())
                })
            }
            Function::Starter(place) => {
                let starter = self.starters[place].clone();
                Box::pin(async move {
                    let answer = starter.handle(&payload, &invocation).await;
                    answer.map(|_| ()).map_err(|error| error.to_string())
                })
            }
        }
    }
}

fn relay(cloud: &Rc<Cloud>, features: Features) -> Relay<RelayAccount> {
    Relay { world: RelayAccount::new(cloud), routes: features.routes() }
}

fn starter(cloud: &Rc<Cloud>, place: usize, features: Features) -> Starter<StarterAccount> {
    Starter {
        world: StarterAccount::new(cloud, place),
        routes: features.routes(),
        repository_account: REPOSITORY_ACCOUNT.parse().unwrap_or_else(|error| unreachable!("{error}")),
    }
}
