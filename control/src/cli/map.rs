//! `weir map`

use clap::{Args, Subcommand};
use hyper::Method;

use super::format::count;
use super::table::Table;
use super::trouble::Trouble;
use super::{Global, encode};
use crate::api::maps;

#[derive(Debug, Args)]
pub(super) struct Map {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the maps.
    List,
    /// Show what a map holds.
    Dump {
        /// The map's id, or its name.
        map: String,
        /// Show so many entries at most.
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Put a value into a map.
    ///
    /// Keys and values are numbers (7), bytes (0x0102), prefixes (192.0.2.0/24), or bindings of
    /// the built-in object `steer` (udp,192.0.2.0/24,80).
    #[command(group(clap::ArgGroup::new("what").required(true).args(["value", "to_socket"])))]
    Update {
        /// The map's id, or its name.
        map: String,
        /// Where.
        key: String,
        /// What, for a map of bytes.
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        /// The name of a socket, for a map of sockets.
        #[arg(long, value_name = "NAME")]
        to_socket: Option<String>,
        /// Refuse if the key is there (BPF_NOEXIST).
        #[arg(long, conflicts_with = "exist")]
        noexist: bool,
        /// Refuse if the key is not there (BPF_EXIST).
        #[arg(long)]
        exist: bool,
    },
    /// Take a key out of a map.
    Delete {
        /// The map's id, or its name.
        map: String,
        /// Where.
        key: String,
    },
}

impl Map {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let client = global.client();
        match self.verb {
            Verb::List => {
                let maps: Vec<maps::Map> = client.read("/v1/maps")?;
                global.show(&maps, |maps| list(maps));
            }
            Verb::Dump { map, limit } => {
                let limit = limit.map(|limit| format!("?limit={limit}")).unwrap_or_default();
                let path = format!("/v1/maps/{}/entries{limit}", encode(&map));
                let dump: maps::Dump = client.read(&path)?;
                global.show(&dump, render);
            }
            Verb::Update { map, key, value, to_socket, noexist, exist } => {
                let flags = u64::from(noexist) + 2 * u64::from(exist);
                let update = maps::Update { key, value, socket: to_socket, flags };
                let path = format!("/v1/maps/{}/entries", encode(&map));
                let entry: maps::Entry = client.send(Method::PUT, &path, &update)?;
                let line = |entry: &maps::Entry| format!("{} = {}", entry.key, entry.values[0]);
                global.show(&entry, line);
            }
            Verb::Delete { map, key } => {
                let path = format!("/v1/maps/{}/entries?key={}", encode(&map), encode(&key));
                let entry: maps::Entry = client.send_bytes(Method::DELETE, &path, Vec::new())?;
                global.show(&entry, |entry| format!("deleted {}", entry.key));
            }
        }
        Ok(())
    }
}

fn list(maps: &[maps::Map]) -> String {
    let mut table =
        Table::new(&["ID", "NAME", "TYPE", "OBJECT", ">KEY", ">VALUE", ">ENTRIES", ">MAX"]);
    for map in maps {
        table.row([
            map.id.to_string(),
            map.name.clone(),
            map.kind.clone(),
            map.object.to_string(),
            format!("{} B", map.key_size),
            format!("{} B", map.value_size),
            count(map.entries as u64),
            count(map.max_entries.into()),
        ]);
    }
    if table.is_empty() { "no maps".into() } else { table.render() }
}

fn render(dump: &maps::Dump) -> String {
    let mut table = Table::new(&["KEY", "VALUE"]);
    for entry in &dump.entries {
        table.row([entry.key.clone(), entry.values.join(" ")]);
    }
    let mut text = if table.is_empty() { "empty\n".into() } else { table.render() };
    if dump.truncated {
        text.push_str("… and more\n");
    }
    text
}
