//! `weir-bench packet`: what a packet costs when nothing but Weir costs anything.

mod contestant;
mod frame_ring;

use std::path::PathBuf;

use serde::Serialize;

use self::contestant::{Case, Contestant, Finds};
use crate::figures::{median, round};
use crate::plot::{self, Bar};

/// What can be asked for.
#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds over all rows; the median of them is printed.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..1000))]
    rounds: u32,
    /// Packets a row and round.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    packets: u64,
    /// Sockets; the rows are repeated for each number of them.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1000, 1_000_000])]
    sockets: Vec<u32>,
    /// The core to stay on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// End with one JSON object on a line.
    #[arg(long)]
    json: bool,
    /// Write `packet.svg` into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// All that is printed.
#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    /// Of the first row.
    generator_ns: f64,
    rounds: u32,
    packets_a_round: u64,
}

/// Medians of one row.
#[derive(Serialize)]
struct Row {
    sockets: u32,
    /// Whether the program finds the socket.
    program: bool,
    /// If so: run each time, or its outcomes kept, and for how many destinations.
    verdicts: &'static str,
    /// The whole turn, generator included.
    ns_per_packet: f64,
    /// Without the generator.
    ns_net: f64,
    /// The generator and the in-memory device by themselves, on this row's frames.
    generator_ns: f64,
    /// Of the net: reading the headers and verifying both checksums.
    parse_ns: f64,
    /// Fastest and slowest round.
    ns_per_packet_range: [f64; 2],
    frames: usize,
}

/// Every round's figures of one row.
#[derive(Default)]
struct Samples {
    gross: Vec<f64>,
    generator: Vec<f64>,
    parsed: Vec<f64>,
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        core_affinity::set_for_current(core_affinity::CoreId { id: arguments.core }),
        "cannot stay on core {}",
        arguments.core
    );
    let mut contestants = Vec::new();
    for sockets in &arguments.sockets {
        anyhow::ensure!((1..1 << 24).contains(sockets), "{sockets} sockets: 1 to 2^24 - 1");
        for case in Case::all(*sockets) {
            eprintln!("opening {sockets} sockets, program: {}", case.finds.as_str());
            contestants.push((Contestant::new(case)?, Samples::default()));
        }
    }
    // Once to warm up, and then in turns: what disturbs the machine disturbs all rows alike.
    for number in 0..=arguments.rounds {
        eprintln!("round {number} of {}", arguments.rounds);
        for (contestant, samples) in &mut contestants {
            let gross = contestant.gross(arguments.packets)?;
            let generator = contestant.generator(arguments.packets);
            let parsed = contestant.parsed(arguments.packets)?;
            if number > 0 {
                samples.gross.push(gross);
                samples.generator.push(generator);
                samples.parsed.push(parsed);
            }
        }
    }
    let rows: Vec<Row> = contestants.iter().map(|(one, samples)| row(one, samples)).collect();
    let report = Report {
        generator_ns: rows.first().map_or(0.0, |row| row.generator_ns),
        rows,
        rounds: arguments.rounds,
        packets_a_round: arguments.packets,
    };
    print(&report);
    if let Some(folder) = &arguments.plot {
        draw(&report, folder)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn row(contestant: &Contestant, samples: &Samples) -> Row {
    let (gross, generator) = (median(&samples.gross), median(&samples.generator));
    let fastest = samples.gross.iter().copied().fold(f64::INFINITY, f64::min);
    let slowest = samples.gross.iter().copied().fold(0.0, f64::max);
    Row {
        sockets: contestant.case.sockets,
        program: contestant.case.finds != Finds::Address,
        verdicts: contestant.case.finds.as_str(),
        ns_per_packet: round(gross, 1),
        ns_net: round(gross - generator, 1),
        generator_ns: round(generator, 1),
        parse_ns: round(median(&samples.parsed) - generator, 1),
        ns_per_packet_range: [round(fastest, 1), round(slowest, 1)],
        frames: contestant.ring_length(),
    }
}

fn print(report: &Report) {
    println!(
        "{:>9}  {:<16} {:>10} {:>7} {:>10} {:>7}   fastest and slowest round",
        "sockets", "program", "ns/packet", "net", "generator", "parse"
    );
    for row in &report.rows {
        let [fastest, slowest] = row.ns_per_packet_range;
        println!(
            "{:>9}  {:<16} {:>10.1} {:>7.1} {:>10.1} {:>7.1}   {fastest:.1} to {slowest:.1}",
            row.sockets,
            row.verdicts,
            row.ns_per_packet,
            row.ns_net,
            row.generator_ns,
            row.parse_ns,
        );
    }
}

fn draw(report: &Report, folder: &std::path::Path) -> anyhow::Result<()> {
    let bars: Vec<Bar> = (report.rows.iter())
        .map(|row| Bar {
            label: format!("{}: {}", row.sockets, row.verdicts),
            value: row.ns_per_packet,
            range: row.ns_per_packet_range,
        })
        .collect();
    let title = "ns a packet in memory, generator included, by open sockets and program";
    plot::bars(&folder.join("packet.svg"), title, "ns", &bars)
}
