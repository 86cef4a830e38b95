//! `/v1/reload`: puts the configuration file in force anew.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{App, Failure};

/// What is in force after a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloading {
    /// The file.
    pub config: String,
    /// Bindings.
    pub bindings: usize,
    /// Open sockets.
    pub sockets: usize,
    /// Attached programs.
    pub links: usize,
}

pub(super) async fn reload(State(app): State<App>) -> Result<Json<Reloading>, Failure> {
    let mut plane = app.plane().await?;
    plane.reload().await?;
    tracing::info!("reloaded");
    Ok(Json(Reloading {
        config: plane.config.path.display().to_string(),
        bindings: plane.config.bindings.len(),
        sockets: plane.registry.len(),
        links: plane.steering.links().len(),
    }))
}
