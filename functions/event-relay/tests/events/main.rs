//! Events and requests through the real function, in a fake account that records every call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test may panic"
)]

mod board;
mod branches;
mod configuration;
mod delivery;
mod existing;
mod explain;
mod files;
mod function;
mod held_waves;
mod holds;
mod image_reconciles;
mod image_trains;
mod images;
mod joined;
mod offers;
mod pending;
mod reconcile;
mod redelivery;
mod report;
mod repositories;
mod resend;
mod tags;
mod targets;
mod train_buttons;
mod train_notices;
mod train_requests;
mod train_texts;
mod trains;
mod two_sources;
mod upgrade;
mod waves;
mod whereabouts;
mod widget;
