//! Initial values of maps of maps and of program arrays (libbpf's `init_map_in_map_slots` and
//! `init_prog_array_slots`).

use std::collections::HashMap;
use std::sync::Arc;

use super::{MapSlot, Object};
use crate::errno::Errno;
use crate::map::Map;
use crate::program::{LoadError, Program};

impl Object {
    /// Fills the maps that were made for this object; those that were there keep what they hold.
    pub(crate) fn fill(
        &self,
        maps: &[Arc<Map>],
        programs: &[Arc<Program>],
        reused: &HashMap<String, Arc<Map>>,
    ) -> Result<(), LoadError> {
        for ((spec, definition), map) in self.maps.iter().zip(&self.definitions).zip(maps) {
            if reused.contains_key(&spec.name) {
                continue;
            }
            for (key, slot) in &definition.slots {
                let key = key.to_le_bytes();
                let done = match slot {
                    MapSlot::Map(at) => maps
                        .get(*at)
                        .ok_or(Errno::ENOENT)
                        .and_then(|inner| map.update_map(&key, Arc::clone(inner), 0)),
                    MapSlot::Program(name) => {
                        // A program's number is its place in the object, from 1.
                        let found = (1..).zip(programs).find(|(_, one)| one.name() == name);
                        found.ok_or(Errno::ENOENT).and_then(|(id, program)| {
                            map.update_program(&key, Arc::clone(program), id, 0)
                        })
                    }
                };
                done.map_err(|errno| LoadError::Map { name: spec.name.clone(), errno })?;
            }
        }
        Ok(())
    }
}
