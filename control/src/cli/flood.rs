//! `weir flood`

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use weir_xsk::FloodPattern;

use super::Global;
use super::format::{count, rate};
use super::trouble::Trouble;
use crate::flood::{Bound, Flood, Source};

#[derive(Debug, Args)]
pub(super) struct FloodVerb {
    /// The interface to send from.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// What to send.
    #[arg(long, value_enum, default_value = "udp4")]
    pattern: Pattern,
    /// What makes the packets.
    #[arg(long, value_enum, default_value = "live-frames")]
    source: Maker,
    /// Make the last 16 bits of the source addresses random.
    #[arg(long)]
    random_sources: bool,
    /// Where to send to [default: 192.0.2.1 or 2001:db8::1].
    #[arg(long, value_name = "ADDRESS")]
    destination: Option<IpAddr>,
    /// The destination port.
    #[arg(long, default_value = "80", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Packets a second [default: as fast as it goes].
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Stop after so many packets.
    #[arg(long, value_name = "PACKETS")]
    count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86400))]
    seconds: u64,
    /// Flood an interface that is no veth in a namespace of its own.
    #[arg(long)]
    i_own_this_network: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pattern {
    Udp4,
    Udp6,
    #[value(name = "tcp4-syn")]
    Tcp4Syn,
    #[value(name = "tcp6-syn")]
    Tcp6Syn,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Maker {
    LiveFrames,
    Xsk,
    Memory,
}

impl FloodVerb {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let flood = Flood {
            source: match self.source {
                Maker::LiveFrames => Source::LiveFrames,
                Maker::Xsk => Source::Xsk,
                Maker::Memory => Source::Memory,
            },
            pattern: match self.pattern {
                Pattern::Udp4 => FloodPattern::Udp4,
                Pattern::Udp6 => FloodPattern::Udp6,
                Pattern::Tcp4Syn => FloodPattern::Tcp4Syn,
                Pattern::Tcp6Syn => FloodPattern::Tcp6Syn,
            },
            interface: self.interface,
            destination: self.destination,
            port: self.port,
            random_sources: self.random_sources,
            bound: Bound {
                count: self.count,
                time: Duration::from_secs(self.seconds),
                rate: self.rate,
            },
            own_network: self.i_own_this_network,
        };
        let outcome = flood
            .run(&mut |progress| {
                eprintln!(
                    "{:>4} s  {:>15} packets  {:>12}",
                    progress.elapsed.as_secs(),
                    count(progress.sent),
                    rate(progress.rate)
                );
            })
            .map_err(|error| Trouble::new(error.to_string(), error.help()))?;
        global.show(&outcome, |outcome| {
            format!(
                "{} {}: {} packets in {:.2} s, {}",
                outcome.source,
                outcome.pattern,
                count(outcome.sent),
                outcome.seconds,
                rate(outcome.packets_per_second)
            )
        });
        Ok(())
    }
}
