//! `/v1/sockets`: the sockets with their counters.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use weir_dataplane::socket::SocketCounters;

use super::{App, Failure};

/// One socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Socket {
    /// Its id, as maps and programs know it.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// "udp".
    pub protocol: String,
    /// Bound address and port.
    pub local: String,
    /// Peer of a connected socket.
    pub remote: Option<String>,
    /// Whether an IPv6 wildcard leaves IPv4 out.
    pub v6only: bool,
    /// What answers.
    pub service: String,
    /// All workers together.
    pub counters: SocketTraffic,
    /// Each worker that has it.
    pub workers: Vec<SocketWorker>,
}

/// What a socket has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketTraffic {
    /// Datagrams delivered.
    pub received: u64,
    /// Payload bytes of those.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Payload bytes of those.
    pub sent_bytes: u64,
    /// Of the delivered, those that a program steered.
    pub steered: u64,
}

/// What it has seen on one worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SocketWorker {
    /// The worker.
    pub worker: u8,
    /// What came there.
    pub counters: SocketTraffic,
}

impl From<SocketCounters> for SocketTraffic {
    fn from(counters: SocketCounters) -> SocketTraffic {
        SocketTraffic {
            received: counters.received,
            received_bytes: counters.received_bytes,
            sent: counters.sent,
            sent_bytes: counters.sent_bytes,
            steered: counters.steered,
        }
    }
}

impl SocketTraffic {
    /// The sum of the counters.
    pub fn sum(each: impl IntoIterator<Item = SocketTraffic>) -> SocketTraffic {
        each.into_iter().fold(SocketTraffic::default(), |sum, one| SocketTraffic {
            received: sum.received + one.received,
            received_bytes: sum.received_bytes + one.received_bytes,
            sent: sum.sent + one.sent,
            sent_bytes: sum.sent_bytes + one.sent_bytes,
            steered: sum.steered + one.steered,
        })
    }
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Socket>>, Failure> {
    let mut plane = app.plane().await?;
    let mut counters = plane.fleet.sockets().await?;
    let mut sockets = Vec::with_capacity(plane.registry.len());
    for (id, spec) in plane.registry.iter() {
        let workers: Vec<SocketWorker> = counters
            .remove(&id)
            .unwrap_or_default()
            .into_iter()
            .map(|(worker, counters)| SocketWorker { worker, counters: counters.into() })
            .collect();
        sockets.push(Socket {
            id: id.0,
            name: spec.name.to_string(),
            protocol: "udp".into(),
            local: spec.local.to_string(),
            remote: spec.remote.map(|remote| remote.to_string()),
            v6only: spec.v6only,
            service: spec.service.as_str().into(),
            counters: SocketTraffic::sum(workers.iter().map(|worker| worker.counters)),
            workers,
        });
    }
    Ok(Json(sockets))
}
