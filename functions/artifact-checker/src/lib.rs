//! artifact-checker: every artifact under the right key, provably readable.
//!
//! An S3 event says that an object was written. The function looks at it: how it is encrypted, under which key by its
//! full ARN, whether that key works, and whether one byte of it can be read. Where it is under a wrong key of this
//! account, it is put under the right one, as `[artifacts] repair` says, and looked at again. Its own writes come back
//! as events and end as `compliant`.
//!
//! `{"action":"sweep","bucket":"…"}`, or a schedule, looks at every object of a bucket, with `"versions":true` at every
//! version, with `"dry_run":true` changing nothing. A HEAD tells of each; one of each page of the listing is read, too,
//! and every one after a read has failed. What an invocation has no time for, the next goes on with by itself.
//!
//! Never: a delete; a copy of a version that isn't the latest; a way around an object lock; more than three repairs of
//! one object within minutes.

pub mod answer;
pub mod check;
pub mod claim;
pub mod consumer;
pub mod event;
pub mod faults;
pub mod handler;
pub mod itself;
pub mod key;
pub mod kms;
pub mod limit;
pub mod notice;
pub mod object;
pub mod pipelines;
pub mod repair;
pub mod right_key;
pub mod s3;
pub mod sdk;
pub mod sweep;
pub mod verdict;
