//! The deployed functions, each with the configuration that its account deployed last.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use event_relay::Relay;
use pipeline_starter::Starter;
use sekisho_domain::route::{Retreat, Routes};
use sekisho_lambda::Invocation;

use crate::cloud::{Cloud, PLACES, REPOSITORY_ACCOUNT};
use crate::configuration::Features;
use crate::lambda::{AnswerFuture, Event, Function};
use crate::relay_account::RelayAccount;
use crate::starter_account::StarterAccount;

/// The most steps of a request that runs at once.
const MOST_CALLS: usize = 10_000;

/// All functions.
pub(crate) const FUNCTIONS: [Function; 3] = [Function::Relay, Function::Starter(0), Function::Starter(1)];

/// The functions of all accounts.
pub(crate) struct Deployment {
    cloud: Rc<Cloud>,
    /// The routes of a configuration with these features.
    routes: fn(Features) -> Routes,
    /// The newest configuration in the repository of the configuration.
    pub(crate) newest: Features,
    /// All configurations that event-relay has had since its ledger exists. It has the last one now.
    relay_features: Vec<Features>,
    relay: Rc<Relay<RelayAccount>>,
    starters: [Rc<Starter<StarterAccount>>; PLACES.len()],
}

impl Deployment {
    /// Deploys the same configuration to all accounts.
    pub(crate) fn new(cloud: &Rc<Cloud>, features: Features, routes: fn(Features) -> Routes) -> Self {
        Self {
            cloud: cloud.clone(),
            routes,
            newest: features,
            relay_features: vec![features],
            relay: Rc::new(relay(cloud, routes(features))),
            starters: [0, 1].map(|place| Rc::new(starter(cloud, place, routes(features)))),
        }
    }

    /// Deploys the newest configuration to the account of one function.
    pub(crate) fn deploy(&mut self, function: Function) {
        match function {
            Function::Relay => {
                self.relay_features.push(self.newest);
                self.relay = Rc::new(relay(&self.cloud, (self.routes)(self.newest)));
            }
            Function::Starter(place) => {
                self.starters[place] = Rc::new(starter(&self.cloud, place, (self.routes)(self.newest)));
            }
        }
    }

    /// Forgets the configurations that event-relay had, except the last one.
    pub(crate) fn forget(&mut self) {
        self.relay_features.drain(..self.relay_features.len() - 1);
    }

    /// Whether event-relay ever had a configuration with this feature.
    pub(crate) fn relay_has_had(&self, feature: u16) -> bool {
        self.relay_features.iter().any(|features| features.has(feature))
    }

    /// Whether this feature of event-relay's configuration ever changed.
    pub(crate) fn relay_has_changed(&self, feature: u16) -> bool {
        self.relay_has_had(feature) && self.relay_features.iter().any(|features| !features.has(feature))
    }

    /// The answer to a request of a person, whose invocation runs at once.
    pub(crate) fn ask(&self, payload: &str, invocation: &Invocation) -> Result<String, String> {
        let relay = self.relay.clone();
        let mut answer = Box::pin(async move { relay.handle(payload, invocation).await });
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..MOST_CALLS {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
                return answer
                    .map(|answer| serde_json::to_string(&answer).unwrap_or_default())
                    .map_err(|e| e.to_string());
            }
        }
        Err("the request does not end".to_owned())
    }

    /// What goes back if a wave fails, for each wave of a route of event-relay's configuration.
    pub(crate) fn relay_waves(&self, route: &str) -> Vec<Retreat> {
        let route = self.relay.routes.iter().find(|one| one.name() == route);
        route.map(|route| route.waves().iter().map(|wave| wave.retreat).collect()).unwrap_or_default()
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
                    let answer = Box::pin(starter.handle(&payload, &invocation)).await;
                    answer.map(|_| ()).map_err(|error| error.to_string())
                })
            }
        }
    }
}

fn relay(cloud: &Rc<Cloud>, routes: Routes) -> Relay<RelayAccount> {
    Relay { world: RelayAccount::new(cloud), routes }
}

fn starter(cloud: &Rc<Cloud>, place: usize, routes: Routes) -> Starter<StarterAccount> {
    Starter {
        world: StarterAccount::new(cloud, place),
        routes,
        repository_account: REPOSITORY_ACCOUNT.parse().unwrap_or_else(|error| unreachable!("{error}")),
    }
}
