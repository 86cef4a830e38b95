//! Maps that outlive their object: `LIBBPF_PIN_BY_NAME`, through whatever the caller keeps them in.

use std::sync::Arc;

use super::Object;
use crate::map::Map;
use crate::program::{LoadError, LoadOptions, Loaded};

/// `LIBBPF_PIN_BY_NAME`.
const PIN_BY_NAME: u32 = 1;

/// Where pinned maps are kept.
pub trait PinRegistry {
    /// The map that is pinned by this name.
    fn find(&self, name: &str) -> Option<Arc<Map>>;
    /// Pins a map.
    fn pin(&mut self, name: &str, map: &Arc<Map>);
}

impl Object {
    /// [`Object::load`], with the maps that ask for it taken from the registry, or made and pinned.
    /// Nothing is pinned unless everything is loaded.
    ///
    /// # Errors
    /// As [`Object::load`]; a pinned map of another type, size or flags is refused.
    pub fn load_pinned(
        &self,
        options: &LoadOptions,
        registry: &mut dyn PinRegistry,
    ) -> Result<Loaded, LoadError> {
        let mut reuse = options.reuse.clone();
        let pinned = || self.maps.iter().filter(|spec| spec.pinning == PIN_BY_NAME);
        let mut fresh = Vec::new();
        for spec in pinned().filter(|spec| !options.reuse.contains_key(&spec.name)) {
            match registry.find(&spec.name) {
                Some(map) => _ = reuse.insert(spec.name.clone(), map),
                None => fresh.push(&spec.name),
            }
        }
        let loaded = self.load(&LoadOptions { cpus: options.cpus, reuse })?;
        for (spec, map) in self.maps.iter().zip(&loaded.maps) {
            if fresh.contains(&&spec.name) {
                registry.pin(&spec.name, map);
            }
        }
        Ok(loaded)
    }
}
