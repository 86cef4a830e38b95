//! Weir as it runs in production: a worker on a thread of its own, over AF_XDP.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use weir_dataplane::counters::{Counters, ProgramCounters};
use weir_dataplane::device::xsk::XskDevice;
use weir_dataplane::mailbox::{Attached, Command, Event, Mailbox, ProgramList, Report};
use weir_dataplane::reason::Reason;
use weir_dataplane::registry::Registry;
use weir_dataplane::runner::{self, IdlePolicy, WorkerHandle, WorkerOptions};
use weir_dataplane::socket::{Service, SocketSpec};
use weir_dataplane::worker::WorkerSetup;
use weir_lab::Bed;
use weir_xsk::{Queue, interface_index};

use super::bare::redirected;
use super::receiver::Sample;
use super::scene::{ELSEWHERE, PORT, RECEIVER_CORE, Scene};
use crate::steering::Steering;

const SOCKETS: usize = 1024;
/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What finds the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finds {
    /// The address that it is bound to.
    Address,
    /// The program, as in production: like packets may recall an earlier run's outcome.
    Program,
    /// The program, run for each packet.
    ProgramEachTime,
}

/// Receives for one window; called in Weir's namespace.
pub fn sample(scene: &Scene, finds: Finds) -> anyhow::Result<Sample> {
    let (queue, redirect) = redirected(scene)?;
    let interface = interface_index(Bed::WEIR_DEVICE)?;
    let running = Running::start(queue, interface, finds)?;
    running.open_socket(scene, finds)?;
    let sample = scene.flooded(|| running.measure(scene, finds));
    // Nothing is redirected to a worker that is gone.
    drop(redirect);
    running.stop()?;
    sample
}

struct Running {
    worker: WorkerHandle,
    mailbox: Arc<Mailbox>,
}

impl Running {
    fn start(queue: Queue, interface: u32, finds: Finds) -> anyhow::Result<Running> {
        let setup = WorkerSetup {
            number: 0,
            sockets: SOCKETS,
            hash_key: [fastrand::u64(..), fastrand::u64(..)],
            ifindex: interface,
            verdict_cache: finds != Finds::ProgramEachTime,
        };
        let options = WorkerOptions { setup, core: Some(RECEIVER_CORE), idle: IdlePolicy::Poll };
        let worker = runner::spawn(options, XskDevice::new(queue))?;
        let mailbox = worker.mailbox.clone();
        Ok(Running { worker, mailbox })
    }

    /// One socket that takes all and says nothing, where the flood goes or where only the program
    /// will find it.
    fn open_socket(&self, scene: &Scene, finds: Finds) -> anyhow::Result<()> {
        let mut registry = Registry::new(SOCKETS);
        let port = if finds == Finds::Address { PORT } else { ELSEWHERE };
        let spec = SocketSpec {
            name: "sink".into(),
            local: (scene.destination(), port).into(),
            v6only: false,
            remote: None,
            service: Service::Discard,
        };
        let id = registry.open(spec.clone())?;
        self.submit(Command::Open(id, spec))?;
        if finds != Finds::Address {
            let steering = Steering::load(&scene.entries())?;
            steering.place(0, id)?;
            let list = ProgramList::new([Attached { link: 1, program: steering.program }]);
            self.submit(Command::Attach(list.into()))?;
        }
        self.submit(Command::Barrier(1))?;
        self.await_event(|event| match event {
            Event::OpenFailed(_, spec, error) => Err(anyhow::anyhow!("{}: {error}", spec.local)),
            Event::Reached(1) => Ok(Some(())),
            _ => Ok(None),
        })
    }

    fn measure(&self, scene: &Scene, finds: Finds) -> anyhow::Result<Sample> {
        thread::sleep(scene.warm_up);
        let before = self.report()?;
        thread::sleep(scene.window);
        let after = self.report()?;
        let window = Window { before: &before, after: &after };
        window.check(scene, finds)?;
        let busy = window.count(|counters| counters.busy_ns);
        // The worker's own clock, read between turns: exact to one turn.
        let elapsed = busy + window.count(|counters| counters.idle_ns);
        Ok(Sample {
            received: window.count(|counters| counters.received),
            elapsed: Duration::from_nanos(elapsed),
            busy: Some(busy as f64 / elapsed as f64),
            recalled: window.programs(|one| one.recalled),
        })
    }

    fn report(&self) -> anyhow::Result<Report> {
        self.submit(Command::Report(Box::default()))?;
        self.await_event(|event| match event {
            Event::Report(report) => Ok(Some(*report)),
            _ => Ok(None),
        })
    }

    fn submit(&self, command: Command) -> anyhow::Result<()> {
        match self.mailbox.commands.push(command) {
            Ok(()) => Ok(()),
            Err(command) => bail!("the command queue is full: {command:?}"),
        }
    }

    fn await_event<T>(
        &self,
        mut pick: impl FnMut(Event) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            match self.mailbox.events.pop() {
                Some(event) => {
                    if let Some(picked) = pick(event)? {
                        return Ok(picked);
                    }
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        bail!("the worker does not answer")
    }

    fn stop(self) -> anyhow::Result<()> {
        self.submit(Command::Stop { drain: false })?;
        let joined = self.worker.join();
        ensure!(joined.is_ok(), "the worker found an invariant of its own broken");
        Ok(())
    }
}

/// What a worker counted between two reports.
struct Window<'a> {
    before: &'a Report,
    after: &'a Report,
}

impl Window<'_> {
    fn count(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        of(&self.after.counters) - of(&self.before.counters)
    }

    /// Every packet was the flood's, and went the way that is to be measured.
    fn check(&self, scene: &Scene, finds: Finds) -> anyhow::Result<()> {
        let received = self.count(|counters| counters.received);
        let wanted = if scene.is_tcp() {
            let reason = Reason::NoListener.index();
            self.count(|counters| counters.dropped[reason])
        } else {
            let delivered = self.count(|counters| counters.delivered);
            ensure!(delivered == received, "{received} received, {delivered} delivered");
            let lookup = |counters: &Counters| {
                let (by_address, by_program) = (counters.lookup.bound, counters.lookup.steered);
                if finds == Finds::Address { by_address } else { by_program }
            };
            self.count(lookup)
        };
        ensure!(received > 0, "nothing was received");
        ensure!(wanted == received, "{received} received, but {wanted} went the way to measure");
        let (runs, recalled) = (self.programs(|one| one.runs), self.programs(|one| one.recalled));
        match finds {
            Finds::Address => ensure!(runs == 0, "{runs} runs of a program"),
            Finds::Program => ensure!(runs == received, "{received} received, {runs} runs"),
            Finds::ProgramEachTime => ensure!(
                runs == received && recalled == 0,
                "{received} received, {runs} runs, {recalled} of them recalled"
            ),
        }
        Ok(())
    }

    fn programs(&self, of: impl Fn(&ProgramCounters) -> u64) -> u64 {
        let sum = |report: &Report| report.programs.iter().map(&of).sum::<u64>();
        sum(self.after) - sum(self.before)
    }
}
