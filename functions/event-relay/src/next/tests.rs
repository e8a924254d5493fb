//! A train of three waves with two targets each, in memory.

mod asked;
mod condemned;
mod edited;
mod late;
mod named;
mod random;
mod shared;
mod world;
