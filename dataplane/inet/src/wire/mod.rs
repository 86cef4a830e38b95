//! One header a file, each in two levels: a checked view over bytes whose accessors bear
//! the RFC's names, and a parsed value that emits. A view checks lengths when it is made,
//! so that no accessor can fail.

pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;
pub mod vlan;
