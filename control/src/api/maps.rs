//! `/v1/maps`: what programs look things up in.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use weir_bpf::{Errno, MapType};

use super::{App, Body, Failure, json};
use crate::config::Literal;
use crate::config::literal::LiteralError;
use crate::daemon::Plane;
use crate::steering::{self, SteeringError, Value, holds_sockets};

/// Entries of one answer, unless fewer are asked for.
const ENTRIES_MAX: usize = 100_000;

/// One map.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Map {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its type, as bpftool calls it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries that it may have.
    pub max_entries: u32,
    /// Entries that it has.
    pub entries: usize,
    /// Id of its object.
    pub object: u32,
}

/// A part of a map's contents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dump {
    /// Id of the map.
    pub map: u32,
    /// What it holds.
    pub entries: Vec<Entry>,
    /// Whether there is more.
    pub truncated: bool,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key, in the form in which it can be given back.
    pub key: String,
    /// The values: one, or one a worker. The name of a socket, in a map of sockets.
    pub values: Vec<String>,
}

/// What to put into a map.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Where: 7, 0x0102, 192.0.2.0/24 or udp,192.0.2.0/24,80.
    pub key: String,
    /// What, in the same forms; or else `socket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Name of a socket, for a map of sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// BPF_ANY (0), BPF_NOEXIST (1) or BPF_EXIST (2).
    #[serde(default)]
    pub flags: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    key: String,
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Map>>, Failure> {
    let plane = app.plane().await?;
    let objects = plane.steering.objects().iter();
    let maps = objects.flat_map(|object| object.maps.iter().map(|map| (object.id, map)));
    let describe = |(object, (id, map)): (u32, &(u32, Arc<weir_bpf::Map>))| {
        let spec = map.spec();
        Map {
            id: *id,
            name: spec.name.clone(),
            kind: spec.map_type.name().into(),
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            entries: map.len(),
            object,
        }
    };
    Ok(Json(maps.map(describe).collect()))
}

pub(super) async fn dump(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Result<Query<Limit>, QueryRejection>,
) -> Result<Json<Dump>, Failure> {
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX);
    let plane = app.plane().await?;
    let (id, map) = plane.steering.map(&name)?;
    let mut entries = Vec::new();
    let mut key = None;
    let mut truncated = false;
    // A map may change meanwhile, so that keys come twice: the bound is on steps, not on entries.
    for step in 0.. {
        let Ok(next) = map.next_key(key.as_deref()) else { break };
        if step == limit {
            truncated = true;
            break;
        }
        if let Some(entry) = entry(&plane, &map, &next) {
            entries.push(entry);
        }
        key = Some(next);
    }
    Ok(Json(Dump { map: id, entries, truncated }))
}

/// What stands at a key; `None` if nothing does any more.
fn entry(plane: &Plane, map: &weir_bpf::Map, key: &[u8]) -> Option<Entry> {
    let spec = map.spec();
    let values = if holds_sockets(map) {
        let id = map.lookup_socket(key)?;
        vec![plane.registry.spec(id).map_or_else(|| "?".into(), |spec| spec.name.to_string())]
    } else {
        let bytes = map.lookup(key).ok()?;
        let size = spec.value_size as usize;
        let each = match spec.map_type {
            MapType::PerCpuArray => size.next_multiple_of(8),
            _ => bytes.len().max(1),
        };
        let value = |value: &[u8]| Literal::decode(&value[..size.min(value.len())], false);
        bytes.chunks(each).map(|bytes| value(bytes).to_string()).collect()
    };
    let key = Literal::decode(key, spec.map_type == MapType::LpmTrie).to_string();
    Some(Entry { key, values })
}

pub(super) async fn update(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Entry>, Failure> {
    let request: Update = json(body)?;
    let key = literal(&request.key)?;
    let plane = app.plane().await?;
    let (_, map) = plane.steering.map(&name)?;
    let (value, shown) = match (&request.value, &request.socket) {
        (Some(value), None) => (Value::Literal(literal(value)?), value.clone()),
        (None, Some(socket)) => {
            let id = plane.registry.by_name(socket).ok_or_else(|| {
                let error = format!("there is no socket \"{socket}\"");
                Failure::bad_request(error, "`weir ss` lists them")
            })?;
            (Value::Socket(id), socket.clone())
        }
        _ => {
            return Err(Failure::bad_request(
                "either `value` or `socket` is needed",
                "give a value to a map of bytes, a socket's name to a map of sockets",
            ));
        }
    };
    steering::update(&map, &key, &value, request.flags)?;
    Ok(Json(Entry { key: request.key, values: vec![shown] }))
}

pub(super) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Result<Query<Remove>, QueryRejection>,
) -> Result<Json<Entry>, Failure> {
    let Query(query) = query?;
    let key = literal(&query.key)?;
    let plane = app.plane().await?;
    let (_, map) = plane.steering.map(&name)?;
    steering::delete(&map, &key).map_err(|error| match error {
        SteeringError::Map { errno: Errno::ENOENT, .. } => Failure::new(
            axum::http::StatusCode::NOT_FOUND,
            error.to_string(),
            "`weir map dump` shows the keys",
        ),
        error => error.into(),
    })?;
    Ok(Json(Entry { key: query.key, values: Vec::new() }))
}

fn literal(text: &str) -> Result<Literal, Failure> {
    text.parse().map_err(|error: LiteralError| {
        Failure::bad_request(error.to_string(), "write 7, 0x0102, 192.0.2.0/24 or udp,PREFIX,PORT")
    })
}
