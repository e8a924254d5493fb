//! KMS: what a key is, and whether it can be used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use aws_sdk_kms::Client;
use aws_sdk_kms::types::KeyState;
use sekisho_lambda::aws::Later;
use tokio::sync::OnceCell;

use crate::answer::{Refusal, Unanswered};
use crate::key::{Described, KeyArn};
use crate::sdk::refusal;

/// Describes keys, each name once: its lifetime is one invocation, so that a key's state is at most so old.
#[derive(Debug)]
pub struct Keys<'c> {
    client: &'c Later<Client>,
    known: RefCell<HashMap<String, Rc<OnceCell<Described>>>>,
}

impl<'c> Keys<'c> {
    /// Knows none yet.
    #[must_use]
    pub fn new(client: &'c Later<Client>) -> Self {
        Self { client, known: RefCell::default() }
    }

    /// The key behind an ARN, an alias or an id, and whether it can be used.
    ///
    /// # Errors
    /// Where KMS did not answer.
    pub async fn describe(&self, name: &str) -> Result<Described, Unanswered> {
        let cell = Rc::clone(self.known.borrow_mut().entry(name.to_owned()).or_default());
        cell.get_or_try_init(|| self.ask(name)).await.cloned()
    }

    async fn ask(&self, name: &str) -> Result<Described, Unanswered> {
        let answer = match self.client.describe_key().key_id(name).send().await {
            Ok(answer) => answer,
            Err(error) => {
                return match refusal("kms:DescribeKey", error) {
                    Refusal::Later(unanswered) => Err(unanswered),
                    Refusal::Said(said) if said.code.as_deref() == Some("NotFoundException") => Ok(Described::Missing),
                    Refusal::Said(said) => Ok(Described::Hidden(said.to_string())),
                };
            }
        };
        let key = answer.key_metadata.and_then(|key| Some((KeyArn::parse(key.arn.as_deref()?)?, key.key_state)));
        Ok(match key {
            Some((arn, Some(KeyState::Enabled))) => Described::Usable(arn),
            Some((arn, Some(state))) => Described::Unusable(arn, state.as_str().to_owned()),
            _ => Described::Hidden("the answer names no key and state".to_owned()),
        })
    }
}
