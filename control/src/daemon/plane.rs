//! The control plane's state, and what changes it: start, reload, stop. One lock is around it.

use std::time::{Duration, Instant, SystemTime};

use weir_dataplane::device::memory::MemoryPort;
use weir_dataplane::mailbox::Report;
use weir_dataplane::registry::Registry;
use weir_dataplane::socket::SocketSpec;
use weir_xsk::RedirectCounters;

use super::device::{self, Ground};
use crate::config::{Binding, Config, Problem, Problems, Protocol};
use crate::fleet::{Fleet, FleetError};
use crate::plan::{self, Plan};
use crate::staging::{self, Staged};
use crate::steering::Steering;

/// How long packets that were redirected before the bindings went may take to a worker's ring.
const LAST_PACKETS: Duration = Duration::from_millis(5);

/// How the last reload went.
#[derive(Clone, Copy, Debug)]
pub struct Reloaded {
    /// Whether the new configuration is in force.
    pub success: bool,
    /// When.
    pub at: SystemTime,
}

/// What the workers had counted when they ended.
#[derive(Debug)]
pub struct Ending {
    /// Last reports, by worker.
    pub reports: Vec<(u8, Result<Report, FleetError>)>,
    /// What the XDP program had counted.
    pub redirect: Option<RedirectCounters>,
    /// How long it all ran.
    pub uptime: Duration,
}

/// See the module.
pub struct Plane {
    /// The configuration in force.
    pub config: Config,
    /// The sockets.
    pub registry: Registry,
    /// The programs and maps.
    pub steering: Steering,
    /// The workers.
    pub fleet: Fleet,
    /// When Weir started.
    pub started: Instant,
    /// How the last reload went; the start counts as one.
    pub reloaded: Reloaded,
    ground: Ground,
    staged: Staged,
}

impl Plane {
    /// Brings a configuration into being: device, workers, sockets, programs, and bindings last.
    ///
    /// # Errors
    /// What the machine lacks or refuses; everything is as before then.
    pub async fn start(config: Config) -> Result<Plane, Problems> {
        staging::rehearse(&config)?;
        let mut fleet = Fleet::default();
        let opened = device::open(&config, &mut fleet);
        let ground = match opened {
            Ok(ground) => ground,
            Err(problem) => {
                fleet.stop(false).await;
                return Err(problem.into());
            }
        };
        let mut plane = Plane {
            registry: Registry::new(config.sockets_max),
            steering: Steering::new(fleet.len(), config.engine),
            fleet,
            started: Instant::now(),
            reloaded: Reloaded { success: true, at: SystemTime::now() },
            ground,
            staged: Staged::default(),
            config,
        };
        match plane.bring_up().await {
            Ok(()) => Ok(plane),
            Err(problems) => {
                plane.fleet.stop(false).await;
                Err(problems)
            }
        }
    }

    async fn bring_up(&mut self) -> Result<(), Problems> {
        let plan = Plan {
            open: self.config.sockets.iter().map(|socket| socket.value.clone()).collect(),
            ..Plan::default()
        };
        let config = self.config.clone();
        let staged = staging::stage(&config, &mut self.steering)?;
        self.apply(&config, plan, staged).await
    }

    /// Puts another configuration in force, so that no packet of an unchanged binding is lost.
    ///
    /// # Errors
    /// What is wrong with it; the old one goes on then.
    pub async fn reload(&mut self) -> Result<(), Problems> {
        let result = self.try_reload().await;
        self.reloaded = Reloaded { success: result.is_ok(), at: SystemTime::now() };
        result
    }

    async fn try_reload(&mut self) -> Result<(), Problems> {
        let config = Config::read(&self.config.path)?;
        staging::rehearse(&config)?;
        let plan = plan::plan(&self.config, &config)?;
        let staged = match staging::stage(&config, &mut self.steering) {
            Ok(staged) => staged,
            Err(problems) => {
                self.steering.sweep(&self.staged.objects);
                return Err(problems);
            }
        };
        self.apply(&config, plan, staged).await?;
        self.config = config;
        Ok(())
    }

    /// Sockets first, then what leads to them, from the inside out; what goes, goes last.
    async fn apply(&mut self, config: &Config, plan: Plan, staged: Staged) -> Result<(), Problems> {
        let failed = |error: FleetError| fleet_problem(config, &error);
        for spec in &plan.replace {
            self.close(spec).await.map_err(failed)?;
        }
        for spec in &plan.open {
            let id = self.registry.open(spec.clone()).map_err(|error| {
                let reason = format!("socket \"{}\": {error}", spec.name);
                Problem::new(&config.path, reason, "mend its `address`, or raise `limits.sockets`")
            })?;
            self.fleet.open(id, spec).await.map_err(failed)?;
        }
        self.fleet.settle().await.map_err(failed)?;
        staged.fill(config, |name| self.registry.by_name(name))?;
        self.steering
            .reorder(staged.programs.clone())
            .map_err(|error| Problem::new(&config.path, error.to_string(), error.help()))?;
        self.fleet.attach(&self.steering.attached()).await.map_err(failed)?;
        self.fleet.settle().await.map_err(failed)?;
        staged.retract(&self.staged);
        self.steering.sweep(&staged.objects);
        self.staged = staged;
        self.bind(config)?;
        for spec in &plan.close {
            self.close(spec).await.map_err(failed)?;
        }
        self.fleet.settle().await.map_err(failed)?;
        Ok(())
    }

    async fn close(&mut self, spec: &SocketSpec) -> Result<(), FleetError> {
        let id = self.registry.iter().find(|(_, other)| *other == spec).map(|(id, _)| id);
        if let Some(id) = id {
            self.registry.close(id);
            self.steering.forget(id);
            self.fleet.close(id).await?;
        }
        Ok(())
    }

    fn bind(&mut self, config: &Config) -> Result<(), Problems> {
        let Some(redirect) = &mut self.ground.redirect else { return Ok(()) };
        let mut wanted = Vec::with_capacity(config.bindings.len());
        for binding in &config.bindings {
            wanted.push(to_xsk(&binding.value).map_err(|error| {
                config.problem(binding.line, error.to_string(), "mend the binding")
            })?);
        }
        redirect.set_bindings(&wanted).map_err(|error| {
            Problem::new(&config.path, error.to_string(), "see what `dmesg` says of it").into()
        })
    }

    /// Ends everything: no new packets, then those that are there are served, then all is detached.
    pub async fn stop(mut self) -> Ending {
        if let Some(redirect) = &mut self.ground.redirect {
            if let Err(error) = redirect.set_bindings(&[]) {
                tracing::warn!(%error, "the bindings stay until the XDP program is detached");
            }
            tokio::time::sleep(LAST_PACKETS).await;
        }
        let reports = self.fleet.stop(true).await;
        Ending { reports, redirect: self.redirected(), uptime: self.started.elapsed() }
    }

    /// What the XDP program has counted, on an AF_XDP device.
    pub fn redirected(&self) -> Option<RedirectCounters> {
        self.ground.redirect.as_ref()?.counters().ok()
    }

    /// Name of the interface, on an AF_XDP device.
    pub fn interface(&self) -> Option<&str> {
        self.ground.interface.as_deref()
    }

    /// Takes the far ends of a memory device's wires, to send packets to Weir from within the
    /// process. Empty the second time.
    pub fn take_ports(&mut self) -> Vec<MemoryPort> {
        std::mem::take(&mut self.ground.ports)
    }
}

fn to_xsk(binding: &Binding) -> Result<weir_xsk::Binding, weir_xsk::BindingError> {
    let protocol = match binding.protocol {
        Protocol::Udp => weir_xsk::Protocol::Udp,
    };
    let prefix = (binding.prefix.address, binding.prefix.length);
    weir_xsk::Binding::new(prefix, protocol, binding.port)
}

fn fleet_problem(config: &Config, error: &FleetError) -> Problem {
    Problem::new(&config.path, error.to_string(), "restart Weir; its log says what happened")
}
