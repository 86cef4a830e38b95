//! What the file says, before anything is made of it. Every key is known, every type is right;
//! whether the values make sense is the matter of [`super::check`].

use serde::Deserialize;
use toml::Spanned;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What frames come from.
    pub device: Spanned<Device>,
    /// The worker threads.
    pub worker: Option<Worker>,
    /// Sizes of tables.
    pub limits: Option<Limits>,
    /// Where the control plane listens.
    pub control: Option<Control>,
    /// What the XDP program hands over.
    #[serde(default, rename = "bind")]
    pub binds: Vec<Spanned<Bind>>,
    /// What answers.
    #[serde(default, rename = "socket")]
    pub sockets: Vec<Spanned<Socket>>,
    /// What steers, in this order.
    #[serde(default, rename = "program")]
    pub programs: Vec<Spanned<Program>>,
}

/// The kinds of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// AF_XDP sockets.
    Xsk,
    /// Rings in memory.
    Memory,
    /// A capture file.
    Pcap,
}

/// How AF_XDP is asked to move frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The best that the driver has.
    #[default]
    Auto,
    /// Zero-copy or nothing.
    ZeroCopy,
    /// The driver's hook, copied.
    Copy,
    /// The generic hook.
    Skb,
}

/// How a worker waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idle {
    /// It never does.
    Poll,
    /// It polls for a while, then sleeps.
    #[default]
    Adaptive,
    /// It sleeps whenever there is nothing.
    Interrupt,
}

/// What runs programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Machine code, of programs that the verifier has proved safe.
    #[default]
    Jit,
    /// The interpreter, which checks every access as it happens, and needs no proof.
    Interpreter,
}

/// `[device]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Which device.
    pub kind: Kind,
    /// xsk: the network interface.
    pub interface: Option<Spanned<String>>,
    /// xsk: numbers of its queues, or "all". memory: how many.
    pub queues: Option<Spanned<toml::Value>>,
    /// xsk: how frames move.
    pub mode: Option<Spanned<Mode>>,
    /// Frames a queue.
    pub frames: Option<Spanned<u32>>,
    /// Bytes a frame.
    pub frame_size: Option<Spanned<u32>>,
    /// xsk: entries of the receive ring.
    pub rx_ring: Option<Spanned<u32>>,
    /// xsk: entries of the transmit ring.
    pub tx_ring: Option<Spanned<u32>>,
    /// xsk: entries of the fill ring.
    pub fill_ring: Option<Spanned<u32>>,
    /// xsk: entries of the completion ring.
    pub completion_ring: Option<Spanned<u32>>,
    /// xsk: microseconds of `SO_BUSY_POLL`; off if absent.
    pub busy_poll: Option<Spanned<u32>>,
    /// xsk: `true`, `false` or "auto".
    pub huge_pages: Option<Spanned<toml::Value>>,
    /// pcap: what comes in.
    pub replay: Option<Spanned<String>>,
    /// pcap: where what goes out is written.
    pub record: Option<Spanned<String>>,
}

/// `[worker]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// One processor a queue.
    pub cores: Option<Spanned<Vec<usize>>>,
    /// How it waits.
    pub idle: Option<Idle>,
    /// What runs programs; compiled ones if absent.
    pub engine: Option<Engine>,
    /// Whether what programs say is kept for like packets; it is if absent.
    pub verdict_cache: Option<bool>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Sockets that may be open at once.
    pub sockets: Option<Spanned<usize>>,
}

/// `[control]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Path of the Unix socket.
    pub socket: Option<Spanned<String>>,
    /// Address for Prometheus; none if absent.
    pub metrics: Option<Spanned<String>>,
}

/// `[[bind]]`, and the key `binding` of an entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Destination addresses.
    pub prefix: Spanned<String>,
    /// "udp".
    pub protocol: Spanned<String>,
    /// A port, or "all", as when absent.
    pub port: Option<Spanned<toml::Value>>,
}

/// `[[socket]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// What entries and listings call it.
    pub name: Spanned<String>,
    /// Address and port.
    pub address: Spanned<String>,
    /// Peer of a connected socket.
    pub remote: Option<Spanned<String>>,
    /// Whether an IPv6 wildcard leaves IPv4 out.
    #[serde(default)]
    pub v6only: bool,
    /// What answers.
    pub service: Spanned<String>,
}

/// `[[program]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// A path, or `builtin:NAME`.
    pub object: Spanned<String>,
    /// The program's name in the object.
    pub name: Spanned<String>,
    /// What its maps hold at the start.
    #[serde(default, rename = "entry")]
    pub entries: Vec<Spanned<Entry>>,
}

/// `[[program.entry]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The map's name in the object.
    pub map: Spanned<String>,
    /// The key, unless `binding` says it.
    pub key: Option<Spanned<toml::Value>>,
    /// The key in the layout of `steer.bpf.c`.
    pub binding: Option<Bind>,
    /// The value, unless `socket` says it.
    pub value: Option<Spanned<toml::Value>>,
    /// Name of the socket to put into a sockmap.
    pub socket: Option<Spanned<String>>,
}
