//! The workers as the control plane sees them: commands go to all of them, events come back, and
//! nothing waits for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_dataplane::counters::ProgramCounters;
use weir_dataplane::device::Mode;
use weir_dataplane::mailbox::{Command, Event, ProgramList, Report, SocketPage};
use weir_dataplane::runner::WorkerHandle;
use weir_dataplane::socket::{SocketCounters, SocketId, SocketSpec};

/// How long a worker may take to answer. A turn takes microseconds, a wait milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the control plane looks for an answer.
const GLANCE: Duration = Duration::from_micros(500);
/// Sockets that are asked for at once.
const PAGE: usize = 4096;

/// A worker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// No answer within the time.
    #[error("worker {0} does not answer")]
    Silent(u8),
    /// Its thread is gone.
    #[error("worker {0} has died")]
    Dead(u8),
}

struct Worker {
    handle: WorkerHandle,
    queue: u32,
    report: Box<Report>,
    spare: Option<Box<Report>>,
    awaiting: bool,
    reached: u64,
    page: Option<Box<SocketPage>>,
}

/// What one worker last said of itself.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The worker's number.
    pub number: u8,
    /// The queue that it serves.
    pub queue: u32,
    /// How frames reach it.
    pub mode: Mode,
    /// Its counters.
    pub report: &'a Report,
}

/// All workers of the process.
#[derive(Default)]
pub struct Fleet {
    workers: Vec<Worker>,
    barrier: u64,
}

impl Fleet {
    /// Takes a running worker in.
    pub fn enlist(&mut self, handle: WorkerHandle, queue: u32) {
        self.workers.push(Worker {
            handle,
            queue,
            report: Box::default(),
            spare: Some(Box::default()),
            awaiting: false,
            reached: 0,
            page: None,
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// What each worker last said.
    pub fn standings(&self) -> impl Iterator<Item = Standing<'_>> {
        self.workers.iter().map(|worker| Standing {
            number: worker.handle.number,
            queue: worker.queue,
            mode: worker.handle.mode,
            report: &worker.report,
        })
    }

    /// The counters of an attachment, all workers together.
    pub fn program(&self, link: u64) -> ProgramCounters {
        let mut sum = ProgramCounters { link, ..ProgramCounters::default() };
        let all = self.workers.iter().flat_map(|worker| worker.report.programs.iter());
        for counters in all.filter(|counters| counters.link == link) {
            sum.runs += counters.runs;
            sum.passed += counters.passed;
            sum.dropped += counters.dropped;
            sum.faulted += counters.faulted;
            sum.recalled += counters.recalled;
        }
        sum
    }

    /// Opens a socket everywhere.
    ///
    /// # Errors
    /// When a worker takes no commands.
    pub async fn open(&mut self, id: SocketId, spec: &SocketSpec) -> Result<(), FleetError> {
        self.order(|| Command::Open(id, spec.clone())).await
    }

    /// Closes a socket everywhere.
    ///
    /// # Errors
    /// When a worker takes no commands.
    pub async fn close(&mut self, id: SocketId) -> Result<(), FleetError> {
        self.order(|| Command::Close(id)).await
    }

    /// Replaces the attached programs everywhere.
    ///
    /// # Errors
    /// When a worker takes no commands.
    pub async fn attach(&mut self, programs: &Arc<ProgramList>) -> Result<(), FleetError> {
        self.order(|| Command::Attach(programs.clone())).await
    }

    /// Returns once every worker has applied everything sent before.
    ///
    /// # Errors
    /// When a worker does not answer.
    pub async fn settle(&mut self) -> Result<(), FleetError> {
        self.barrier += 1;
        let barrier = self.barrier;
        self.order(|| Command::Barrier(barrier)).await?;
        self.until(|worker| worker.reached >= barrier).await
    }

    /// Asks every worker for its counters.
    ///
    /// # Errors
    /// When a worker does not answer.
    pub async fn refresh(&mut self) -> Result<(), FleetError> {
        for worker in &mut self.workers {
            if worker.awaiting {
                continue;
            }
            let report = worker.spare.take().unwrap_or_default();
            match worker.handle.mailbox.commands.push(Command::Report(report)) {
                Ok(()) => worker.awaiting = true,
                Err(Command::Report(report)) => worker.spare = Some(report),
                Err(_) => {}
            }
        }
        self.until(|worker| !worker.awaiting).await
    }

    /// The counters of every socket, each worker's by itself.
    ///
    /// # Errors
    /// When a worker does not answer.
    pub async fn sockets(
        &mut self,
    ) -> Result<HashMap<SocketId, Vec<(u8, SocketCounters)>>, FleetError> {
        let mut sockets: HashMap<SocketId, Vec<(u8, SocketCounters)>> = HashMap::new();
        for place in 0..self.workers.len() {
            let mut start = Some(0);
            while let Some(from) = start {
                let page = self.page(place, from).await?;
                let number = self.workers[place].handle.number;
                for &(id, counters) in &page.rows {
                    sockets.entry(id).or_default().push((number, counters));
                }
                start = page.next.filter(|&next| next > from);
            }
        }
        Ok(sockets)
    }

    async fn page(&mut self, place: usize, start: u32) -> Result<Box<SocketPage>, FleetError> {
        let number = self.workers[place].handle.number;
        let page = SocketPage { start, rows: Vec::with_capacity(PAGE), next: None };
        let mut command = Command::Sockets(Box::new(page));
        let deadline = Instant::now() + PATIENCE;
        while let Err(back) = self.workers[place].handle.mailbox.commands.push(command) {
            command = back;
            self.pause(number, deadline).await?;
        }
        loop {
            self.drain();
            if let Some(page) = self.workers[place].page.take() {
                return Ok(page);
            }
            self.pause(number, deadline).await?;
        }
    }

    /// Takes what the workers have said since the last time.
    pub fn drain(&mut self) {
        for worker in &mut self.workers {
            while let Some(event) = worker.handle.mailbox.events.pop() {
                worker.hear(event);
            }
        }
    }

    /// The first worker whose thread has ended without being asked to.
    pub fn casualty(&self) -> Option<u8> {
        self.workers.iter().find(|w| w.handle.is_finished()).map(|w| w.handle.number)
    }

    /// Ends all workers, and returns what each had counted at its end.
    pub async fn stop(&mut self, drain: bool) -> Vec<(u8, Result<Report, FleetError>)> {
        for worker in &self.workers {
            // A queue that is full belongs to a worker that does not look at it: joined below,
            // with the same patience.
            let _ = worker.handle.mailbox.commands.push(Command::Stop { drain });
        }
        let deadline = Instant::now() + 2 * PATIENCE;
        while !self.workers.iter().all(|w| w.handle.is_finished()) && Instant::now() < deadline {
            self.drain();
            tokio::time::sleep(GLANCE).await;
        }
        self.drain();
        let mut last = Vec::with_capacity(self.workers.len());
        for worker in self.workers.drain(..) {
            let number = worker.handle.number;
            let report = match worker.handle.is_finished() {
                true => worker.handle.join().map_err(|_| FleetError::Dead(number)),
                false => Err(FleetError::Silent(number)),
            };
            last.push((number, report));
        }
        last
    }

    async fn order(&mut self, command: impl Fn() -> Command) -> Result<(), FleetError> {
        let deadline = Instant::now() + PATIENCE;
        for place in 0..self.workers.len() {
            let number = self.workers[place].handle.number;
            let mut next = command();
            while let Err(back) = self.workers[place].handle.mailbox.commands.push(next) {
                next = back;
                self.drain();
                self.pause(number, deadline).await?;
            }
        }
        Ok(())
    }

    async fn until(&mut self, done: impl Fn(&Worker) -> bool) -> Result<(), FleetError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.drain();
            let Some(behind) = self.workers.iter().find(|worker| !done(worker)) else {
                return Ok(());
            };
            let number = behind.handle.number;
            self.pause(number, deadline).await?;
        }
    }

    async fn pause(&self, number: u8, deadline: Instant) -> Result<(), FleetError> {
        let dead = self.workers.iter().any(|w| w.handle.number == number && w.handle.is_finished());
        if dead {
            return Err(FleetError::Dead(number));
        }
        if Instant::now() >= deadline {
            return Err(FleetError::Silent(number));
        }
        tokio::time::sleep(GLANCE).await;
        Ok(())
    }
}

impl Worker {
    fn hear(&mut self, event: Event) {
        let number = self.handle.number;
        match event {
            Event::Report(report) => {
                self.spare = Some(std::mem::replace(&mut self.report, report));
                self.awaiting = false;
            }
            Event::Sockets(page) => self.page = Some(page),
            Event::Reached(barrier) => self.reached = self.reached.max(barrier),
            // What comes back to be freed here, where time does not press.
            Event::Retired(_) | Event::Closed(_) => {}
            Event::OpenFailed(id, spec, error) => {
                tracing::error!(worker = number, id = id.0, name = %spec.name, %error,
                    "a worker could not open a socket");
            }
            Event::Trace(line) => {
                tracing::info!(target: "bpf_trace_printk", worker = number, "{}", line.trim_end());
            }
            Event::UnfinishedChecksums(peer, run) => {
                tracing::warn!(worker = number, %peer, run,
                    "{run} packets in a row from {peer} carry checksums that their sender left \
                     unfinished (CHECKSUM_PARTIAL, as over veth); on the sender's side run: \
                     ethtool -K INTERFACE tx off");
            }
        }
    }
}
