//! Medians of all rounds, the medians of their ratios, and how they are printed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::receiver::{Receiver, Sample};
use crate::figures::{median, round};
use crate::plot::{self, Bar};

/// Every sample of a run.
#[derive(Default)]
pub struct Samples {
    all: Vec<(Receiver, Sample)>,
    distances: Vec<f64>,
}

/// What is printed: medians of million packets a second, and medians of the rounds' ratios. What
/// was not measured is null.
#[derive(Serialize)]
pub struct Report {
    pattern: &'static str,
    xsk_ceiling_mpps: Option<f64>,
    /// As the ceiling, but one byte of each packet is read.
    xsk_reader_mpps: Option<f64>,
    weir_mpps: Option<f64>,
    weir_prog_mpps: Option<f64>,
    /// Outcomes are not kept: the program runs for each packet, as it does in the kernel.
    weir_prog_each_mpps: Option<f64>,
    kernel_mpps: Option<f64>,
    kernel_prog_mpps: Option<f64>,
    weir_prog_over_kernel_prog: Option<f64>,
    weir_prog_over_ceiling: Option<f64>,
    weir_prog_each_over_kernel_prog: Option<f64>,
    weir_prog_each_over_ceiling: Option<f64>,
    weir_over_ceiling: Option<f64>,
    weir_over_reader: Option<f64>,
    weir_prog_over_reader: Option<f64>,
    weir_attach_cost_percent: Option<f64>,
    kernel_attach_cost_percent: Option<f64>,
    /// Part of the time that Weir's core had something to do.
    weir_busy_percent: Option<f64>,
    weir_prog_busy_percent: Option<f64>,
    /// Packets of `weir_prog` for which no program ran since a like one's outcome was kept.
    weir_prog_recalled_percent: Option<f64>,
    rounds: u32,
    window_seconds: f64,
    /// What a cache line took from core to core, ahead of each round.
    core_to_core_ns: Vec<f64>,
    /// Of each round, in order.
    samples_mpps: BTreeMap<&'static str, Vec<f64>>,
}

impl Samples {
    /// Adds one.
    pub fn push(&mut self, receiver: Receiver, sample: Sample) {
        self.all.push((receiver, sample));
    }

    /// Adds what a cache line took from core to core, ahead of a round.
    pub fn push_distance(&mut self, nanoseconds: f64) {
        self.distances.push(nanoseconds);
    }

    /// What they come to.
    pub fn report(&self, pattern: &'static str, rounds: u32, window_seconds: f64) -> Report {
        let middle = |receiver| {
            let values = self.mpps(receiver);
            (!values.is_empty()).then(|| median(&values))
        };
        // Of the rounds, not of the medians: both of a round met the same state of the machine.
        let ratio = |over, under| {
            let (over, under) = (self.mpps(over), self.mpps(under));
            let ratios: Vec<f64> =
                over.iter().zip(&under).map(|(over, under)| over / under).collect();
            (!ratios.is_empty()).then(|| median(&ratios))
        };
        let cost = |with, without| Some(100.0 * (1.0 - ratio(with, without)?));
        let busy = |receiver| {
            let of =
                |(known, sample): &(Receiver, Sample)| sample.busy.filter(|_| *known == receiver);
            let values: Vec<f64> = self.all.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| round(100.0 * median(&values), 1))
        };
        let digits = |digits| move |value| round(value, digits);
        use Receiver::{
            Ceiling, Kernel, KernelProgram, Reader, Weir, WeirProgram, WeirProgramEachTime,
        };
        Report {
            pattern,
            xsk_ceiling_mpps: middle(Ceiling).map(digits(3)),
            xsk_reader_mpps: middle(Reader).map(digits(3)),
            weir_mpps: middle(Weir).map(digits(3)),
            weir_prog_mpps: middle(WeirProgram).map(digits(3)),
            weir_prog_each_mpps: middle(WeirProgramEachTime).map(digits(3)),
            kernel_mpps: middle(Kernel).map(digits(3)),
            kernel_prog_mpps: middle(KernelProgram).map(digits(3)),
            weir_prog_over_kernel_prog: ratio(WeirProgram, KernelProgram).map(digits(2)),
            weir_prog_over_ceiling: ratio(WeirProgram, Ceiling).map(digits(3)),
            weir_prog_each_over_kernel_prog: ratio(WeirProgramEachTime, KernelProgram)
                .map(digits(2)),
            weir_prog_each_over_ceiling: ratio(WeirProgramEachTime, Ceiling).map(digits(3)),
            weir_over_ceiling: ratio(Weir, Ceiling).map(digits(3)),
            weir_over_reader: ratio(Weir, Reader).map(digits(3)),
            weir_prog_over_reader: ratio(WeirProgram, Reader).map(digits(3)),
            weir_attach_cost_percent: cost(WeirProgram, Weir).map(digits(1)),
            kernel_attach_cost_percent: cost(KernelProgram, Kernel).map(digits(1)),
            weir_busy_percent: busy(Weir),
            weir_prog_busy_percent: busy(WeirProgram),
            weir_prog_recalled_percent: self.recalled_percent(),
            rounds,
            window_seconds,
            core_to_core_ns: self.distances.iter().copied().map(digits(0)).collect(),
            samples_mpps: (Receiver::ALL.into_iter())
                .map(|receiver| (receiver.as_str(), self.mpps(receiver)))
                .filter(|(_, values)| !values.is_empty())
                .map(|(name, values)| (name, values.into_iter().map(digits(3)).collect()))
                .collect(),
        }
    }

    fn recalled_percent(&self) -> Option<f64> {
        let of = self.all.iter().filter(|(known, _)| *known == Receiver::WeirProgram);
        let shares: Vec<f64> =
            of.map(|(_, one)| 100.0 * one.recalled as f64 / one.received as f64).collect();
        (!shares.is_empty()).then(|| round(median(&shares), 2))
    }

    fn mpps(&self, receiver: Receiver) -> Vec<f64> {
        let of_it = self.all.iter().filter(|(known, _)| *known == receiver);
        of_it.map(|(_, sample)| sample.mpps()).collect()
    }
}

impl Report {
    /// A table for people.
    pub fn print(&self) {
        println!("{}: median of {} rounds, Mpps", self.pattern, self.rounds);
        for (name, value) in self.medians() {
            let range = self.range(name).map(|[least, most]| format!("{least:.2} to {most:.2}"));
            println!("  {name:<15} {}   {}", text(value), range.unwrap_or_default());
        }
        for (name, value) in [
            ("weir_prog over kernel_prog", self.weir_prog_over_kernel_prog),
            ("weir_prog over ceiling", self.weir_prog_over_ceiling),
            ("weir_prog_each over kernel_prog", self.weir_prog_each_over_kernel_prog),
            ("weir_prog_each over ceiling", self.weir_prog_each_over_ceiling),
            ("of weir_prog recalled, %", self.weir_prog_recalled_percent),
            ("weir over ceiling", self.weir_over_ceiling),
            ("weir over reader", self.weir_over_reader),
            ("weir_prog over reader", self.weir_prog_over_reader),
            ("attaching costs Weir, %", self.weir_attach_cost_percent),
            ("attaching costs the kernel, %", self.kernel_attach_cost_percent),
            ("Weir's core busy, %", self.weir_busy_percent),
            ("with the program, %", self.weir_prog_busy_percent),
        ] {
            println!("  {name:<31} {}", text(value));
        }
    }

    /// Writes `rx-PATTERN.svg`.
    pub fn draw(&self, folder: &Path) -> anyhow::Result<()> {
        let bar = |(name, value): (&'static str, Option<f64>)| {
            Some(Bar { label: name.to_owned(), value: value?, range: self.range(name)? })
        };
        let bars: Vec<Bar> = self.medians().into_iter().filter_map(bar).collect();
        let title = format!("{}: received on one veth queue, median and range", self.pattern);
        plot::bars(&folder.join(format!("rx-{}.svg", self.pattern)), &title, "Mpps", &bars)
    }

    fn medians(&self) -> [(&'static str, Option<f64>); 7] {
        [
            (Receiver::Ceiling.as_str(), self.xsk_ceiling_mpps),
            (Receiver::Reader.as_str(), self.xsk_reader_mpps),
            (Receiver::Weir.as_str(), self.weir_mpps),
            (Receiver::WeirProgram.as_str(), self.weir_prog_mpps),
            (Receiver::WeirProgramEachTime.as_str(), self.weir_prog_each_mpps),
            (Receiver::Kernel.as_str(), self.kernel_mpps),
            (Receiver::KernelProgram.as_str(), self.kernel_prog_mpps),
        ]
    }

    fn range(&self, name: &str) -> Option<[f64; 2]> {
        let values = self.samples_mpps.get(name)?;
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        Some([least, values.iter().copied().max_by(f64::total_cmp)?])
    }
}

fn text(value: Option<f64>) -> String {
    value.map_or_else(|| format!("{:>8}", "-"), |value| format!("{value:8.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ratios_are_of_rounds_and_nothing_is_made_up() {
        let mut samples = Samples::default();
        let mut add = |receiver, received| {
            let elapsed = Duration::from_secs(1);
            samples.push(receiver, Sample { received, elapsed, busy: None, recalled: 0 });
        };
        for received in [1_000_000, 2_000_000, 9_000_000] {
            add(Receiver::Kernel, received);
            add(Receiver::KernelProgram, received * 9 / 10);
        }
        for received in [1_800_000, 4_500_000, 8_100_000] {
            add(Receiver::WeirProgram, received);
        }
        let report = samples.report("udp4", 3, 1.0);
        assert_eq!(report.kernel_mpps, Some(2.0));
        assert_eq!(report.kernel_attach_cost_percent, Some(10.0));
        assert_eq!(report.weir_prog_over_kernel_prog, Some(2.0));
        assert_eq!(report.weir_prog_over_ceiling, None);
        assert_eq!(report.weir_mpps, None);
        assert_eq!(report.range("kernel"), Some([1.0, 9.0]));
    }
}
