//! `/v1/objects`: loading and unloading ELF objects.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};

use super::{App, Body, Failure};
use crate::config::ObjectSource;
use crate::steering::{self, LoadedObject};

/// One object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Object {
    /// Its id.
    pub id: u32,
    /// Where it came from.
    pub source: String,
    /// Whether the configuration asked for it.
    pub configured: bool,
    /// Its programs.
    pub programs: Vec<Part>,
    /// Its maps.
    pub maps: Vec<Part>,
}

/// A program or a map of an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// What to load: the body, under a name, or one of Weir's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    name: Option<String>,
    builtin: Option<String>,
}

impl Object {
    fn of(object: &LoadedObject) -> Object {
        let part = |id: u32, name: &str| Part { id, name: name.into() };
        Object {
            id: object.id,
            source: object.source.clone(),
            configured: object.configured,
            programs: object.programs.iter().map(|(id, p)| part(*id, p.name())).collect(),
            maps: object.maps.iter().map(|(id, m)| part(*id, &m.spec().name)).collect(),
        }
    }
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Object>>, Failure> {
    let plane = app.plane().await?;
    Ok(Json(plane.steering.objects().iter().map(Object::of).collect()))
}

pub(super) async fn load(
    State(app): State<App>,
    query: Result<Query<Load>, QueryRejection>,
    body: Body,
) -> Result<Json<Object>, Failure> {
    const HELP: &str = "POST the object as the body, or give ?builtin=NAME";
    let (Query(load), bytes) = (query?, body?);
    let (source, bytes) = match (load.builtin, bytes.is_empty()) {
        (Some(name), true) => {
            let source = ObjectSource::Builtin(name);
            (source.to_string(), steering::read_object(&source)?.into())
        }
        (None, false) => (load.name.unwrap_or_else(|| "upload".into()), bytes),
        _ => return Err(Failure::bad_request("either a body or `builtin` is needed", HELP)),
    };
    let mut plane = app.plane().await?;
    let id = plane.steering.load(&source, &bytes, false)?;
    Ok(Json(Object::of(plane.steering.object(id)?)))
}

pub(super) async fn unload(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Object>, Failure> {
    let id = id
        .parse()
        .map_err(|_| Failure::bad_request(format!("`{id}` is not an id"), "give a number"))?;
    let mut plane = app.plane().await?;
    let object = Object::of(plane.steering.object(id)?);
    plane.steering.unload(id)?;
    Ok(Json(object))
}
