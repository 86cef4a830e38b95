//! The configuration in two levels: what the file says ([`file`]), and what is meant by it, with
//! every value checked ([`Config`]).

pub mod binding;
mod check;
pub mod file;
pub mod literal;
pub mod prefix;
mod problem;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use weir_dataplane::socket::SocketSpec;

pub use binding::{Binding, Protocol};
pub use file::{Idle, Mode};
pub use literal::Literal;
pub use prefix::Prefix;
pub use problem::{Problem, Problems};

/// Bytes that a configuration may have.
pub const FILE_MAX: u64 = 16 * 1024 * 1024;
/// Bindings that a configuration may have.
pub const BINDINGS_MAX: usize = 4096;
/// Where the control plane listens if the file does not say.
pub const CONTROL_SOCKET: &str = "/run/weir.sock";

/// A value and the line that it comes from. Two are equal if their values are, wherever they
/// stand.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// What was meant.
    pub value: T,
    /// Where it stands, from 1.
    pub line: usize,
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &At<T>) -> bool {
        self.value == other.value
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Which queues of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queues {
    /// All that it has when Weir starts.
    All,
    /// These, each once.
    These(Vec<u32>),
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Queues::All => f.write_str("all"),
            Queues::These(queues) => write!(f, "{queues:?}"),
        }
    }
}

/// An AF_XDP device: one worker a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Xsk {
    /// Name of the interface.
    pub interface: At<String>,
    /// Its queues.
    pub queues: At<Queues>,
    /// What is asked of the kernel.
    pub mode: Mode,
    /// Frames a queue; the default of the device if absent, as for what follows.
    pub frames: Option<u32>,
    /// Bytes a frame, a power of two from 2048.
    pub frame_size: Option<u32>,
    /// Entries of the receive ring, a power of two.
    pub rx_ring: Option<u32>,
    /// Entries of the transmit ring.
    pub tx_ring: Option<u32>,
    /// Entries of the fill ring.
    pub fill_ring: Option<u32>,
    /// Entries of the completion ring.
    pub completion_ring: Option<u32>,
    /// Microseconds of busy polling.
    pub busy_poll: Option<u32>,
    /// Huge pages: always, never, or where there are any.
    pub huge_pages: Option<bool>,
}

/// What frames come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Device {
    /// AF_XDP.
    Xsk(Xsk),
    /// Rings in memory.
    Memory {
        /// One worker each.
        queues: usize,
    },
    /// A capture file and a recording.
    Pcap {
        /// What comes in.
        replay: At<PathBuf>,
        /// Where what goes out is written, if anywhere.
        record: Option<At<PathBuf>>,
    },
}

/// Initial contents of one place of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The map's name in the object.
    pub map: String,
    /// Where.
    pub key: Literal,
    /// What.
    pub value: EntryValue,
}

/// What goes into a map.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryValue {
    /// Bytes.
    Literal(Literal),
    /// The socket of that name.
    Socket(String),
}

/// Where an object comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectSource {
    /// One that is part of Weir.
    Builtin(String),
    /// A file.
    File(PathBuf),
}

impl fmt::Display for ObjectSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectSource::Builtin(name) => write!(f, "builtin:{name}"),
            ObjectSource::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A program to attach. Programs of one object share its maps.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Where its object is.
    pub object: At<ObjectSource>,
    /// Its name there.
    pub name: At<String>,
    /// What its maps hold at the start.
    pub entries: Vec<At<Entry>>,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// What frames come from.
    pub device: At<Device>,
    /// Processors of the workers, in the order of the queues; spread if absent.
    pub cores: Option<At<Vec<usize>>>,
    /// How workers wait.
    pub idle: Idle,
    /// What runs programs.
    pub engine: weir_bpf::Engine,
    /// Whether what programs say is kept for like packets.
    pub verdict_cache: bool,
    /// Sockets that may be open at once.
    pub sockets_max: usize,
    /// Path of the Unix socket.
    pub control_socket: PathBuf,
    /// The line that gives it; none if it is the default.
    pub control_socket_line: Option<usize>,
    /// Address for Prometheus.
    pub metrics: Option<At<SocketAddr>>,
    /// What the XDP program hands over.
    pub bindings: Vec<At<Binding>>,
    /// What answers.
    pub sockets: Vec<At<SocketSpec>>,
    /// What steers, in order.
    pub programs: Vec<At<Program>>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Config, Problems> {
        let problem = |reason: String, help: &str| Problem::new(path, reason, help);
        let metadata = std::fs::metadata(path).map_err(|error| {
            problem(
                format!("cannot be read: {error}"),
                "give the path of a configuration with -c; configs/ has examples",
            )
        })?;
        if metadata.len() > FILE_MAX {
            return Err(problem(
                format!("has {} bytes, more than {FILE_MAX}", metadata.len()),
                "a configuration is a small text file: check the path",
            )
            .into());
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            problem(format!("cannot be read: {error}"), "give a text file in UTF-8, in TOML")
        })?;
        Config::parse(path, &text)
    }

    /// Checks the text of a file. `path` is for messages, and what relative paths start from.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Config, Problems> {
        let file: file::File = toml::from_str(text).map_err(|error| {
            let problem = Problem::new(path, error.message().trim(), toml_help(error.message()));
            match error.span() {
                Some(span) => problem.at(line_of(text, span.start)),
                None => problem,
            }
        })?;
        check::check(path, text, file)
    }

    /// A problem with this file, at a line of it.
    pub fn problem(
        &self,
        line: usize,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) -> Problem {
        Problem::new(&self.path, reason, help).at(line)
    }
}

/// The line, from 1, in which the byte at `offset` stands.
fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

fn toml_help(message: &str) -> &'static str {
    if message.contains("unknown field") {
        "remove the key, or mend its spelling: the message names those that are known"
    } else if message.contains("missing field") {
        "add the key; README.md and configs/ show every section"
    } else if message.contains("unknown variant") {
        "choose one of the values that the message names"
    } else if message.contains("invalid type") {
        "give a value of the type that the message expects"
    } else {
        "mend the TOML here; configs/ has examples"
    }
}
