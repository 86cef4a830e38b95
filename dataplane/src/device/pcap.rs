//! Replays a capture and records what goes out, for tests and offline runs.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::time::Duration;

use memmap2::Mmap;
use pcap_file::pcap::{PcapPacket, PcapParser, PcapWriter};
use pcap_file::{DataLink, PcapError};

use super::Mode;
use super::memory::{FRAME_SIZE, Wire};

/// Why a capture cannot be replayed or recorded.
#[derive(Debug, thiserror::Error)]
pub enum PcapFailure {
    /// The file cannot be opened, mapped or made.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is not a pcap capture.
    #[error("not a pcap capture: {0}")]
    Format(#[from] PcapError),
    /// Frames of another link type.
    #[error("the capture's link type is {0:?}; only Ethernet can be replayed")]
    LinkType(DataLink),
}

/// The wire between two captures: what arrives is read from one, what leaves is written to the
/// other. Its device is [`super::memory::MemoryDevice`], its mode [`Mode::Pcap`].
pub struct PcapWire {
    replay: Mmap,
    parser: PcapParser,
    position: usize,
    record: Option<PcapWriter<BufWriter<File>>>,
    sent: u64,
    skipped: u64,
}

impl PcapWire {
    /// Maps `replay`, and makes `record` anew if there is one.
    ///
    /// # Errors
    /// As [`PcapFailure`] says.
    pub fn open(replay: &Path, record: Option<&Path>) -> Result<PcapWire, PcapFailure> {
        let replay = map(&File::open(replay)?)?;
        let (rest, parser) = PcapParser::new(&replay)?;
        let link = parser.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(PcapFailure::LinkType(link));
        }
        let position = replay.len() - rest.len();
        let record = match record {
            Some(path) => Some(PcapWriter::new(BufWriter::new(File::create(path)?))?),
            None => None,
        };
        Ok(PcapWire { replay, parser, position, record, sent: 0, skipped: 0 })
    }

    /// Packets that were longer than a frame or broken in the file, and so not replayed.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether all has been replayed.
    pub fn is_finished(&self) -> bool {
        self.position >= self.replay.len()
    }
}

impl std::fmt::Debug for PcapWire {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PcapWire").field("position", &self.position).finish_non_exhaustive()
    }
}

/// Maps a file for reading.
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only. Should another process truncate the file
    // meanwhile, a read beyond its end is a SIGBUS, which ends the process and reads nothing
    // else: no memory of ours is at stake.
    unsafe { Mmap::map(file) }
}

impl Wire for PcapWire {
    fn next(&mut self, buffer: &mut [u8]) -> usize {
        while self.position < self.replay.len() {
            let left = &self.replay[self.position..];
            let Ok((rest, packet)) = self.parser.next_packet(left) else {
                self.skipped += 1;
                self.position = self.replay.len();
                return 0;
            };
            self.position = self.replay.len() - rest.len();
            if !packet.data.is_empty() && packet.data.len() <= buffer.len() {
                buffer[..packet.data.len()].copy_from_slice(&packet.data);
                return packet.data.len();
            }
            self.skipped += 1;
        }
        0
    }

    fn sent(&mut self, packet: &[u8]) -> bool {
        debug_assert!(packet.len() <= FRAME_SIZE);
        if let Some(record) = &mut self.record {
            // No clock here: packets are numbered in time, a microsecond each.
            let time = Duration::from_micros(self.sent);
            let packet = PcapPacket::new(time, packet.len() as u32, packet);
            if record.write_packet(&packet).is_err() {
                return false;
            }
        }
        self.sent += 1;
        true
    }

    fn wait(&mut self, timeout: Duration) {
        std::thread::sleep(timeout);
    }

    fn mode(&self) -> Mode {
        Mode::Pcap
    }
}
