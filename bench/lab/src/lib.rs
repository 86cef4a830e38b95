//! A lab of Linux network namespaces joined by veth pairs, for the demo, the tests and the bench.
//!
//! Everything that a [`Lab`] makes is gone when it is dropped, by a panic too. What a killed run
//! left behind is removed by the next [`Lab::new`]: the namespaces' names carry the pid.
//!
//! ```no_run
//! use weir_lab::{Bed, BedOptions};
//! let bed = Bed::new(BedOptions { queues: 2, ..BedOptions::default() })?;
//! let socket = bed.peer().enter(|| std::net::UdpSocket::bind("10.77.0.2:0"));
//! # Ok::<(), weir_lab::LabError>(())
//! ```
//!
//! The work is done by `ip` and `ethtool`; an error carries the command and what it said.

mod bed;
mod command;
mod error;
mod lab;
mod leftover;
mod namespace;
mod privilege;
mod veth;

pub use bed::{Bed, BedOptions};
pub use error::LabError;
pub use lab::Lab;
pub use namespace::Namespace;
pub use privilege::privileged;
pub use veth::VethOptions;
