//! `[[program]]`, and what goes into its maps.

use std::collections::HashMap;

use toml::Spanned;
use weir_dataplane::limits;

use super::Checker;
use crate::config::{At, Entry, EntryValue, Literal, ObjectSource, Program, file};

impl Checker<'_> {
    pub(super) fn programs(
        &mut self,
        programs: Vec<Spanned<file::Program>>,
        sockets: &HashMap<&str, usize>,
    ) -> Vec<At<Program>> {
        if programs.len() > limits::PROGRAMS {
            let line = self.line(&programs[limits::PROGRAMS]);
            self.refuse(
                line,
                format!("{} programs, more than {} (E2BIG)", programs.len(), limits::PROGRAMS),
                "the kernel has the same limit: join some of them",
            );
        }
        let mut checked = Vec::with_capacity(programs.len());
        for program in programs {
            let line = self.line(&program);
            let program = program.into_inner();
            let object = self.place(program.object);
            let source = match object.value.strip_prefix("builtin:") {
                Some(name) => ObjectSource::Builtin(name.into()),
                None => ObjectSource::File(self.path(&object.value)),
            };
            let name = self.place(program.name);
            let entries = program
                .entries
                .into_iter()
                .filter_map(|entry| self.entry(entry, sockets))
                .collect();
            let object = At { value: source, line: object.line };
            checked.push(At { value: Program { object, name, entries }, line });
        }
        checked
    }

    fn entry(
        &mut self,
        entry: Spanned<file::Entry>,
        sockets: &HashMap<&str, usize>,
    ) -> Option<At<Entry>> {
        let line = self.line(&entry);
        let entry = entry.into_inner();
        let key = match (&entry.key, &entry.binding) {
            (Some(key), None) => self.literal("key", key),
            (None, Some(binding)) => self.binding(binding).map(Literal::Binding),
            _ => {
                self.refuse(
                    line,
                    "an entry has either `key` or `binding`",
                    "say once where in the map the value belongs",
                );
                None
            }
        };
        let value = match (&entry.value, &entry.socket) {
            (Some(value), None) => self.literal("value", value).map(EntryValue::Literal),
            (None, Some(socket)) => {
                if !sockets.contains_key(socket.get_ref().as_str()) {
                    self.refuse(
                        self.line(socket),
                        format!("there is no socket \"{}\"", socket.get_ref()),
                        "name a [[socket]] of this file",
                    );
                }
                Some(EntryValue::Socket(socket.get_ref().clone()))
            }
            _ => {
                self.refuse(
                    line,
                    "an entry has either `value` or `socket`",
                    "say once what the map holds there",
                );
                None
            }
        };
        let map = entry.map.into_inner();
        Some(At { value: Entry { map, key: key?, value: value? }, line })
    }

    fn literal(&mut self, key: &str, value: &Spanned<toml::Value>) -> Option<Literal> {
        let reason = match value.get_ref() {
            toml::Value::Integer(number) => return Some(Literal::Integer((*number).into())),
            toml::Value::String(text) => match text.parse() {
                Ok(literal) => return Some(literal),
                Err(error) => format!("`{key}`: {error}"),
            },
            _ => format!("`{key}` is neither a number nor a string"),
        };
        self.refuse(
            self.line(value),
            reason,
            "write 7, \"0x0102\", \"192.0.2.0/24\", or use `binding`",
        );
        None
    }
}
