//! `weir ss`

use clap::Args;

use super::Global;
use super::format::{bytes, count};
use super::table::Table;
use super::trouble::Trouble;
use crate::api::sockets::{Socket, SocketTraffic};

#[derive(Debug, Args)]
pub(super) struct Ss {}

impl Ss {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let sockets: Vec<Socket> = global.client().read("/v1/sockets")?;
        global.show(&sockets, |sockets| render(sockets));
        Ok(())
    }
}

fn render(sockets: &[Socket]) -> String {
    let mut table = Table::new(&[
        "PROTO",
        "NAME",
        "LOCAL",
        "REMOTE",
        "SERVICE",
        "WORKER",
        ">RECEIVED",
        ">BYTES",
        ">SENT",
        ">BYTES",
        ">STEERED",
    ]);
    for socket in sockets {
        // A socket lives on every worker: one line each where there are several.
        let several = socket.workers.len() > 1;
        let worker = match socket.workers.as_slice() {
            [one] => one.worker.to_string(),
            _ => "all".into(),
        };
        row(&mut table, socket, &worker, &socket.counters);
        for worker in socket.workers.iter().filter(|_| several) {
            row(&mut table, socket, &worker.worker.to_string(), &worker.counters);
        }
    }
    if table.is_empty() { "no sockets".into() } else { table.render() }
}

fn row(table: &mut Table, socket: &Socket, worker: &str, traffic: &SocketTraffic) {
    table.row([
        socket.protocol.clone(),
        socket.name.clone(),
        socket.local.clone(),
        socket.remote.clone().unwrap_or_else(|| "*".into()),
        socket.service.clone(),
        worker.to_owned(),
        count(traffic.received),
        bytes(traffic.received_bytes),
        count(traffic.sent),
        bytes(traffic.sent_bytes),
        count(traffic.steered),
    ]);
}
