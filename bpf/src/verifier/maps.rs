//! Which helpers work on which maps (`check_map_func_compatibility`).

use super::program::MapFacts;
use super::refusal::{Step, refuse};
use crate::helper::HelperId;
use crate::map::flags;

pub(crate) fn holds_sockets(map_type: u32) -> bool {
    matches!(map_type, MapFacts::SOCKMAP | MapFacts::SOCKHASH)
}

/// Maps that programs may not change.
pub(crate) fn check_writes(map: Option<&MapFacts<'_>>, helper: u32) -> Step {
    let Some(map) = map else { return Ok(()) };
    if map.flags & flags::RDONLY_PROG != 0 && matches!(helper, 2 | 3 | 87 | 88) {
        refuse!(EACCES, "write into map forbidden");
    }
    Ok(())
}

/// A constant index within an array is always found.
pub(crate) fn is_always_found(map: &MapFacts<'_>, helper: u32, key: Option<u32>) -> bool {
    let array = matches!(map.map_type, MapFacts::ARRAY | MapFacts::PERCPU_ARRAY);
    helper == 1 && array && key.is_some_and(|key| key < map.max_entries)
}

pub(crate) fn check_compatible(map: Option<&MapFacts<'_>>, helper: u32) -> Step {
    let Some(map) = map else { return Ok(()) };
    if is_for_map(map.map_type, helper) && is_for_helper(map.map_type, helper) {
        return Ok(());
    }
    let name = HelperId(helper).name();
    refuse!(EINVAL, "cannot pass map_type {} into func bpf_{name}#{helper}", map.map_type);
}

/// May the map be given to this helper, from the map's side?
fn is_for_map(map_type: u32, helper: u32) -> bool {
    match map_type {
        MapFacts::PROG_ARRAY => helper == 12,
        MapFacts::PERF_EVENT_ARRAY => matches!(helper, 22 | 25 | 55 | 111 | 121),
        MapFacts::RINGBUF => matches!(helper, 130 | 131 | 134 | 198..=200),
        MapFacts::USER_RINGBUF => helper == 209,
        MapFacts::STACK_TRACE => helper == 27,
        MapFacts::CGROUP_STORAGE | MapFacts::PERCPU_CGROUP_STORAGE => helper == 81,
        MapFacts::DEVMAP | MapFacts::DEVMAP_HASH | MapFacts::XSKMAP => matches!(helper, 1 | 51),
        MapFacts::CPUMAP => helper == 51,
        MapFacts::ARRAY_OF_MAPS | MapFacts::HASH_OF_MAPS => helper == 1,
        MapFacts::SOCKMAP => matches!(helper, 1 | 2 | 3 | 52 | 53 | 60 | 82),
        MapFacts::SOCKHASH => matches!(helper, 1 | 2 | 3 | 70 | 71 | 72 | 82),
        MapFacts::REUSEPORT_SOCKARRAY => helper == 82,
        MapFacts::QUEUE | MapFacts::STACK => matches!(helper, 87..=89),
        MapFacts::SK_STORAGE => matches!(helper, 107 | 108),
        MapFacts::BLOOM_FILTER => matches!(helper, 87 | 89),
        _ => true,
    }
}

/// The same from the helper's side.
fn is_for_helper(map_type: u32, helper: u32) -> bool {
    let one_of = |types: &[u32]| types.contains(&map_type);
    match helper {
        12 => map_type == MapFacts::PROG_ARRAY,
        22 | 25 | 55 | 111 | 121 => map_type == MapFacts::PERF_EVENT_ARRAY,
        130 | 131 | 134 | 198..=200 => map_type == MapFacts::RINGBUF,
        209 => map_type == MapFacts::USER_RINGBUF,
        27 => map_type == MapFacts::STACK_TRACE,
        51 => {
            one_of(&[MapFacts::DEVMAP, MapFacts::DEVMAP_HASH, MapFacts::CPUMAP, MapFacts::XSKMAP])
        }
        87 => one_of(&[MapFacts::QUEUE, MapFacts::STACK, MapFacts::BLOOM_FILTER]),
        88 => one_of(&[MapFacts::QUEUE, MapFacts::STACK]),
        89 => one_of(&[MapFacts::QUEUE, MapFacts::STACK, MapFacts::BLOOM_FILTER]),
        195 => one_of(&[MapFacts::PERCPU_ARRAY, MapFacts::PERCPU_HASH, MapFacts::LRU_PERCPU_HASH]),
        164 => one_of(&[
            MapFacts::HASH,
            MapFacts::ARRAY,
            MapFacts::PERCPU_HASH,
            MapFacts::PERCPU_ARRAY,
            MapFacts::LRU_HASH,
            MapFacts::LRU_PERCPU_HASH,
        ]),
        _ => true,
    }
}

/// May a 64-bit immediate load name the first value of such a map?
pub(crate) fn has_direct_values(map_type: u32) -> bool {
    map_type == MapFacts::ARRAY
}
