//! A train of three waves with two targets each, in memory.

mod named;
mod random;
mod world;
