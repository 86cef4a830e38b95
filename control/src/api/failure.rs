//! What the API says when it cannot do what was asked: what was wrong, and what to do.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::config::Problems;
use crate::fleet::FleetError;
use crate::steering::{OBJECT_MAX, SteeringError};

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was wrong.
    pub error: String,
    /// What to do.
    pub help: String,
}

/// A refusal and its status.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    refusal: Refusal,
}

impl Failure {
    /// A refusal of that status.
    pub fn new(status: StatusCode, error: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure { status, refusal: Refusal { error: error.into(), help: help.into() } }
    }

    /// The request itself is wrong.
    pub fn bad_request(error: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, error, help)
    }

    /// Weir is on its way out.
    pub fn stopping() -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "Weir is stopping", "start it again first")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.refusal)).into_response()
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Failure {
        let help = format!("a body has {OBJECT_MAX} bytes at most");
        Failure::new(rejection.status(), rejection.body_text(), help)
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Failure {
        let help = "GET /openapi.json names the parameters";
        Failure::new(rejection.status(), rejection.body_text(), help)
    }
}

impl From<FleetError> for Failure {
    fn from(error: FleetError) -> Failure {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
            "look at Weir's log, and restart it if the worker does not come back",
        )
    }
}

impl From<SteeringError> for Failure {
    fn from(error: SteeringError) -> Failure {
        let status = match &error {
            SteeringError::UnknownProgram(_)
            | SteeringError::UnknownObject(_)
            | SteeringError::UnknownMap(_)
            | SteeringError::UnknownLink(_)
            | SteeringError::UnknownBuiltin(_) => StatusCode::NOT_FOUND,
            SteeringError::Ambiguous(..)
            | SteeringError::Busy(_)
            | SteeringError::TooManyLinks
            | SteeringError::TooManyObjects
            | SteeringError::Map { .. } => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Failure::new(status, error.to_string(), error.help())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Failure {
        let help: Vec<&str> = problems.0.iter().map(|problem| &*problem.help).collect();
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, problems.to_string(), help.join("; "))
    }
}
