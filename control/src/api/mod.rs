//! The API: HTTP and JSON on the Unix socket, described by `control/openapi.json`.

mod app;
mod failure;
pub mod links;
pub mod maps;
pub mod objects;
pub mod programs;
mod reload;
pub mod sockets;
pub mod stats;
pub mod status;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use serde::de::DeserializeOwned;

pub use app::App;
pub use failure::{Failure, Refusal};
pub use reload::Reloading;

use crate::steering::OBJECT_MAX;

/// The description of what follows, served as it is.
pub const DESCRIPTION: &str = include_str!("../../openapi.json");

/// Every route: method, path, handler. A test holds this list and the description together.
pub fn routes() -> Vec<(&'static str, &'static str, MethodRouter<App>)> {
    vec![
        ("get", "/v1/status", get(status::read)),
        ("get", "/v1/stats", get(stats::read)),
        ("get", "/v1/sockets", get(sockets::list)),
        ("get", "/v1/objects", get(objects::list)),
        ("post", "/v1/objects", post(objects::load)),
        ("delete", "/v1/objects/{id}", delete(objects::unload)),
        ("get", "/v1/programs", get(programs::list)),
        ("get", "/v1/links", get(links::list)),
        ("post", "/v1/links", post(links::attach)),
        ("delete", "/v1/links/{id}", delete(links::detach)),
        ("get", "/v1/maps", get(maps::list)),
        ("get", "/v1/maps/{map}/entries", get(maps::dump)),
        ("put", "/v1/maps/{map}/entries", put(maps::update)),
        ("delete", "/v1/maps/{map}/entries", delete(maps::remove)),
        ("post", "/v1/reload", post(reload::reload)),
        ("get", "/openapi.json", get(describe)),
        ("get", "/metrics", get(expose)),
    ]
}

/// All routes, for the Unix socket.
pub fn router(app: App) -> Router {
    let router = Router::new();
    let router = routes().into_iter().fold(router, |r, (_, path, route)| r.route(path, route));
    router
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(OBJECT_MAX))
        .with_state(app)
}

/// `/metrics` alone, for Prometheus over TCP.
pub fn metrics_router(app: App) -> Router {
    Router::new()
        .route("/metrics", get(expose))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(0))
        .with_state(app)
}

/// A body that may have been too long.
type Body = Result<Bytes, BytesRejection>;

/// Reads a JSON body.
fn json<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    serde_json::from_slice(&body?).map_err(|error| {
        Failure::bad_request(
            format!("the body is not what was expected: {error}"),
            "GET /openapi.json describes it",
        )
    })
}

async fn describe() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}

async fn expose(State(app): State<App>) -> Result<Response, Failure> {
    let text = {
        let mut plane = app.plane().await?;
        // A worker that does not answer is shown with its last numbers, and the failure logged:
        // metrics are most wanted when something is wrong.
        if let Err(error) = plane.fleet.refresh().await {
            tracing::error!(%error, "metrics are not fresh");
        }
        let sockets = match plane.fleet.sockets().await {
            Ok(sockets) => sockets,
            Err(error) => {
                tracing::error!(%error, "no counters of sockets");
                Default::default()
            }
        };
        app.metrics().render(&plane, &sockets)
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn unknown() -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path",
        "GET /openapi.json lists what there is",
    )
}

async fn not_allowed() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take that method",
        "GET /openapi.json lists what there is",
    )
}
