//! `weir run`: assembles everything, serves the API, and minds the signals.

mod device;
mod listener;
mod plane;
mod preflight;

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use listener::{Lease, ListenError, listen};
pub use plane::{Ending, Plane, Reloaded};

use crate::api::{self, App};
use crate::config::{At, Config, Problem, Problems};

/// How often the workers' words are listened to when nobody asks.
const TICK: Duration = Duration::from_millis(100);

/// A daemon that has started and can be talked to.
pub struct Daemon {
    app: App,
    stop: watch::Sender<bool>,
    servers: Vec<tokio::task::JoinHandle<()>>,
    lease: Lease,
}

/// The first line of the standard output once packets are served; what waits for Weir looks for it.
pub const READY: &str = "weir: ready";

impl Daemon {
    /// Starts everything, the API included.
    ///
    /// # Errors
    /// What is wrong with the configuration or the machine; nothing stays behind then.
    pub async fn start(config: Config) -> Result<Daemon, Problems> {
        let (listener, lease) = listen(&config.control_socket).map_err(|error| {
            let help = match error {
                ListenError::InUse(_) => "stop it first, or set another `control.socket`",
                _ => "set another `control.socket`, in a folder that can be written to",
            };
            let problem = Problem::new(&config.path, error.to_string(), help);
            config.control_socket_line.map_or(problem.clone(), |line| problem.at(line))
        })?;
        let metrics = match &config.metrics {
            Some(address) => Some(listen_for_metrics(&config, address).await?),
            None => None,
        };
        let plane = Plane::start(config).await?;
        let app = App::new(plane);
        let (stop, stopped) = watch::channel(false);
        let mut servers = Vec::new();
        let until = stopped.clone();
        let server = axum::serve(listener, api::router(app.clone()))
            .with_graceful_shutdown(async move { wait_for(until).await });
        servers.push(tokio::spawn(async move { report(server.await) }));
        if let Some(listener) = metrics {
            let server = axum::serve(listener, api::metrics_router(app.clone()))
                .with_graceful_shutdown(async move { wait_for(stopped).await });
            servers.push(tokio::spawn(async move { report(server.await) }));
        }
        Ok(Daemon { app, stop, servers, lease })
    }

    /// What the API's handlers see.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Applies the configuration file anew, and logs how it went.
    pub async fn reload(&self) {
        let Ok(mut plane) = self.app.plane().await else { return };
        match plane.reload().await {
            Ok(()) => tracing::info!("reloaded"),
            Err(problems) => {
                for problem in &problems.0 {
                    tracing::error!(help = %problem.help, "reload refused: {problem}");
                }
            }
        }
    }

    /// Drains, detaches, and says what it was; `None` if the API is still held by someone.
    pub async fn stop(self) -> Option<Ending> {
        // Nobody listens any more: as good as told.
        let _ = self.stop.send(true);
        let plane = self.app.take().await;
        for server in self.servers {
            // A client that keeps its connection open must not keep Weir from ending.
            let _ = tokio::time::timeout(TICK, server).await;
        }
        drop(self.lease);
        Some(plane?.stop().await)
    }
}

async fn listen_for_metrics(
    config: &Config,
    address: &At<std::net::SocketAddr>,
) -> Result<TcpListener, Problem> {
    TcpListener::bind(address.value).await.map_err(|error| {
        let reason = format!("cannot listen on {} for metrics: {error}", address.value);
        config.problem(address.line, reason, "set another `control.metrics`, or leave it out")
    })
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // The sender gone means the same.
    let _ = stopped.wait_for(|&stop| stop).await;
}

fn report(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "the API has ended");
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What is wrong with the configuration or the machine, or the worker that died.
pub fn run(path: &Path) -> anyhow::Result<Ending> {
    let config = Config::read(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_until_signal(config))
}

async fn run_until_signal(config: Config) -> anyhow::Result<Ending> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let daemon = Daemon::start(config).await?;
    if let Ok(plane) = daemon.app.plane().await {
        announce(&plane)?;
    }
    let mut tick = tokio::time::interval(TICK);
    let dead = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hangup.recv() => daemon.reload().await,
            _ = tick.tick() => {
                let Ok(mut plane) = daemon.app.plane().await else { continue };
                plane.fleet.drain();
                if let Some(worker) = plane.fleet.casualty() {
                    break Some(worker);
                }
            }
        }
    };
    let ending = daemon.stop().await;
    match (dead, ending) {
        (Some(worker), _) => anyhow::bail!("worker {worker} died of a broken invariant of its own"),
        (None, Some(ending)) => Ok(ending),
        (None, None) => anyhow::bail!("the daemon was stopped twice"),
    }
}

/// Says what is served, and how.
fn announce(plane: &Plane) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for worker in plane.fleet.standings() {
        let device = plane.interface().unwrap_or("-");
        let (number, queue, mode) = (worker.number, worker.queue, worker.mode.as_str());
        writeln!(out, "weir: worker {number}: {device} queue {queue}, mode {mode}")?;
    }
    writeln!(
        out,
        "{READY}: {} bindings, {} sockets, {} programs, control socket {}",
        plane.config.bindings.len(),
        plane.registry.len(),
        plane.steering.links().len(),
        plane.config.control_socket.display()
    )?;
    out.flush()
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reports = || self.reports.iter().filter_map(|(_, report)| report.as_ref().ok());
        let sum = |count: fn(&weir_dataplane::counters::Counters) -> u64| {
            reports().map(|report| count(&report.counters)).sum::<u64>()
        };
        let received = sum(|c| c.received);
        write!(
            f,
            "weir: stopped after {:.1} s: received {received}, delivered {}, answered {}, \
             refused {}, dropped {}",
            self.uptime.as_secs_f64(),
            sum(|c| c.delivered),
            sum(|c| c.answered),
            sum(|c| c.refused),
            sum(|c| c.dropped_total()),
        )?;
        let left = sum(|c| c.left());
        if left != received {
            write!(f, "; {} frames are not accounted for", received.abs_diff(left))?;
        }
        for (number, report) in &self.reports {
            if let Err(error) = report {
                write!(f, "; worker {number}: {error}")?;
            }
        }
        Ok(())
    }
}
