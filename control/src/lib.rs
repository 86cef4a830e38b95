//! The control plane of Weir: the daemon, its API, its configuration and metrics, and the command
//! `weir`.
//!
//! ```text
//! file → Config → rehearsal → device, workers, sockets, programs, bindings → API, signals
//! ```
#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod fleet;
pub mod flood;
pub mod metrics;
pub mod plan;
pub mod staging;
pub mod steering;
