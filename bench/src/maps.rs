//! Maps beside the kernel's, with the same keys.
//!
//! Both sides loop over random keys that are there, and read what they find; the time of the loop
//! without the operation is taken off, and each side's least time counts: whatever else runs on the
//! machine only adds. Both clocks stand still while another has the core. Weir's lookups are those that compiled programs call (arrays
//! are reached without a call, as the kernel's compiler does too).

mod kernel;

use std::hint::black_box;

use anyhow::{Context, ensure};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use weir_bpf::{Map, MapSpec, MapType, flags};

use kernel::{Loop, PER_RUN};

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
const INCREMENT: u64 = 0x3c6e_f35f;
/// Odd: different indices are different addresses.
const SPREAD: u32 = 0x9e37_79b1;
/// Operations between two looks at the clock.
const ROUND: u64 = 200_000;
/// Nanoseconds: what is below cannot be told from the loop, whose own parts overlap.
const FLOOR: f64 = 1.0;

/// Options of `weir-bench maps`.
#[derive(clap::Args)]
pub struct Arguments {
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// How many entries the maps have.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    entries: Vec<u32>,
    /// How many threads work on a map at once.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Only this map.
    #[arg(long)]
    only: Option<String>,
    /// How often each side is measured, by turns; the least time counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// What is measured: a type of map with a size of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Array,
    PerCpuArray,
    Hash(u32),
    PerCpuHash,
    LruHash,
    LruPerCpuHash,
    Lpm,
    Bloom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Empty,
    Lookup,
    Update,
    /// A deletion, and the insertion that makes the next one possible.
    Delete,
}

#[derive(Serialize)]
struct Row {
    map: String,
    op: &'static str,
    entries: u32,
    threads: usize,
    kernel_ns: f64,
    weir_ns: f64,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    lookup_geomean_over_kernel: f64,
    lookup_worst_over_kernel: f64,
}

const KINDS: &[(&str, Kind)] = &[
    ("array", Kind::Array),
    ("percpu_array", Kind::PerCpuArray),
    ("hash_4", Kind::Hash(4)),
    ("hash_8", Kind::Hash(8)),
    ("hash_16", Kind::Hash(16)),
    ("hash_32", Kind::Hash(32)),
    ("percpu_hash", Kind::PerCpuHash),
    ("lru_hash", Kind::LruHash),
    ("lru_percpu_hash", Kind::LruPerCpuHash),
    ("lpm_trie", Kind::Lpm),
    ("bloom_filter", Kind::Bloom),
];

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (name, kind) in KINDS {
        if arguments.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        for entries in &arguments.entries {
            let pair = Pair::new(*kind, *entries).with_context(|| format!("{name} {entries}"))?;
            for threads in &arguments.threads {
                for (op, operation) in kind.operations() {
                    let (kernel_ns, weir_ns) =
                        pair.measure(*operation, *threads, arguments.rounds)?;
                    let row = Row {
                        map: (*name).to_owned(),
                        op,
                        entries: *entries,
                        threads: *threads,
                        kernel_ns,
                        weir_ns,
                    };
                    if !arguments.json {
                        println!(
                            "{name:16} {op:6} {entries:8} {threads} kernel {kernel_ns:7.1} ns  weir {weir_ns:7.1} ns  {:.2}",
                            weir_ns / kernel_ns
                        );
                    }
                    rows.push(row);
                }
            }
        }
    }
    let ratios: Vec<f64> = rows
        .iter()
        .filter(|row| row.op == "lookup")
        .map(|row| row.weir_ns / row.kernel_ns)
        .collect();
    ensure!(!ratios.is_empty(), "no such map");
    let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64;
    let report = Report {
        rows,
        lookup_geomean_over_kernel: mean.exp(),
        lookup_worst_over_kernel: ratios.iter().copied().fold(0.0, f64::max),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "lookups over the kernel's: {:.3} in the geometric mean, {:.3} at worst",
            report.lookup_geomean_over_kernel, report.lookup_worst_over_kernel
        );
    }
    Ok(())
}

impl Kind {
    fn spec(self, entries: u32) -> MapSpec {
        let (map_type, key, value, flags) = match self {
            Kind::Array => (MapType::Array, 4, 8, 0),
            Kind::PerCpuArray => (MapType::PerCpuArray, 4, 8, 0),
            Kind::Hash(key) => (MapType::Hash, key, 8, 0),
            Kind::PerCpuHash => (MapType::PerCpuHash, 8, 8, 0),
            Kind::LruHash => (MapType::LruHash, 8, 8, 0),
            Kind::LruPerCpuHash => (MapType::LruPerCpuHash, 8, 8, 0),
            Kind::Lpm => (MapType::LpmTrie, 8, 8, flags::NO_PREALLOC),
            Kind::Bloom => (MapType::BloomFilter, 0, 8, 0),
        };
        // The kernel evicts before a map is full: have room, so that both hold all keys.
        let evicts = matches!(self, Kind::LruHash | Kind::LruPerCpuHash);
        let entries = match self {
            _ if evicts => entries + entries / 4 + 4096,
            // Updates put whole addresses beside the prefixes.
            Kind::Lpm => entries * 2,
            _ => entries,
        };
        MapSpec::new("bench", map_type, key, value, entries).with_flags(flags)
    }

    fn operations(self) -> &'static [(&'static str, Operation)] {
        let all = &[
            ("lookup", Operation::Lookup),
            ("update", Operation::Update),
            ("delete", Operation::Delete),
        ];
        match self {
            Kind::Array | Kind::PerCpuArray | Kind::Bloom => &all[..2],
            _ => all,
        }
    }

    /// A Bloom filter has values, of this size, where others have keys.
    fn bloom_size(self) -> u32 {
        if self == Kind::Bloom { 8 } else { 0 }
    }

    /// The key of an index, as programs make it. How many bytes of it are the key is the map's.
    #[inline(always)]
    fn key(self, index: u64) -> [u64; 4] {
        match self {
            Kind::Lpm => {
                let address = (index as u32).wrapping_mul(SPREAD).swap_bytes();
                [u64::from(address) << 32 | 32, 0, 0, 0]
            }
            _ => [index; 4],
        }
    }

    /// The key that an index is put in with: of a trie, a prefix as long as they are on the Internet,
    /// most of them of 24 bits.
    fn entry(self, index: u32) -> [u64; 4] {
        let key = self.key(index.into());
        if self != Kind::Lpm {
            return key;
        }
        let length = match index % 16 {
            0..=8 => 24,
            rest => rest + 7,
        };
        [key[0] >> 32 << 32 | u64::from(length), 0, 0, 0]
    }
}

/// The same map twice.
struct Pair {
    kind: Kind,
    entries: u32,
    kernel: weir_xsk::kernel::Map,
    weir: Map,
}

impl Pair {
    fn new(kind: Kind, entries: u32) -> anyhow::Result<Pair> {
        let cpus = weir_xsk::kernel::possible_cpus();
        let kernel = kernel::map(kind, entries)?;
        let weir = Map::create(&kind.spec(entries), cpus).map_err(anyhow::Error::from)?;
        for index in 0..entries {
            let words = kind.entry(index);
            let bytes = bytes(&words);
            let key = &bytes[..kernel.key_size()];
            let value: Vec<u8> = u64::from(index)
                .to_le_bytes()
                .into_iter()
                .cycle()
                .take(kernel.value_size())
                .collect();
            if kind != Kind::Bloom {
                kernel.update(key, &value, 0)?;
            }
            weir.update(key, &value, 0)?;
        }
        if kind == Kind::Bloom {
            // The kernel takes no key at all, which `Map::update` cannot say.
            let fill = Loop::load(kind, Operation::Update, entries, &kernel)?;
            fill.run(entries.div_ceil(PER_RUN as u32) * 4)?;
        }
        Ok(Pair { kind, entries, kernel, weir })
    }

    /// Nanoseconds an operation: the kernel's and ours, by turns.
    fn measure(
        &self,
        operation: Operation,
        threads: usize,
        rounds: usize,
    ) -> anyhow::Result<(f64, f64)> {
        let load = |operation| Loop::load(self.kind, operation, self.entries, &self.kernel);
        let (empty, full) = (load(Operation::Empty)?, load(operation)?);
        let runs = (ROUND / PER_RUN) as u32;
        let (mut kernel, mut weir) = (Vec::new(), Vec::new());
        for round in 0..rounds as u64 {
            let base = on_threads(threads, |_| Ok(empty.run(runs)?))?;
            kernel.push((base, on_threads(threads, |_| Ok(full.run(runs)?))?));
            let seed = |thread: usize| round << 32 | thread as u64;
            let base = on_threads(threads, |thread| self.weir(Operation::Empty, seed(thread)))?;
            weir.push((base, on_threads(threads, |thread| self.weir(operation, seed(thread)))?));
        }
        Ok((least(&kernel), least(&weir)))
    }

    /// Nanoseconds an operation of ours.
    fn weir(&self, operation: Operation, seed: u64) -> anyhow::Result<f64> {
        let _pinned = weir_bpf::epoch::pin();
        let (kind, entries) = (self.kind, u64::from(self.entries));
        let mut state = seed.wrapping_mul(MULTIPLIER) ^ 0x5555;
        let mut next = || {
            state = state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
            kind.key(((state >> 32) * entries) >> 32)
        };
        let size = self.weir.spec().key_size as usize;
        let begun = cpu_time()?;
        match operation {
            Operation::Empty => (0..ROUND).for_each(|_| _ = black_box(next())),
            Operation::Lookup => self.lookups(next),
            _ => {
                let value = vec![1; self.kernel.value_size()];
                for _ in 0..ROUND {
                    let words = next();
                    let key = &bytes(&words)[..size];
                    if operation == Operation::Delete {
                        // Another thread may have been there first.
                        _ = self.weir.delete(key);
                    }
                    match kind {
                        Kind::Bloom => self.weir.update(&[], &bytes(&words)[..8], 0)?,
                        _ => self.weir.update(key, &value, 0)?,
                    }
                }
            }
        }
        Ok((cpu_time()? - begun) / ROUND as f64)
    }

    fn lookups(&self, mut next: impl FnMut() -> [u64; 4]) {
        let mut sum = 0_u64;
        if let Some(array) = self.weir.array_layout() {
            for _ in 0..ROUND {
                let index = black_box(next())[0] as u32;
                if index < array.entries {
                    let at = array.base.wrapping_add(index as usize * array.stride);
                    // SAFETY: the index is within the array, and only this bench has it.
                    sum = sum.wrapping_add(unsafe { at.cast::<u64>().read_volatile() });
                }
            }
        } else if let Some(lookup) = self.weir.native_lookup() {
            for _ in 0..ROUND {
                let key = black_box(next());
                // SAFETY: the map is live, the key has 32 bytes, more than the map's keys.
                let found = unsafe { lookup(&raw const self.weir, key.as_ptr().cast(), 0) };
                if !found.is_null() {
                    // SAFETY: a value of eight bytes, live as long as the map.
                    sum = sum.wrapping_add(unsafe { found.cast::<u64>().read_volatile() });
                }
            }
        } else {
            for _ in 0..ROUND {
                let mut value = black_box(next())[0].to_le_bytes();
                sum += u64::from(self.weir.peek(&mut value).is_ok());
            }
        }
        black_box(sum);
    }
}

/// The mean of what so many threads measure at once, each on a core of its own.
fn on_threads(
    threads: usize,
    run: impl Fn(usize) -> anyhow::Result<f64> + Sync,
) -> anyhow::Result<f64> {
    let results: Vec<anyhow::Result<f64>> = std::thread::scope(|scope| {
        let begin = |thread| {
            let run = &run;
            scope.spawn(move || {
                core_affinity::set_for_current(core_affinity::CoreId { id: thread });
                run(thread)
            })
        };
        let handles: Vec<_> = (0..threads).map(begin).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        handles.into_iter().map(join).collect()
    });
    let mut sum = 0.0;
    for result in results {
        sum += result?;
    }
    Ok(sum / threads as f64)
}

/// The least time with the operation, without the least of the loop alone.
fn least(rounds: &[(f64, f64)]) -> f64 {
    let least = |of: fn(&(f64, f64)) -> f64| rounds.iter().map(of).fold(f64::INFINITY, f64::min);
    (least(|(_, full)| *full) - least(|(base, _)| *base)).max(FLOOR)
}

/// Nanoseconds of this thread on a core.
fn cpu_time() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

#[inline(always)]
fn bytes(words: &[u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
