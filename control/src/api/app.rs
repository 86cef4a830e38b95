//! What every handler sees: the control plane behind its lock, and the metrics.

use std::sync::Arc;

use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::Failure;
use crate::daemon::Plane;
use crate::metrics::Metrics;

/// Cheap to clone.
#[derive(Clone)]
pub struct App {
    plane: Arc<Mutex<Option<Plane>>>,
    metrics: Arc<Metrics>,
}

impl App {
    /// Takes a running control plane in.
    pub fn new(plane: Plane) -> App {
        App { plane: Arc::new(Mutex::new(Some(plane))), metrics: Arc::default() }
    }

    /// The control plane, for as long as the guard lives.
    ///
    /// # Errors
    /// When Weir is stopping.
    pub async fn plane(&self) -> Result<MappedMutexGuard<'_, Plane>, Failure> {
        MutexGuard::try_map(self.plane.lock().await, Option::as_mut)
            .map_err(|_| Failure::stopping())
    }

    /// Takes the control plane out, to stop it; from now on there is none.
    pub async fn take(&self) -> Option<Plane> {
        self.plane.lock().await.take()
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
