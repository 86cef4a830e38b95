//! `/v1/status`: that Weir runs, and what with.

use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{App, Failure};

/// What runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Weir's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The configuration file.
    pub config: String,
    /// Since the start.
    pub uptime_seconds: f64,
    /// The interface, if there is one.
    pub interface: Option<String>,
    /// The workers.
    pub workers: Vec<WorkerStatus>,
    /// What the XDP program hands over.
    pub bindings: Vec<String>,
    /// Open sockets.
    pub sockets: usize,
    /// Attached programs.
    pub links: usize,
    /// Whether the last reload went through; the start counts as one.
    pub last_reload_success: bool,
    /// When that was, in seconds since 1970.
    pub last_reload_timestamp_seconds: f64,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number.
    pub worker: u8,
    /// Its queue.
    pub queue: u32,
    /// The mode that it really got.
    pub mode: String,
}

pub(super) async fn read(State(app): State<App>) -> Result<Json<Status>, Failure> {
    let plane = app.plane().await?;
    let workers = plane
        .fleet
        .standings()
        .map(|worker| WorkerStatus {
            worker: worker.number,
            queue: worker.queue,
            mode: worker.mode.as_str().into(),
        })
        .collect();
    let since_1970 = plane.reloaded.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        config: plane.config.path.display().to_string(),
        uptime_seconds: plane.started.elapsed().as_secs_f64(),
        interface: plane.interface().map(Into::into),
        workers,
        bindings: plane.config.bindings.iter().map(|binding| binding.to_string()).collect(),
        sockets: plane.registry.len(),
        links: plane.steering.links().len(),
        last_reload_success: plane.reloaded.success,
        last_reload_timestamp_seconds: since_1970.as_secs_f64(),
    }))
}
