//! The command `weir`: one verb a file.

mod check;
mod demo;
mod flood;
pub(crate) mod format;
mod map;
mod prog;
mod reload;
mod run;
mod ss;
mod stats;
mod table;
mod trouble;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::client::Client;
use crate::config::CONTROL_SOCKET;

/// The programmable half of the Linux socket layer, in user space, on AF_XDP.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
struct Global {
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// The Unix socket of the running Weir.
    #[arg(long, global = true, value_name = "PATH", default_value = CONTROL_SOCKET)]
    socket: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run Weir in the foreground.
    Run(run::Run),
    /// Check a configuration without running it.
    Check(check::Check),
    /// Prove an object's programs safe, or say why not.
    Verify(verify::Verify),
    /// Show what has been counted.
    Stats(stats::Stats),
    /// Show the sockets.
    Ss(ss::Ss),
    /// Load, attach, detach and list programs.
    Prog(prog::Prog),
    /// List, dump and change maps.
    Map(map::Map),
    /// Show real packets, steered and counted, in a lab of its own.
    Demo(demo::Demo),
    /// Send a bounded flood, for tests in a lab.
    Flood(flood::FloodVerb),
    /// Apply the changed configuration file.
    Reload(reload::Reload),
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let global = &cli.global;
    let result = match cli.verb {
        Verb::Run(verb) => verb.run(),
        Verb::Check(verb) => verb.run(global),
        Verb::Verify(verb) => verb.run(global),
        Verb::Stats(verb) => verb.run(global),
        Verb::Ss(verb) => verb.run(global),
        Verb::Prog(verb) => verb.run(global),
        Verb::Map(verb) => verb.run(global),
        Verb::Flood(verb) => verb.run(global),
        Verb::Demo(verb) => verb.run(global),
        Verb::Reload(verb) => verb.run(global),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            trouble.print();
            ExitCode::FAILURE
        }
    }
}

impl Global {
    fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Prints the value as JSON, or what `human` makes of it.
    fn show<T: Serialize>(&self, value: &T, human: impl FnOnce(&T) -> String) {
        let text = match self.json {
            true => serde_json::to_string_pretty(value).expect("our own types have a JSON form"),
            false => human(value),
        };
        print(&text);
    }
}

/// Prints a text and a line's end. Who reads may have gone, as `head` does: no error then.
fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
}

/// Percent-encodes a part of a path or a query (RFC 3986 2.3: all but the unreserved).
fn encode(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reserved_characters_are_encoded() {
        assert_eq!(encode("udp,192.0.2.0/24,80"), "udp%2C192.0.2.0%2F24%2C80");
    }
}
