//! `weir-bench rx`: the same flood, seven receivers, in turns.

mod bare;
mod distance;
mod kernel;
mod receiver;
mod report;
pub mod scene;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use weir_xsk::FloodPattern;

use self::receiver::Receiver;
use self::report::Samples;
use self::scene::Scene;

/// What can be asked for.
#[derive(clap::Args)]
pub struct Arguments {
    /// What is sent: udp4, udp6, tcp4-syn or tcp6-syn.
    #[arg(long, default_value = "udp4", value_parser = pattern_of)]
    pattern: FloodPattern,
    /// Rounds over all receivers; the median of them is printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..1000))]
    rounds: u32,
    /// Seconds that each receiver is counted in a round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// End with one JSON object on a line.
    #[arg(long)]
    json: bool,
    /// Write `rx-PATTERN.svg` into this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        (0.05..=60.0).contains(&arguments.seconds),
        "{} seconds: 0.05 to 60 are possible",
        arguments.seconds
    );
    let scene = Scene::new(arguments.pattern, Duration::from_secs_f64(arguments.seconds))?;
    let name = arguments.pattern.as_str();
    let mut samples = Samples::default();
    for round in 1..=arguments.rounds {
        let distance = distance::core_to_core()?;
        eprintln!("{name} {round}/{} core to core {distance:.0} ns", arguments.rounds);
        samples.push_distance(distance);
        for receiver in Receiver::ALL {
            if !receiver.serves(&scene) {
                continue;
            }
            let sample = receiver.sample(&scene).with_context(|| receiver.as_str())?;
            eprintln!(
                "{name} {round}/{} {:<15} {:.3} Mpps",
                arguments.rounds,
                receiver.as_str(),
                sample.mpps(),
            );
            samples.push(receiver, sample);
        }
    }
    let report = samples.report(name, arguments.rounds, arguments.seconds);
    report.print();
    if scene.is_tcp() {
        println!(
            "Weir has no TCP yet: it parses and drops; the kernel's listener is not accepting"
        );
    }
    if let Some(folder) = &arguments.plot {
        report.draw(folder)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// The pattern of that name.
pub fn pattern_of(text: &str) -> Result<FloodPattern, String> {
    let found = FloodPattern::ALL.into_iter().find(|pattern| pattern.as_str() == text);
    found.ok_or_else(|| "udp4, udp6, tcp4-syn or tcp6-syn".to_owned())
}
