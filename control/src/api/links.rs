//! `/v1/links`: which programs run, and in which order.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::programs::Runs;
use super::{App, Body, Failure, json};
use crate::daemon::Plane;
use crate::steering;

/// One attached program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Its id.
    pub id: u64,
    /// Place in the order, from 0.
    pub place: usize,
    /// Id of the program.
    pub program: u32,
    /// Name of the program.
    pub name: String,
    /// Whether the configuration asked for it.
    pub configured: bool,
    /// What it did.
    pub runs: Runs,
}

/// Which program to attach, at the end of the order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Its id, or its name where only one has it.
    pub program: String,
}

impl Link {
    fn of(plane: &Plane, place: usize, link: &steering::Link) -> Link {
        Link {
            id: link.id,
            place,
            program: link.program,
            name: link.code.name().into(),
            configured: link.configured,
            runs: plane.fleet.program(link.id).into(),
        }
    }
}

fn all(plane: &Plane) -> Vec<Link> {
    let links = plane.steering.links().iter().enumerate();
    links.map(|(place, link)| Link::of(plane, place, link)).collect()
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Link>>, Failure> {
    let mut plane = app.plane().await?;
    plane.fleet.refresh().await?;
    Ok(Json(all(&plane)))
}

pub(super) async fn attach(State(app): State<App>, body: Body) -> Result<Json<Vec<Link>>, Failure> {
    let request: Attach = json(body)?;
    let mut plane = app.plane().await?;
    let program = plane.steering.program(&request.program)?;
    plane.steering.attach(program, false)?;
    publish(&mut plane).await
}

pub(super) async fn detach(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Link>>, Failure> {
    let id = id
        .parse()
        .map_err(|_| Failure::bad_request(format!("`{id}` is not an id"), "give a number"))?;
    let mut plane = app.plane().await?;
    plane.steering.detach(id)?;
    publish(&mut plane).await
}

/// Gives the workers the order, and answers once all of them have it.
async fn publish(plane: &mut Plane) -> Result<Json<Vec<Link>>, Failure> {
    let programs = plane.steering.attached();
    plane.fleet.attach(&programs).await?;
    plane.fleet.settle().await?;
    plane.fleet.refresh().await?;
    Ok(Json(all(plane)))
}
