//! The books of the demo: every frame that came in must have gone out by a door.

use super::Check;
use crate::api::sockets::Socket;
use crate::api::stats::Stats;
use crate::cli::format::count;

/// The counters of a Weir that rests.
pub(super) struct Account<'a> {
    pub stats: &'a Stats,
    pub sockets: &'a [Socket],
}

impl Account<'_> {
    /// Each equation, with its numbers.
    pub(super) fn checks(&self) -> Vec<Check> {
        let total = &self.stats.total;
        let mut checks = vec![
            equal(
                "received = delivered + answered + refused + dropped",
                total.received,
                total.left(),
            ),
            equal(
                "delivered + answered = what the sockets received",
                total.delivered + total.answered,
                self.sockets.iter().map(|socket| socket.counters.received).sum(),
            ),
            equal(
                "answered + refused = transmitted",
                total.answered + total.refused,
                total.transmitted,
            ),
            equal(
                "every run of a program has a verdict",
                self.stats.programs.iter().map(|program| program.runs.runs).sum(),
                self.stats
                    .programs
                    .iter()
                    .map(|p| p.runs.passed + p.runs.dropped + p.runs.faulted)
                    .sum(),
            ),
            equal(
                "no program broke a rule",
                0,
                self.stats.programs.iter().map(|program| program.runs.faulted).sum(),
            ),
            equal(
                "no frame is in a worker's hands at rest",
                0,
                self.stats.workers.iter().map(|worker| worker.frames.held).sum(),
            ),
        ];
        if let Some(redirect) = &self.stats.redirect {
            checks.insert(
                0,
                equal(
                    "redirected by the XDP program = received + ring full",
                    redirect.redirected,
                    total.received + self.stats.ring_drops(),
                ),
            );
        }
        checks
    }
}

pub(super) fn equal(what: &str, left: u64, right: u64) -> Check {
    let found = match left == right {
        true => count(left),
        false => format!("{} ≠ {}", count(left), count(right)),
    };
    Check { what: what.into(), found, right: left == right }
}
