//! The worker: packets from a device, to the sockets that they belong to, and back.
//!
//! [`worker::Worker::turn`] is the whole packet path; [`ingress`] and [`egress`] are its steps.
//! The control plane speaks to a worker through its [`mailbox::Mailbox`] only, and this crate
//! does not know that a control plane exists.

pub mod batch;
pub mod counters;
pub mod device;
pub mod egress;
pub mod flow_index;
pub mod ingress;
pub mod limits;
pub mod mailbox;
mod prefetch;
pub mod reason;
pub mod registry;
pub mod runner;
pub mod socket;
pub mod steer;
pub mod tables;
mod token_bucket;
mod unfinished;
mod verdict_cache;
pub mod worker;
