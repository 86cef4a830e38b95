//! Objects, their programs and maps, and the order in which programs are attached. Ids are given
//! here, as the kernel gives them: a number a kind, from 1, never used twice.

use std::collections::HashMap;
use std::sync::Arc;

use weir_bpf::jit::CompileError;
use weir_bpf::object::Object;
use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{Engine, Errno, LoadOptions, Loaded, Map, MapType, Program, SocketId};
use weir_dataplane::limits::PROGRAMS;
use weir_dataplane::mailbox::{Attached, ProgramList};

use crate::config::literal::LiteralError;
use crate::config::{Literal, ObjectSource};

/// Bytes that an object may have.
pub const OBJECT_MAX: usize = 16 * 1024 * 1024;
/// Objects that may be loaded at once.
const OBJECTS_MAX: usize = 256;

/// Why something about programs or maps is refused.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The file cannot be read.
    #[error("object {0} cannot be read: {1}")]
    Unreadable(String, std::io::Error),
    /// Not one of ours.
    #[error("there is no built-in object `{0}`")]
    UnknownBuiltin(String),
    /// Larger than any object should be.
    #[error("object {0} has {1} bytes, more than {OBJECT_MAX}")]
    TooLarge(String, u64),
    /// Not an ELF object that libbpf's conventions describe.
    #[error("object {0}: {1}")]
    BadObject(String, String),
    /// One of its programs or maps cannot be loaded.
    #[error("object {0} cannot be loaded: {1}")]
    Load(String, String),
    /// The verifier does not let one of its programs through.
    #[error("object {0}: program {1} is not safe: {2}")]
    Unsafe(String, String, Box<weir_bpf::verifier::Rejected>),
    /// Too many objects.
    #[error("{OBJECTS_MAX} objects are loaded already (E2BIG)")]
    TooManyObjects,
    /// No such program.
    #[error("there is no program `{0}`")]
    UnknownProgram(String),
    /// No such object.
    #[error("there is no object {0}")]
    UnknownObject(u32),
    /// No such map.
    #[error("there is no map `{0}`")]
    UnknownMap(String),
    /// No such link.
    #[error("there is no link {0}")]
    UnknownLink(u64),
    /// Several have the name.
    #[error("more than one {0} is named `{1}`: use its id")]
    Ambiguous(&'static str, String),
    /// The order is full.
    #[error("{PROGRAMS} programs are attached already (E2BIG)")]
    TooManyLinks,
    /// A program of it is attached.
    #[error("object {0} has an attached program (EBUSY)")]
    Busy(u32),
    /// Key or value in the wrong form.
    #[error("map `{map}`, {part}: {error}")]
    Literal {
        /// The map.
        map: String,
        /// "key" or "value".
        part: &'static str,
        /// What is wrong.
        error: LiteralError,
    },
    /// A socket for a map of bytes, or bytes for a map of sockets.
    #[error("map `{map}` is a {kind:?}: {reason}")]
    Kind {
        /// The map.
        map: String,
        /// Its type.
        kind: MapType,
        /// What it takes instead.
        reason: &'static str,
    },
    /// The map refused, with the kernel's error.
    #[error("map `{map}`: {operation} of key {key}: {errno}")]
    Map {
        /// The map.
        map: String,
        /// "update", "lookup" or "delete".
        operation: &'static str,
        /// The key, as written.
        key: String,
        /// The kernel's error.
        errno: Errno,
    },
}

impl SteeringError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            SteeringError::Unreadable(..) => "check the path; it starts at the file's folder",
            SteeringError::UnknownBuiltin(_) => "the built-in one is `builtin:steer`",
            SteeringError::TooLarge(..) => "an object is built with clang -target bpf: check it",
            SteeringError::BadObject(..) | SteeringError::Load(..) => {
                "build it with clang -O2 -g -target bpf, by libbpf's conventions"
            }
            SteeringError::Unsafe(..) => {
                "`weir verify FILE --log 1` shows the way there; `worker.engine = \"interpreter\"` \
                 runs it unproved, with every access checked"
            }
            SteeringError::TooManyObjects | SteeringError::TooManyLinks => {
                "detach or unload what is not used"
            }
            SteeringError::UnknownProgram(_) => "name a program of the object: `weir prog list`",
            SteeringError::UnknownObject(_) => "`weir prog list` shows the objects",
            SteeringError::UnknownMap(_) => "name a map of the object: `weir map list`",
            SteeringError::UnknownLink(_) => "`weir prog list` shows the links",
            SteeringError::Ambiguous(..) => "`weir prog list` and `weir map list` show the ids",
            SteeringError::Busy(_) => "detach its programs first",
            SteeringError::Literal { .. } => {
                "`weir map list` shows the sizes of keys and values, in bytes"
            }
            SteeringError::Kind { .. } => "`weir map list` shows what each map holds",
            SteeringError::Map { .. } => "the number is the kernel's errno for the same operation",
        }
    }
}

/// An object in use.
#[derive(Debug)]
pub struct LoadedObject {
    /// Its id.
    pub id: u32,
    /// Where it came from.
    pub source: String,
    /// Its programs, with their ids.
    pub programs: Vec<(u32, Arc<Program>)>,
    /// Its maps, with theirs.
    pub maps: Vec<(u32, Arc<Map>)>,
    /// Whether the configuration asked for it, not the API.
    pub configured: bool,
    bytes: Arc<[u8]>,
}

/// A program in the order.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its id.
    pub id: u64,
    /// Id of the program.
    pub program: u32,
    /// What runs.
    pub code: Arc<Program>,
    /// Whether the configuration asked for it, not the API.
    pub configured: bool,
}

/// A value for a map.
#[derive(Clone, Debug)]
pub enum Value {
    /// Bytes.
    Literal(Literal),
    /// A socket.
    Socket(SocketId),
}

/// See the module.
#[derive(Debug)]
pub struct Steering {
    engine: Engine,
    workers: usize,
    objects: Vec<LoadedObject>,
    links: Vec<Link>,
    next_object: u32,
    next_program: u32,
    next_map: u32,
    next_link: u64,
}

/// Proves and compiles all programs of an object. Where no machine code can be made for this
/// processor, the interpreter runs them.
fn compile(source: &str, loaded: &Loaded) -> Result<(), SteeringError> {
    match loaded.compile(&VerifyOptions::default()) {
        Err(CompileError::Rejected { program, rejected }) => {
            Err(SteeringError::Unsafe(source.into(), program, rejected))
        }
        Err(error) => {
            tracing::warn!(%error, source, "not compiled: the interpreter runs it");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

impl Steering {
    /// Nothing loaded; per-CPU maps will have a value for each of `workers`, and programs will run
    /// on that engine.
    pub fn new(workers: usize, engine: Engine) -> Steering {
        Steering {
            workers,
            engine,
            objects: Vec::new(),
            links: Vec::new(),
            next_object: 1,
            next_program: 1,
            next_map: 1,
            next_link: 1,
        }
    }

    /// Loads an object: its maps are made, its programs are checked, nothing is attached.
    ///
    /// # Errors
    /// What is wrong with the object.
    pub fn load(
        &mut self,
        source: &str,
        bytes: &[u8],
        configured: bool,
    ) -> Result<u32, SteeringError> {
        if self.objects.len() >= OBJECTS_MAX {
            return Err(SteeringError::TooManyObjects);
        }
        let object = Object::parse(bytes)
            .map_err(|error| SteeringError::BadObject(source.into(), error.to_string()))?;
        let options = LoadOptions { cpus: self.workers, reuse: HashMap::new() };
        let loaded = object
            .load(&options)
            .map_err(|error| SteeringError::Load(source.into(), error.to_string()))?;
        if self.engine == Engine::Jit {
            compile(source, &loaded)?;
        }
        let id = take(&mut self.next_object);
        let programs =
            loaded.programs.into_iter().map(|p| (take(&mut self.next_program), p)).collect();
        let maps = loaded.maps.into_iter().map(|m| (take(&mut self.next_map), m)).collect();
        let bytes = bytes.into();
        self.objects.push(LoadedObject {
            id,
            source: source.into(),
            programs,
            maps,
            configured,
            bytes,
        });
        Ok(id)
    }

    /// The configured object of that source and those very bytes, if there is one.
    pub fn same(&self, source: &str, bytes: &[u8]) -> Option<u32> {
        self.objects
            .iter()
            .find(|o| o.configured && o.source == source && *o.bytes == *bytes)
            .map(|object| object.id)
    }

    /// Forgets an object that nothing of is attached.
    ///
    /// # Errors
    /// When there is none, or it is in use.
    pub fn unload(&mut self, id: u32) -> Result<(), SteeringError> {
        let object = self.object(id)?;
        let programs: Vec<u32> = object.programs.iter().map(|&(id, _)| id).collect();
        if self.links.iter().any(|link| programs.contains(&link.program)) {
            return Err(SteeringError::Busy(id));
        }
        self.objects.retain(|object| object.id != id);
        Ok(())
    }

    /// All objects.
    pub fn objects(&self) -> &[LoadedObject] {
        &self.objects
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn object(&self, id: u32) -> Result<&LoadedObject, SteeringError> {
        self.objects.iter().find(|o| o.id == id).ok_or(SteeringError::UnknownObject(id))
    }

    /// The attached programs in order.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The order, as workers take it.
    pub fn attached(&self) -> Arc<ProgramList> {
        let attached = |link: &Link| Attached { link: link.id, program: link.code.clone() };
        Arc::new(ProgramList::new(self.links.iter().map(attached)))
    }

    /// A program by id, or by name where only one has it.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn program(&self, name: &str) -> Result<(u32, Arc<Program>), SteeringError> {
        let all = self.objects.iter().flat_map(|object| object.programs.iter());
        one_of(name, all, |program| program.name())
            .map_err(|several| match several {
                true => SteeringError::Ambiguous("program", name.into()),
                false => SteeringError::UnknownProgram(name.into()),
            })
            .cloned()
    }

    /// A program of one object by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn program_of(
        &self,
        object: u32,
        name: &str,
    ) -> Result<(u32, Arc<Program>), SteeringError> {
        let programs = &self.object(object)?.programs;
        let found = programs.iter().find(|(_, program)| program.name() == name);
        found.cloned().ok_or_else(|| SteeringError::UnknownProgram(name.into()))
    }

    /// A map by id, or by name where only one has it.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn map(&self, name: &str) -> Result<(u32, Arc<Map>), SteeringError> {
        let all = self.objects.iter().flat_map(|object| object.maps.iter());
        one_of(name, all, |map| &map.spec().name)
            .map_err(|several| match several {
                true => SteeringError::Ambiguous("map", name.into()),
                false => SteeringError::UnknownMap(name.into()),
            })
            .cloned()
    }

    /// A map of one object by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn map_of(&self, object: u32, name: &str) -> Result<Arc<Map>, SteeringError> {
        let maps = &self.object(object)?.maps;
        let found = maps.iter().find(|(_, map)| map.spec().name == name);
        found.map(|(_, map)| map.clone()).ok_or_else(|| SteeringError::UnknownMap(name.into()))
    }

    /// Puts a program at the end of the order. The workers are not told.
    ///
    /// # Errors
    /// When the order is full.
    pub fn attach(
        &mut self,
        program: (u32, Arc<Program>),
        configured: bool,
    ) -> Result<u64, SteeringError> {
        if self.links.len() >= PROGRAMS {
            return Err(SteeringError::TooManyLinks);
        }
        let id = take_link(&mut self.next_link);
        let (program, code) = program;
        self.links.push(Link { id, program, code, configured });
        Ok(id)
    }

    /// Takes a program out of the order. The workers are not told.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn detach(&mut self, link: u64) -> Result<(), SteeringError> {
        let before = self.links.len();
        self.links.retain(|other| other.id != link);
        match self.links.len() < before {
            true => Ok(()),
            false => Err(SteeringError::UnknownLink(link)),
        }
    }

    /// Makes the configured programs be these, in this order; a program that was attached keeps
    /// its link. What the API attached stays, after them.
    ///
    /// # Errors
    /// When they are too many together; nothing is changed then.
    pub fn reorder(&mut self, programs: Vec<(u32, Arc<Program>)>) -> Result<(), SteeringError> {
        let (mut old, manual): (Vec<Link>, Vec<Link>) =
            self.links.iter().cloned().partition(|link| link.configured);
        if programs.len() + manual.len() > PROGRAMS {
            return Err(SteeringError::TooManyLinks);
        }
        let mut links = Vec::with_capacity(programs.len() + manual.len());
        for (program, code) in programs {
            match old.iter().position(|link| link.program == program) {
                Some(place) => links.push(old.remove(place)),
                None => {
                    let id = take_link(&mut self.next_link);
                    links.push(Link { id, program, code, configured: true });
                }
            }
        }
        links.extend(manual);
        self.links = links;
        Ok(())
    }

    /// Unloads configured objects that are not among `kept` and that nothing of is attached.
    pub fn sweep(&mut self, kept: &[u32]) {
        let links = &self.links;
        self.objects.retain(|object| {
            let attached = links
                .iter()
                .any(|link| object.programs.iter().any(|&(program, _)| program == link.program));
            !object.configured || attached || kept.contains(&object.id)
        });
    }

    /// Takes a closed socket out of every map.
    pub fn forget(&self, socket: SocketId) {
        for (_, map) in self.objects.iter().flat_map(|object| object.maps.iter()) {
            map.remove_socket(socket);
        }
    }
}

/// Puts a value into a map.
///
/// # Errors
/// When key or value have the wrong form, or the map refuses.
pub fn update(map: &Map, key: &Literal, value: &Value, flags: u64) -> Result<(), SteeringError> {
    let spec = map.spec();
    let sockets = holds_sockets(map);
    let bytes = encode(map, "key", key, spec.key_size)?;
    let done = match value {
        Value::Socket(socket) if sockets => map.update_socket(&bytes, *socket, flags),
        Value::Literal(literal) if !sockets => {
            let value = encode(map, "value", literal, spec.value_size)?;
            map.update(&bytes, &value, flags)
        }
        Value::Socket(_) => return Err(wrong_kind(map, "it holds bytes: give a `value`")),
        Value::Literal(_) => {
            return Err(wrong_kind(map, "it holds sockets: give the name of a `socket`"));
        }
    };
    done.map_err(|errno| map_error(map, "update", key, errno))
}

/// Takes a key out of a map.
///
/// # Errors
/// When the key has the wrong form, or the map refuses.
pub fn delete(map: &Map, key: &Literal) -> Result<(), SteeringError> {
    let bytes = encode(map, "key", key, map.spec().key_size)?;
    map.delete(&bytes).map_err(|errno| map_error(map, "delete", key, errno))
}

/// Whether a map holds sockets rather than bytes.
pub fn holds_sockets(map: &Map) -> bool {
    matches!(map.spec().map_type, MapType::SockMap | MapType::SockHash)
}

/// The bytes of an object.
///
/// # Errors
/// When there is no such object, or it cannot be read.
pub fn read_object(source: &ObjectSource) -> Result<Vec<u8>, SteeringError> {
    match source {
        ObjectSource::Builtin(name) => weir_progs::by_name(name)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| SteeringError::UnknownBuiltin(name.clone())),
        ObjectSource::File(path) => {
            let unreadable = |error| SteeringError::Unreadable(source.to_string(), error);
            let size = std::fs::metadata(path).map_err(unreadable)?.len();
            if size > OBJECT_MAX as u64 {
                return Err(SteeringError::TooLarge(source.to_string(), size));
            }
            std::fs::read(path).map_err(unreadable)
        }
    }
}

fn encode(
    map: &Map,
    part: &'static str,
    literal: &Literal,
    size: u32,
) -> Result<Vec<u8>, SteeringError> {
    literal.encode(size as usize).map_err(|error| SteeringError::Literal {
        map: map.spec().name.clone(),
        part,
        error,
    })
}

fn wrong_kind(map: &Map, reason: &'static str) -> SteeringError {
    let spec = map.spec();
    SteeringError::Kind { map: spec.name.clone(), kind: spec.map_type, reason }
}

fn map_error(map: &Map, operation: &'static str, key: &Literal, errno: Errno) -> SteeringError {
    SteeringError::Map { map: map.spec().name.clone(), operation, key: key.to_string(), errno }
}

fn take(next: &mut u32) -> u32 {
    let id = *next;
    *next += 1;
    id
}

fn take_link(next: &mut u64) -> u64 {
    let id = *next;
    *next += 1;
    id
}

/// The one thing of that id, or else of that name; `Err(true)` if several have the name.
fn one_of<'a, T>(
    name: &str,
    all: impl Iterator<Item = &'a (u32, Arc<T>)>,
    name_of: impl Fn(&T) -> &str,
) -> Result<&'a (u32, Arc<T>), bool> {
    let id = name.parse::<u32>().ok();
    let mut found = None;
    for entry in all {
        if id == Some(entry.0) {
            return Ok(entry);
        }
        if name_of(&entry.1) == name {
            if found.is_some() {
                return Err(true);
            }
            found = Some(entry);
        }
    }
    found.ok_or(false)
}
