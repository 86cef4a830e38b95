//! AF_XDP behind a safe API, and the little of the kernel's own BPF that Weir needs: the program
//! that redirects what is bound, and the one that floods.
//!
//! A [`Queue`] is one AF_XDP socket with its memory; a [`Frame`] is one buffer of it, in one place
//! at a time. A [`Redirect`] is the XDP program on an interface and what is bound there. Both are
//! gone when their owner is, by SIGKILL too: nothing is pinned.

mod binding;
pub mod ceiling;
mod config;
mod counters;
mod frame;
mod interface;
pub mod kernel;
mod live_frames;
mod open;
mod queue;
mod redirect;
mod rules;
mod template;
mod transmitter;

pub use binding::{Binding, BindingError, Protocol};
pub use config::{BusyPoll, HugePages, Mode, ModeRequest, QueueConfig};
pub use counters::{Balance, RedirectCounters, Statistics};
pub use frame::Frame;
pub use interface::{InterfaceError, interface_index, mtu, rx_queues};
pub use live_frames::{FloodError, LiveFrames};
pub use open::OpenError;
pub use queue::{BATCH, Queue};
pub use redirect::{AttachError, Redirect, RedirectError};
pub use template::{FloodPattern, FloodTraffic, Template, TemplateError};
pub use transmitter::Transmitter;
