//! Whole objects, loaded and run: what programs see, what they select, how several combine.

mod host;

use std::sync::Arc;

use host::{World, run, udp4, v4, v6};
use weir_bpf::{
    LoadOptions, Loaded, Machine, Map, Object, Program, ProgramResult, SkLookupContext,
    SocketFacts, SocketId, Verdict, flags, run_sk_lookup,
};

const A: SocketId = SocketId(0);
const B: SocketId = SocketId(77);

fn load(bytes: &[u8]) -> Loaded {
    let options = LoadOptions { cpus: 2, ..LoadOptions::default() };
    Object::parse(bytes).unwrap().load(&options).unwrap()
}

fn map<'a>(loaded: &'a Loaded, name: &str) -> &'a Arc<Map> {
    loaded.maps.iter().find(|map| map.spec().name == name).unwrap()
}

fn programs(loaded: &Loaded, names: &[&str]) -> Vec<Arc<Program>> {
    let find = |name: &&str| loaded.programs.iter().find(|p| p.name() == *name).unwrap();
    names.iter().map(|name| Arc::clone(find(name))).collect()
}

fn world() -> World {
    let mut world = World::default();
    world.sockets.insert(A, udp4());
    world.sockets.insert(B, udp4());
    world
}

/// `lookup_assign` with A and B in its sockmap.
fn assign() -> Loaded {
    let loaded = load(weir_progs::LOOKUP_ASSIGN);
    let sockets = map(&loaded, "sockets");
    sockets.update_socket(&0_u32.to_le_bytes(), A, flags::ANY).unwrap();
    sockets.update_socket(&1_u32.to_le_bytes(), B, flags::ANY).unwrap();
    loaded
}

fn binding(prefix: u32, protocol: u16, port: u16, address: [u8; 16]) -> Vec<u8> {
    let mut key = prefix.to_le_bytes().to_vec();
    key.extend(protocol.to_le_bytes());
    key.extend(port.to_be_bytes());
    key.extend(address);
    key
}

fn mapped(a: u8, b: u8, c: u8, d: u8) -> [u8; 16] {
    std::net::Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets()
}

#[test]
fn steering_by_prefix_and_by_address() {
    let loaded = load(weir_progs::STEER);
    let (bindings, sockets) = (map(&loaded, "bindings"), map(&loaded, "sockets"));
    let web = binding(32 + 96 + 24, 17, 80, mapped(192, 0, 2, 0));
    let proxy = binding(32 + 128, 17, 0, mapped(198, 51, 100, 1));
    bindings.update(&web, &0_u32.to_le_bytes(), flags::ANY).unwrap();
    bindings.update(&proxy, &1_u32.to_le_bytes(), flags::ANY).unwrap();
    sockets.update_socket(&0_u32.to_le_bytes(), A, flags::ANY).unwrap();
    sockets.update_socket(&1_u32.to_le_bytes(), B, flags::ANY).unwrap();
    let steer = programs(&loaded, &["steer"]);
    let mut world = world();
    for (local, selected) in [
        ("192.0.2.200:80", Some(A)),
        ("192.0.2.200:81", None),
        ("192.0.3.1:80", None),
        ("198.51.100.1:1", Some(B)),
        ("198.51.100.1:65535", Some(B)),
        ("198.51.100.2:65535", None),
    ] {
        let (outcome, results) = run(&steer, &v4(local), &mut world);
        assert_eq!(outcome.selected, selected, "{local}");
        assert_eq!(outcome.verdict, Verdict::Pass);
        assert_eq!(results, [ProgramResult::Pass]);
    }
    // An IPv4 socket cannot have an IPv6 packet, and the program drops on the error.
    let six = binding(32 + 128, 17, 0, std::net::Ipv6Addr::LOCALHOST.octets());
    bindings.update(&six, &0_u32.to_le_bytes(), flags::ANY).unwrap();
    assert_eq!(run(&steer, &v6("[::1]:5"), &mut world).0.verdict, Verdict::Drop);
    sockets.remove_socket(A);
    assert_eq!(run(&steer, &v4("192.0.2.200:80"), &mut world).0.selected, None);
}

#[test]
fn several_programs_combine_as_in_the_kernel() {
    let loaded = assign();
    let mut world = world();
    for (names, verdict, selected) in [
        (&["pass"][..], Verdict::Pass, None),
        (&["drop"], Verdict::Drop, None),
        (&["pass", "drop"], Verdict::Drop, None),
        (&["first", "drop"], Verdict::Pass, Some(A)),
        (&["drop", "first"], Verdict::Pass, Some(A)),
        // The second sees the first's selection, and fails with EEXIST, which drops.
        (&["first", "second"], Verdict::Pass, Some(A)),
        (&["first", "replace"], Verdict::Pass, Some(B)),
        (&["replace", "drop", "pass"], Verdict::Pass, Some(B)),
        (&["twice"], Verdict::Pass, Some(A)),
        (&["reads_socket"], Verdict::Pass, Some(A)),
        (&[], Verdict::Pass, None),
    ] {
        let outcome = run(&programs(&loaded, names), &v4("192.0.2.1:80"), &mut world).0;
        assert_eq!((outcome.verdict, outcome.selected), (verdict, selected), "{names:?}");
    }
    // A program that takes the selection back does not take back what one before it committed.
    let reset = v4("192.0.2.1:9");
    let outcome = run(&programs(&loaded, &["reset"]), &reset, &mut world).0;
    assert_eq!((outcome.verdict, outcome.selected), (Verdict::Pass, None));
    let (outcome, _) = run(&programs(&loaded, &["no_reuseport"]), &reset, &mut world);
    assert!(outcome.no_reuseport && outcome.selected == Some(A));
}

#[test]
fn assign_refuses_in_the_kernels_order() {
    let loaded = assign();
    let first = programs(&loaded, &["first"]);
    let bss = map(&loaded, ".bss");
    let good = udp4();
    let v6_only = SocketFacts { family: 10, v6only: true, ..good };
    for (facts, context, errno) in [
        (good, v4("192.0.2.1:80"), 0),
        (SocketFacts { refcounted: true, protocol: 6, ..good }, v4("192.0.2.1:80"), -94),
        (SocketFacts { state: 1, ..good }, v4("192.0.2.1:80"), -94),
        (SocketFacts { protocol: 6, state: 7, ..good }, v4("192.0.2.1:80"), -94),
        (SocketFacts { protocol: 6, state: 10, family: 10, ..good }, v4("192.0.2.1:80"), -91),
        (good, v6("[::1]:80"), -97),
        (v6_only, v4("192.0.2.1:80"), -97),
        (SocketFacts { v6only: false, ..v6_only }, v4("192.0.2.1:80"), 0),
        (v6_only, v6("[::1]:80"), 0),
    ] {
        let mut world = world();
        world.sockets.insert(A, facts);
        let outcome = run(&first, &context, &mut world).0;
        assert_eq!(outcome.selected.is_some(), errno == 0, "{facts:?}");
        let value = bss.lookup(&0_u32.to_le_bytes()).unwrap();
        let words: Vec<i64> =
            value.chunks_exact(8).map(|w| i64::from_le_bytes(w.try_into().unwrap())).collect();
        assert!(errno == 0 || words.contains(&errno), "{facts:?}: {words:?}");
    }
}

#[test]
fn the_context_is_what_the_packet_says() {
    let loaded = assign();
    let reads = programs(&loaded, &["reads_context"]);
    let mut world = world();
    let (outcome, results) = run(&reads, &v6("[2001:db8::1]:8080"), &mut world);
    assert_eq!((outcome.verdict, results), (Verdict::Pass, vec![ProgramResult::Pass]));
    let seen = map(&loaded, "last").lookup(&[0; 4]).unwrap();
    let word = |at: usize| u32::from_le_bytes(seen[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 1, "runs");
    assert_eq!((word(8), word(12)), (10, 17), "family, protocol");
    assert_eq!(seen[16..32], "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    assert_eq!(seen[32..48], "2001:db8::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
    assert_eq!((word(48), word(52), word(56)), (8080, 4321, 3), "ports, device");
    assert_eq!(word(60), 10 | 17 << 8 | 8080 << 16, "narrow reads");
    let context = v4("198.51.100.7:53");
    assert_eq!(context.local(), "198.51.100.7:53".parse().unwrap());
    assert_eq!(context.remote(), "192.0.2.9:4321".parse().unwrap());
}

#[test]
fn programs_count_in_their_own_cpus_values() {
    let loaded = assign();
    let counts = programs(&loaded, &["counts"]);
    let mut world = world();
    for cpu in [0, 1, 1] {
        world.cpu = cpu;
        run(&counts, &v4("192.0.2.1:80"), &mut world);
    }
    let runs = map(&loaded, "runs").lookup(&1_u32.to_le_bytes()).unwrap();
    assert_eq!(runs, [1_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat());
    let by_port = map(&loaded, "runs_by_port");
    assert_eq!(by_port.lookup(&80_u32.to_le_bytes()).unwrap(), 3_u64.to_le_bytes());
}

#[test]
fn global_data_is_set_and_read() {
    let loaded = load(weir_progs::LOOKUP_DROP);
    let drops = programs(&loaded, &["lookup_drop"]);
    let mut world = world();
    assert_eq!(run(&drops, &v4("192.0.2.1:7"), &mut world).0.verdict, Verdict::Drop);
    assert_eq!(run(&drops, &v4("192.0.2.1:8"), &mut world).0.verdict, Verdict::Pass);
    let data = map(&loaded, ".data");
    let mut value = data.lookup(&[0; 4]).unwrap();
    value[..2].copy_from_slice(&8_u16.to_le_bytes());
    data.update(&[0; 4], &value, flags::ANY).unwrap();
    assert_eq!(run(&drops, &v4("192.0.2.1:8"), &mut world).0.verdict, Verdict::Drop);
    let rodata = map(&loaded, ".rodata");
    let frozen = rodata.update(&[0; 4], &rodata.lookup(&[0; 4]).unwrap(), flags::ANY);
    assert_eq!(frozen, Err(weir_bpf::Errno::EPERM));
}

#[test]
fn maps_are_reused_by_name() {
    let first = assign();
    let mut options = LoadOptions { cpus: 2, ..LoadOptions::default() };
    options.reuse.insert("sockets".to_owned(), Arc::clone(map(&first, "sockets")));
    let object = Object::parse(weir_progs::LOOKUP_ASSIGN).unwrap();
    let second = object.load(&options).unwrap();
    assert_eq!(map(&second, "sockets").len(), 2);
    options.reuse.insert("last".to_owned(), Arc::clone(map(&first, "runs")));
    assert!(matches!(object.load(&options), Err(weir_bpf::LoadError::Reuse { .. })));
}

/// Prints what a steering run costs: `cargo test --release -p weir-bpf -- --ignored --nocapture`.
#[test]
#[ignore = "prints a time, checks nothing that could fail for a slow machine"]
fn time_of_a_steering_run() {
    let loaded = load(weir_progs::STEER);
    let (bindings, sockets) = (map(&loaded, "bindings"), map(&loaded, "sockets"));
    for i in 0..200_u8 {
        let key = binding(32 + 96 + 24, 17, 80, mapped(10, i, i.wrapping_mul(37), 0));
        bindings.update(&key, &0_u32.to_le_bytes(), flags::ANY).unwrap();
    }
    sockets.update_socket(&[0; 4], A, flags::ANY).unwrap();
    let steer = programs(&loaded, &["steer"]);
    let mut world = world();
    let mut machine = Machine::new();
    let time = |name: &str,
                programs: &[Arc<Program>],
                context: SkLookupContext,
                world: &mut World,
                machine: &mut Machine| {
        const RUNS: u64 = 2_000_000;
        let start = cpu_ns();
        let mut hits = 0;
        for _ in 0..RUNS {
            let mut each = |_, _| {};
            let context = &mut std::hint::black_box(context);
            let outcome = run_sk_lookup(programs, context, world, machine, &mut each);
            hits += u64::from(outcome.selected.is_some());
        }
        println!("{name}: {} ns a run, {hits} hits", (cpu_ns() - start) / RUNS);
    };
    time("hit", &steer, v4("10.100.116.7:80"), &mut world, &mut machine);
    time("miss", &steer, v4("11.0.0.1:80"), &mut world, &mut machine);
    let pass = programs(&assign(), &["pass"]);
    time("pass", &pass, v4("11.0.0.1:80"), &mut world, &mut machine);
    // A loop of 4 instructions, 10,000 times round.
    let insns = [(0xb7, 1, 0, 0, 10_000), (0xb7, 0, 0, 0, 0)]
        .into_iter()
        .chain([(0x0f, 0, 1, 0, 0), (0x67, 0, 0, 0, 1), (0x07, 1, 0, 0, -1), (0x55, 1, 0, -4, 0)])
        .chain([(0xb7, 0, 0, 0, 1), (0x95, 0, 0, 0, 0)]);
    let spin = host::raw(insns.map(|(o, d, s, f, i)| host::insn(o, d, s, f, i)).collect()).unwrap();
    let start = cpu_ns();
    for _ in 0..200 {
        run(&[Arc::clone(&spin)], &v4("11.0.0.1:80"), &mut world);
    }
    println!("{} ps an instruction", (cpu_ns() - start) * 1_000 / (200 * 40_000));
}

/// Time that this thread spent on a CPU, nanoseconds.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}
