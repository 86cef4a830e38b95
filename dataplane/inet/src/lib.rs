//! Packets as values: the sans-io half of Weir that knows wire formats and nothing else.
//!
//! [`packet::parse`] reads a frame once and yields a [`Packet`]; [`udp`] turns a received
//! datagram into its reply, [`icmp`] refuses one and reads the packets that errors quote,
//! [`build`] writes whole frames. [`wire`] holds one header a file, in two levels: a
//! checked view over bytes, and a parsed value that emits.
//!
//! No input makes it panic or loop without a bound, and it allocates nothing.

#![no_std]
#![forbid(unsafe_code)]

pub mod build;
pub mod error;
pub mod flow;
pub mod icmp;
pub mod packet;
pub mod udp;
pub mod wire;

pub use error::ParseError;
pub use flow::{Address, Endpoint, Family, FlowKey, Protocol};
pub use packet::{ChecksumPolicy, ChecksumState, Packet, Transport, parse};
pub use wire::ethernet::EthernetHeader;
pub use wire::vlan::{VlanTag, VlanTags};
