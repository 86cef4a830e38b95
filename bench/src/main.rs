//! Measures Weir beside the kernel on the same flood, and alone in memory.
//!
//! A figure is printed only if what was counted is what should have been counted: a receiver that
//! saw other packets than it was to see ends the run with an error.

mod figures;
mod flood;
mod maps;
mod packet;
mod plot;
mod rx;
mod steering;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "weir-bench", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Nanoseconds a packet on the in-memory device.
    Packet(packet::Arguments),
    /// Sends: started by `rx`, in the sender's namespace.
    #[command(hide = true)]
    Flood(flood::Arguments),
    /// Nanoseconds a lookup, update and deletion of each type of map, beside the kernel's.
    Maps(maps::Arguments),
    /// Packets a second from a flood: Weir, the kernel, and what AF_XDP gives at most.
    Rx(rx::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Packet(arguments) => packet::run(&arguments),
        Command::Flood(arguments) => flood::run(&arguments),
        Command::Maps(arguments) => maps::run(&arguments),
        Command::Rx(arguments) => rx::run(&arguments),
    }
}
