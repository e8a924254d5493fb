//! A train of three waves with two targets each, in memory.

mod asked;
mod condemned;
mod edited;
mod late;
mod named;
mod promises;
mod random;
mod record;
mod shared;
mod world;
