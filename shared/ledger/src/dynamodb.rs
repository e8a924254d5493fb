//! The ledger in DynamoDB.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use sekisho_domain::decision::Decision;
use sekisho_lambda::service_error::is_throttling;

use crate::{Error, Key, ReadRow, Row, Store, Write, decision_rows};

type Item = HashMap<String, AttributeValue>;

const PK: &str = "pk";
const SK: &str = "sk";
const REVISION: &str = "revision";
const WRITER: &str = "writer";
/// The most rows that one `BatchGetItem` call may read.
const MAX_BATCH: usize = 100;
/// The most `BatchGetItem` calls for one batch. DynamoDB leaves keys unprocessed if the answer would be larger than
/// 16 MB, or if it throttles a part of the call.
const MAX_ROUNDS: u32 = 5;
/// The most calls for one transaction that DynamoDB throttles. The SDK does not repeat a canceled transaction.
const MAX_TRANSACTION_CALLS: u32 = 4;
/// The first pause before a call is repeated that DynamoDB throttled in part. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The reasons for which DynamoDB cancels a transaction if another invocation has written one of the rows, or writes
/// it at the same time. The caller reads the rows again in both cases.
const CONFLICTS: [&str; 2] = ["ConditionalCheckFailed", "TransactionConflict"];

/// The table `sekisho-ledger` of an account.
#[derive(Debug)]
pub struct Ledger {
    client: LazyCell<Client, Box<dyn FnOnce() -> Client>>,
    table: String,
}

impl Ledger {
    /// `table` is the table's name. The client is made at its first use, or earlier by [`Ledger::make_client`].
    #[must_use]
    pub fn new(client: LazyCell<Client, Box<dyn FnOnce() -> Client>>, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Makes the client, if it has not been made yet.
    pub fn make_client(&self) {
        LazyCell::force(&self.client);
    }
}

impl Ledger {
    /// Reads up to [`MAX_BATCH`] rows. DynamoDB may answer a part of them, so the rest is read again.
    async fn read_batch(&self, keys: &[Key]) -> Result<Vec<Item>, Error> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let unavailable = |source| Error::Unavailable { key: first.clone(), throttled: false, source };
        let mut open: Vec<Item> = keys.iter().map(key_item).collect();
        let mut items = Vec::with_capacity(keys.len());
        for round in 0..MAX_ROUNDS {
            if round > 0 {
                pause(round - 1).await;
            }
            let keys = KeysAndAttributes::builder().set_keys(Some(open)).consistent_read(true).build();
            let keys = keys.map_err(|error| unavailable(error.into()))?;
            let answer = self.client.batch_get_item().request_items(&self.table, keys).send().await;
            let answer = answer.map_err(|error| self::unavailable(first, error))?;
            items.extend(answer.responses.unwrap_or_default().into_values().flatten());
            let unprocessed = answer.unprocessed_keys.unwrap_or_default();
            open = unprocessed.into_values().flat_map(|rest| rest.keys).collect();
            if open.is_empty() {
                return Ok(items);
            }
        }
        let source = format!("{} keys were left unprocessed {MAX_ROUNDS} times", open.len());
        Err(Error::Unavailable { key: first.clone(), throttled: true, source: source.into() })
    }

    /// Writes the items in one transaction. `rows` are the same writes.
    async fn transact(&self, items: Vec<TransactWriteItem>, rows: &[Write], first: &Key) -> Result<(), Error> {
        let answer = self.client.transact_write_items().set_transact_items(Some(items)).send().await;
        let Err(error) = answer else { return Ok(()) };
        let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) = error.as_service_error() else {
            return Err(unavailable(first, error));
        };
        let reasons = || canceled.cancellation_reasons().iter().zip(rows);
        let has = |reason: &CancellationReason, is: fn(&str) -> bool| reason.code().is_some_and(is);
        if let Some((_, write)) = reasons().find(|(reason, _)| has(reason, |code| CONFLICTS.contains(&code))) {
            return Err(Error::Changed(write.key.clone()));
        }
        match reasons().find(|(reason, _)| has(reason, is_throttling_reason)) {
            Some((_, write)) => {
                Err(Error::Unavailable { key: write.key.clone(), throttled: true, source: error.into() })
            }
            None => Err(unavailable(first, error)),
        }
    }

    fn transact_item(&self, write: &Write, writer: &str) -> Result<TransactWriteItem, BuildError> {
        let mut item: Item = write.item.clone().into();
        item.extend(key_item(&write.key));
        item.insert(REVISION.to_owned(), AttributeValue::N(write.revision().to_string()));
        item.insert(WRITER.to_owned(), AttributeValue::S(writer.to_owned()));
        let put = Put::builder().table_name(&self.table).set_item(Some(item));
        let put = match write.expected {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(expected) => put
                .condition_expression("revision = :expected")
                .expression_attribute_values(":expected", AttributeValue::N(expected.to_string())),
        };
        Ok(TransactWriteItem::builder().put(put.build()?).build())
    }
}

impl Store for Ledger {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key_item(key)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| unavailable(key, e))?;
        answer.item.map(|item| row(key, item)).transpose()
    }

    async fn read_many<T: DeserializeOwned>(&self, keys: &[Key]) -> Result<Vec<ReadRow<T>>, Error> {
        let batches = keys.chunks(MAX_BATCH).map(|batch| self.read_batch(batch));
        let mut found: HashMap<Key, Item> = HashMap::with_capacity(keys.len());
        for items in join_all(batches).await {
            for mut item in items? {
                let mut take = |name| match item.remove(name) {
                    Some(AttributeValue::S(text)) => text,
                    _ => String::new(),
                };
                found.insert(Key { pk: take(PK), sk: take(SK) }, item);
            }
        }
        Ok(keys.iter().map(|key| found.remove(key).map(|item| row(key, item)).transpose()).collect())
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, Error> {
        self.each(pk, sk_prefix).await?.into_iter().collect()
    }

    async fn each<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Result<Row<T>, Error>>, Error> {
        let whole = Key { pk: pk.to_owned(), sk: format!("{sk_prefix}…") };
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
            .consistent_read(true);
        if !sk_prefix.is_empty() {
            query = query
                .key_condition_expression("pk = :pk AND begins_with(sk, :sk)")
                .expression_attribute_values(":sk", AttributeValue::S(sk_prefix.to_owned()));
        }
        let mut items = query.into_paginator().items().send();
        let mut rows = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|e| unavailable(&whole, e))?;
            let key = Key { pk: pk.to_owned(), sk: text(&item, SK).unwrap_or_default().to_owned() };
            rows.push(row(&key, item));
        }
        Ok(rows)
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, Error> {
        let revision = expected.unwrap_or(0) + 1;
        let mut item: Item = to_item(key, state)?;
        item.insert(REVISION.to_owned(), AttributeValue::N(revision.to_string()));
        item.insert(WRITER.to_owned(), AttributeValue::S(writer.to_owned()));
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item.clone()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        put = match expected {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(expected) => put
                .condition_expression("revision = :expected")
                .expression_attribute_values(":expected", AttributeValue::N(expected.to_string())),
        };
        match put.send().await {
            Ok(_) => Ok(revision),
            Err(error) => match error.as_service_error() {
                // The SDK repeated this write because the first answer was lost. The row already has the new content.
                Some(PutItemError::ConditionalCheckFailedException(failed)) if failed.item.as_ref() == Some(&item) => {
                    Ok(revision)
                }
                Some(
                    PutItemError::ConditionalCheckFailedException(_) | PutItemError::TransactionConflictException(_),
                ) => Err(Error::Changed(key.clone())),
                _ => Err(unavailable(key, error)),
            },
        }
    }

    async fn write_all(&self, rows: &[Write], writer: &str) -> Result<(), Error> {
        let Some(first) = rows.first() else { return Ok(()) };
        let items = rows.iter().map(|write| self.transact_item(write, writer)).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(|error| Error::Unreadable { key: first.key.clone(), source: error.into() })?;
        for call in 1..MAX_TRANSACTION_CALLS {
            match self.transact(items.clone(), rows, &first.key).await {
                // A throttled transaction wrote nothing, so it can be repeated.
                Err(error) if error.is_throttled() => pause(call - 1).await,
                answer => return answer,
            }
        }
        self.transact(items, rows, &first.key).await
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), Error> {
        let answer = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key_item(key)))
            .condition_expression("attribute_not_exists(pk) OR revision = :expected")
            .expression_attribute_values(":expected", AttributeValue::N(expected.to_string()))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(
                    DeleteItemError::ConditionalCheckFailedException(_)
                    | DeleteItemError::TransactionConflictException(_),
                ) => Err(Error::Changed(key.clone())),
                _ => Err(unavailable(key, error)),
            },
        }
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), Error> {
        for (key, row) in decision_rows(function, request_id, now, decisions) {
            let item = to_item(&key, &row)?;
            self.client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(item))
                .send()
                .await
                .map_err(|e| unavailable(&key, e))?;
        }
        Ok(())
    }
}

async fn pause(count: u32) {
    tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(count)).await;
}

/// Whether a reason for which DynamoDB canceled a transaction is throttling. The code of a reason may lack the ending
/// of the error's name.
fn is_throttling_reason(code: &str) -> bool {
    is_throttling(code) || code == "ProvisionedThroughputExceeded"
}

fn key_item(key: &Key) -> Item {
    Item::from([(PK.to_owned(), AttributeValue::S(key.pk.clone())), (SK.to_owned(), AttributeValue::S(key.sk.clone()))])
}

fn to_item(key: &Key, state: &impl Serialize) -> Result<Item, Error> {
    let mut item: Item =
        serde_dynamo::to_item(state).map_err(|error| Error::Unreadable { key: key.clone(), source: error.into() })?;
    item.extend(key_item(key));
    Ok(item)
}

fn text<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str)
}

fn row<T: DeserializeOwned>(key: &Key, item: Item) -> Result<Row<T>, Error> {
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreadable { key: key.clone(), source };
    // Without a revision the row is unreadable: no later write could name the revision that it replaces.
    let revision = item.get(REVISION).and_then(|value| value.as_n().ok()).and_then(|n| n.parse().ok());
    let revision = revision.ok_or_else(|| unreadable("the field `revision` is missing".into()))?;
    let state = serde_dynamo::from_item(item).map_err(|error| unreadable(error.into()))?;
    Ok(Row { sk: key.sk.clone(), revision, state })
}

fn unavailable<E>(key: &Key, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let throttled = error.code().is_some_and(is_throttling);
    Error::Unavailable { key: key.clone(), throttled, source: error.into() }
}
