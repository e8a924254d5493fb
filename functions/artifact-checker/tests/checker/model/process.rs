//! One process of Lambda. It handles one invocation at a time, and may die before or after each call.

use std::collections::BTreeSet;
use std::future::pending;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};

use artifact_checker::{Cache, Checker, Clients, Settings};
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use sekisho_ledger::Memory;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::cloud::Cloud;
use super::ledger::Ledger;
use super::network::Network;
use crate::world::{TOPIC, World, now};

/// The invocation that a process handles.
#[derive(Debug, Default)]
pub(super) struct Current {
    pub(super) request_id: String,
    /// The number of invocations in the chain that has led to this one.
    pub(super) hops: u32,
    /// The number of calls before the process dies; `None` if it lives.
    pub(super) life: Option<u64>,
    /// The keys that were listed to the invocation and that it has not looked at.
    pub(super) ahead: BTreeSet<String>,
    /// The objects whose repairs it has claimed.
    pub(super) claims: BTreeSet<String>,
}

/// What kills a process and what it is doing, which its clients share.
pub(super) struct Life {
    pub(super) cloud: Cloud,
    pub(super) died: Notify,
    current: Mutex<Current>,
}

impl Life {
    pub(super) fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap()
    }

    /// A moment before or after a call takes effect.
    pub(super) async fn step(&self) {
        let is_dead = match &mut self.current().life {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if is_dead {
            self.die().await;
        }
        let pause = self.cloud.state().pause();
        sleep(pause).await;
    }

    /// Never returns: the history drops the invocation.
    pub(super) async fn die(&self) {
        self.died.notify_one();
        pending::<()>().await;
    }
}

pub(super) struct Process {
    pub(super) checker: Checker<Ledger>,
    pub(super) life: Arc<Life>,
}

impl Process {
    pub(super) fn new(cloud: &Cloud, settings: &Settings, memory: &Rc<Memory>) -> Self {
        let life = Arc::new(Life { cloud: cloud.clone(), died: Notify::new(), current: Mutex::default() });
        let network = SharedHttpConnector::new(Network { life: Arc::clone(&life) });
        let checker = Checker {
            ledger: Ledger { memory: Rc::clone(memory), life: Arc::clone(&life) },
            settings: settings.clone(),
            clients: Clients::new(&World::config_through(network), true, TOPIC),
            clock: now,
            cache: Cache::default(),
        };
        Self { checker, life }
    }
}
