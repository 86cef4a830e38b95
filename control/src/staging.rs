//! From the programs of a configuration to loaded objects and filled maps, with each refusal
//! placed at its line.

use std::collections::HashSet;
use std::sync::Arc;

use weir_bpf::{Map, Program, SocketId};
use weir_dataplane::registry::Registry;

use crate::config::{At, Config, Entry, EntryValue, Problem, Problems};
use crate::steering::{self, Steering, SteeringError, Value};

/// What a configuration's programs have become.
#[derive(Debug, Default)]
pub struct Staged {
    /// The programs in order, with their ids.
    pub programs: Vec<(u32, Arc<Program>)>,
    /// Objects that they are of.
    pub objects: Vec<u32>,
    entries: Vec<(Arc<Map>, At<Entry>)>,
}

/// Does with a configuration everything that needs no device: opens its sockets in an empty book,
/// loads its objects, fills its maps.
///
/// # Errors
/// Everything that is wrong.
pub fn rehearse(config: &Config) -> Result<(), Problems> {
    let mut registry = Registry::new(config.sockets_max);
    let mut problems = Vec::new();
    for socket in &config.sockets {
        if let Err(error) = registry.open(socket.value.clone()) {
            let reason = format!("socket \"{}\": {error}", socket.name);
            problems.push(config.problem(socket.line, reason, "mend `address` or `limits`"));
        }
    }
    let mut steering = Steering::new(1, config.engine);
    match stage(config, &mut steering) {
        Ok(staged) => {
            if let Err(more) = staged.fill(config, |name| registry.by_name(name)) {
                problems.extend(more.0);
            }
        }
        Err(more) => problems.extend(more.0),
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// Finds or loads the objects of a configuration. Nothing that is attached changes, no map is
/// written to. After an error, [`Steering::sweep`] removes what was loaded in vain.
///
/// # Errors
/// Every object, program or map that is not there or not right.
pub fn stage(config: &Config, steering: &mut Steering) -> Result<Staged, Problems> {
    let mut staged = Staged::default();
    let mut problems = Vec::new();
    let mut ids = std::collections::HashMap::new();
    for program in &config.programs {
        let source = &program.object;
        let loaded = match ids.get(&source.value) {
            Some(&id) => Ok(id),
            None => load(steering, source),
        };
        let object = match loaded {
            Ok(object) => object,
            Err(error) => {
                problems.push(problem(config, source.line, &error));
                continue;
            }
        };
        ids.insert(source.value.clone(), object);
        match steering.program_of(object, &program.name) {
            Ok(found) => staged.programs.push(found),
            Err(error) => problems.push(problem(config, program.name.line, &error)),
        }
        for entry in &program.entries {
            match steering.map_of(object, &entry.map) {
                Ok(map) => staged.entries.push((map, entry.clone())),
                Err(error) => problems.push(problem(config, entry.line, &error)),
            }
        }
    }
    staged.objects = ids.into_values().collect();
    if problems.is_empty() { Ok(staged) } else { Err(Problems(problems)) }
}

fn load(
    steering: &mut Steering,
    source: &crate::config::ObjectSource,
) -> Result<u32, SteeringError> {
    let bytes = steering::read_object(source)?;
    let name = source.to_string();
    match steering.same(&name, &bytes) {
        Some(object) => Ok(object),
        None => steering.load(&name, &bytes, true),
    }
}

impl Staged {
    /// Writes the entries into the maps.
    ///
    /// # Errors
    /// Every entry that has the wrong form, names no socket, or that the map refuses.
    pub fn fill(
        &self,
        config: &Config,
        socket: impl Fn(&str) -> Option<SocketId>,
    ) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (map, entry) in &self.entries {
            let value = match &entry.value.value {
                EntryValue::Literal(literal) => Value::Literal(literal.clone()),
                EntryValue::Socket(name) => match socket(name) {
                    Some(id) => Value::Socket(id),
                    None => {
                        let reason = format!("there is no socket \"{name}\"");
                        let help = "name a [[socket]] of this file";
                        problems.push(config.problem(entry.line, reason, help));
                        continue;
                    }
                },
            };
            if let Err(error) = steering::update(map, &entry.key, &value, 0) {
                problems.push(problem(config, entry.line, &error));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }

    /// Takes out of the maps what an earlier configuration put there and this one does not.
    pub fn retract(&self, earlier: &Staged) {
        let ours: HashSet<_> = self.places().collect();
        for (place, (map, entry)) in earlier.places().zip(&earlier.entries) {
            if !ours.contains(&place) {
                // Gone already, or an array, whose elements cannot be deleted: nothing to do.
                let _ = steering::delete(map, &entry.key);
            }
        }
    }

    fn places(&self) -> impl Iterator<Item = (*const Map, Vec<u8>)> {
        self.entries.iter().map(|(map, entry)| {
            let key = entry.key.encode(map.spec().key_size as usize).unwrap_or_default();
            (Arc::as_ptr(map), key)
        })
    }
}

fn problem(config: &Config, line: usize, error: &SteeringError) -> Problem {
    config.problem(line, error.to_string(), error.help())
}
