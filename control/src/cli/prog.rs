//! `weir prog`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;

use super::format::count;
use super::table::Table;
use super::trouble::Trouble;
use super::{Global, encode};
use crate::api::links::{Attach, Link};
use crate::api::objects::Object;
use crate::api::programs::Program;
use crate::steering::OBJECT_MAX;

#[derive(Debug, Args)]
pub(super) struct Prog {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Load an object: its programs are checked, its maps are made, nothing runs yet.
    Load {
        /// An ELF file, or builtin:NAME.
        object: String,
    },
    /// Unload an object that nothing of is attached.
    Unload {
        /// The object's id.
        object: u32,
    },
    /// Attach a program, after those that are attached.
    Attach {
        /// The program's id, or its name.
        program: String,
    },
    /// Detach a program.
    Detach {
        /// The link's id.
        link: u64,
    },
    /// List the programs and their links.
    List,
}

impl Prog {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let client = global.client();
        match self.verb {
            Verb::Load { object } => {
                let (path, body) = request(&object)?;
                let object: Object = client.send_bytes(Method::POST, &path, body)?;
                global.show(&object, describe);
            }
            Verb::Unload { object } => {
                let path = format!("/v1/objects/{object}");
                let object: Object = client.send_bytes(Method::DELETE, &path, Vec::new())?;
                global.show(&object, |object| format!("unloaded object {}", object.id));
            }
            Verb::Attach { program } => {
                let links: Vec<Link> =
                    client.send(Method::POST, "/v1/links", &Attach { program })?;
                global.show(&links, |links| links_table(links));
            }
            Verb::Detach { link } => {
                let path = format!("/v1/links/{link}");
                let links: Vec<Link> = client.send_bytes(Method::DELETE, &path, Vec::new())?;
                global.show(&links, |links| links_table(links));
            }
            Verb::List => {
                let programs: Vec<Program> = client.read("/v1/programs")?;
                global.show(&programs, |programs| programs_table(programs));
            }
        }
        Ok(())
    }
}

/// The path and the body that load an object.
fn request(object: &str) -> Result<(String, Vec<u8>), Trouble> {
    if let Some(name) = object.strip_prefix("builtin:") {
        return Ok((format!("/v1/objects?builtin={}", encode(name)), Vec::new()));
    }
    let path = PathBuf::from(object);
    let unreadable = |error: std::io::Error| {
        Trouble::new(
            format!("{object} cannot be read: {error}"),
            "give the path of an ELF object, built with clang -O2 -g -target bpf",
        )
    };
    let size = std::fs::metadata(&path).map_err(unreadable)?.len();
    if size > OBJECT_MAX as u64 {
        return Err(Trouble::new(
            format!("{object} has {size} bytes, more than {OBJECT_MAX}"),
            "give the path of an ELF object, built with clang -O2 -g -target bpf",
        ));
    }
    let body = std::fs::read(&path).map_err(unreadable)?;
    Ok((format!("/v1/objects?name={}", encode(object)), body))
}

fn describe(object: &Object) -> String {
    let mut text = format!("loaded object {} from {}\n", object.id, object.source);
    for program in &object.programs {
        text.push_str(&format!("  program {} {}\n", program.id, program.name));
    }
    for map in &object.maps {
        text.push_str(&format!("  map {} {}\n", map.id, map.name));
    }
    text
}

fn links_table(links: &[Link]) -> String {
    let mut table =
        Table::new(&["PLACE", "LINK", "ID", "PROGRAM", "FROM", ">RUNS", ">DROP", ">FAULT"]);
    for link in links {
        table.row([
            link.place.to_string(),
            link.id.to_string(),
            link.program.to_string(),
            link.name.clone(),
            if link.configured { "config" } else { "api" }.into(),
            count(link.runs.runs),
            count(link.runs.dropped),
            count(link.runs.faulted),
        ]);
    }
    if table.is_empty() { "nothing is attached".into() } else { table.render() }
}

fn programs_table(programs: &[Program]) -> String {
    let mut table = Table::new(&[
        "ID", "NAME", "SECTION", "OBJECT", "SOURCE", "LINKS", "MAPS", ">INSNS", ">RUNS", ">PASS",
        ">DROP", ">FAULT",
    ]);
    for program in programs {
        let links: Vec<String> = program.links.iter().map(u64::to_string).collect();
        let maps: Vec<String> = program.maps.iter().map(u32::to_string).collect();
        table.row([
            program.id.to_string(),
            program.name.clone(),
            program.section.clone(),
            program.object.to_string(),
            program.source.clone(),
            if links.is_empty() { "-".into() } else { links.join(",") },
            if maps.is_empty() { "-".into() } else { maps.join(",") },
            program.instructions.to_string(),
            count(program.runs.runs),
            count(program.runs.passed),
            count(program.runs.dropped),
            count(program.runs.faulted),
        ]);
    }
    if table.is_empty() { "no programs are loaded".into() } else { table.render() }
}
