//! Those who receive the flood, each for one window.

use std::time::Duration;

use super::scene::Scene;
use super::worker::Finds;
use super::{bare, kernel, worker};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// The bare AF_XDP receive loop.
    Ceiling,
    /// The same, but one byte of each packet is read.
    Reader,
    /// Weir, the socket bound to where the flood goes.
    Weir,
    /// Weir, the program finds the socket, and outcomes are kept for like packets.
    WeirProgram,
    /// The same, and no outcome is kept: the program runs for each packet.
    WeirProgramEachTime,
    /// The kernel, the socket bound to where the flood goes.
    Kernel,
    /// The kernel, the same program finds the socket.
    KernelProgram,
}

/// What one receiver took in one window.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Packets that ended where they should.
    pub received: u64,
    /// The window as it really was.
    pub elapsed: Duration,
    /// Part of the window that a worker had something to do: 1 is a full core.
    pub busy: Option<f64>,
    /// Of the packets, those for which no program ran since a like one's outcome was kept.
    pub recalled: u64,
}

impl Receiver {
    /// All of them, in the order of a round.
    pub const ALL: [Receiver; 7] = [
        Receiver::Ceiling,
        Receiver::Reader,
        Receiver::Weir,
        Receiver::WeirProgram,
        Receiver::WeirProgramEachTime,
        Receiver::Kernel,
        Receiver::KernelProgram,
    ];

    /// Its name in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Receiver::Ceiling => "xsk_ceiling",
            Receiver::Reader => "xsk_reader",
            Receiver::Weir => "weir",
            Receiver::WeirProgram => "weir_prog",
            Receiver::WeirProgramEachTime => "weir_prog_each",
            Receiver::Kernel => "kernel",
            Receiver::KernelProgram => "kernel_prog",
        }
    }

    /// Whether it has anything to do with this traffic: Weir has no TCP yet, and asks no program
    /// about a segment.
    pub fn serves(self, scene: &Scene) -> bool {
        !scene.is_tcp() || !matches!(self, Receiver::WeirProgram | Receiver::WeirProgramEachTime)
    }

    /// Receives for one window.
    ///
    /// # Errors
    /// When it cannot be set up, or saw other packets than it should have.
    pub fn sample(self, scene: &Scene) -> anyhow::Result<Sample> {
        scene.bed.weir().enter(|| match self {
            Receiver::Ceiling => bare::sample(scene),
            Receiver::Reader => bare::read_sample(scene),
            Receiver::Weir => worker::sample(scene, Finds::Address),
            Receiver::WeirProgram => worker::sample(scene, Finds::Program),
            Receiver::WeirProgramEachTime => worker::sample(scene, Finds::ProgramEachTime),
            Receiver::Kernel => kernel::sample(scene, false),
            Receiver::KernelProgram => kernel::sample(scene, true),
        })
    }
}

impl Sample {
    /// Million packets a second.
    pub fn mpps(&self) -> f64 {
        self.received as f64 / self.elapsed.as_secs_f64() / 1e6
    }
}
