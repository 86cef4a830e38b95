//! Every bound of the dataplane in one place, related by compile-time asserts.

/// Frames that one turn takes from the device.
pub const BATCH: usize = 64;
/// Frames that may wait for the device's transmit ring; what is beyond is dropped and counted.
pub const OUTGOING: usize = 4 * BATCH;
/// Commands that one turn applies.
pub const COMMANDS_PER_TURN: usize = 16;
/// Commands that may wait for a worker.
pub const COMMAND_QUEUE: usize = 4096;
/// Events that may wait for the control plane.
pub const EVENT_QUEUE: usize = 4096;
/// Programs that may be attached in order, as in the kernel (`MAX_BPF_SK_LOOKUP_PROGS`).
pub const PROGRAMS: usize = 64;
/// Outcomes of programs that a worker keeps.
pub const VERDICTS: usize = 4096;
/// Sockets that a worker holds if the configuration does not say.
pub const SOCKETS_DEFAULT: usize = 65_536;
/// Sockets that a worker may be configured to hold.
pub const SOCKETS_MAX: usize = 16 * 1024 * 1024;
/// Workers of one process: a socket id has eight bits for them, one value is "every worker".
pub const WORKERS: usize = 254;
/// Bytes of an answer made by the dataplane itself: RFC 4443 2.4 (c) bounds an error by the
/// minimum IPv6 MTU; Ethernet and two VLAN tags go before it.
pub const ANSWER: usize = 1280 + 14 + 8;
/// ICMP errors a second and worker, and how many may go at once (`icmp_msgs_per_sec`,
/// `icmp_msgs_burst`).
pub const ICMP_PER_SECOND: u64 = 1000;
/// See [`ICMP_PER_SECOND`].
pub const ICMP_BURST: u64 = 50;
/// Peers whose unfinished checksums are followed at once.
pub const UNFINISHED_PEERS: usize = 16;
/// Unfinished checksums from one peer, in a row, that make a report.
pub const UNFINISHED_RUN: u32 = 8;
/// Bytes of one line of `bpf_trace_printk`.
pub const TRACE_LINE: usize = 256;

const _: () = assert!(OUTGOING >= 2 * BATCH, "a whole batch of answers fits behind a full backlog");
const _: () = assert!(COMMAND_QUEUE >= COMMANDS_PER_TURN);
const _: () = assert!(SOCKETS_DEFAULT <= SOCKETS_MAX && SOCKETS_MAX <= u32::MAX as usize);
const _: () = assert!(WORKERS < crate::socket::EVERY_WORKER as usize);
