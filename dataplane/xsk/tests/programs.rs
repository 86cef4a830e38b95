//! Our programs in the real kernel.

mod support;

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use support::bed;
use weir_lab::BedOptions;
use weir_xsk::kernel::{LoadError, Map, MapSpec, Object, OpenObject, possible_cpus};

#[test]
fn the_kernel_loads_every_object() {
    if bed(BedOptions::default()).is_none() {
        return;
    }
    for (name, elf) in weir_progs::ALL {
        Object::load(name, elf).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// The key of steer.bpf.c's trie.
fn binding(length: u32, port: u16, address: [u8; 4]) -> Vec<u8> {
    let mut key = (32 + 96 + length).to_ne_bytes().to_vec();
    key.extend(17u16.to_ne_bytes());
    key.extend(port.to_be_bytes());
    key.extend([0; 10]);
    key.extend([0xff, 0xff]);
    key.extend(address);
    key
}

#[test]
fn steers_in_the_kernel() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    // The prefixes must be local for the kernel to look for a socket.
    for prefix in ["192.0.2.0/24", "198.51.100.1/32"] {
        let route = ["route", "add", "local", prefix, "dev", "lo"];
        assert!(bed.weir().command("ip").args(route).status().unwrap().success());
    }
    let object = Object::load("steer", weir_progs::STEER).unwrap();
    let (bindings, sockets) = (object.map("bindings").unwrap(), object.map("sockets").unwrap());
    let [web, proxy] = ["10.77.0.1:8001", "10.77.0.1:8002"].map(|address| {
        let socket = bed.weir().enter(|| UdpSocket::bind(address)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    });
    for (index, socket) in [&web, &proxy].into_iter().enumerate() {
        let value = (socket.as_raw_fd() as u64).to_ne_bytes();
        sockets.update(&(index as u32).to_ne_bytes(), &value, 0).unwrap();
    }
    bindings.update(&binding(24, 80, [192, 0, 2, 0]), &0u32.to_ne_bytes(), 0).unwrap();
    bindings.update(&binding(32, 0, [198, 51, 100, 1]), &1u32.to_ne_bytes(), 0).unwrap();
    let program = object.program("steer").unwrap();
    let link = bed.weir().enter(|| {
        let namespace = File::open("/proc/thread-self/ns/net").unwrap();
        program.attach_netns(namespace.as_fd()).unwrap()
    });
    let client = bed.peer().enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    let send = |to: &str, text: &[u8]| client.send_to(text, to).unwrap();
    let mut heard = [0; 16];
    send("192.0.2.77:80", b"to web");
    assert_eq!(web.recv(&mut heard).unwrap(), 6);
    send("198.51.100.1:12345", b"to proxy");
    assert_eq!(proxy.recv(&mut heard).unwrap(), 8);
    drop(link);
    client.set_nonblocking(true).unwrap();
    send("192.0.2.77:80", b"to nobody");
    send("10.77.0.1:8001", b"direct");
    assert_eq!(web.recv(&mut heard).unwrap(), 6);
    assert_eq!(&heard[..6], b"direct");
}

#[test]
fn globals_are_set_before_and_read_after_the_load() {
    if bed(BedOptions::default()).is_none() {
        return;
    }
    let mut object = OpenObject::open("lookup_drop", weir_progs::LOOKUP_DROP).unwrap();
    object.set_global("fixed_port", &99u16.to_ne_bytes()).unwrap();
    let wrong_size = object.set_global("fixed_port", &[0; 4]);
    assert!(matches!(wrong_size, Err(LoadError::Global { size: 4, .. })), "{wrong_size:?}");
    assert!(object.set_global("nothing", &[0; 4]).is_err());
    let mut object = object.load().unwrap();
    assert_eq!(object.global("fixed_port").unwrap(), 99u16.to_ne_bytes());
    assert_eq!(object.global("port").unwrap(), 7u16.to_ne_bytes());
    object.set_global("port", &8u16.to_ne_bytes()).unwrap();
    assert_eq!(object.global("port").unwrap(), 8u16.to_ne_bytes());
    assert!(object.set_global("fixed_port", &[0; 2]).is_err(), "constants are frozen");
    assert!(matches!(object.map("nothing"), Err(LoadError::Missing { .. })));
    assert!(matches!(object.program("nothing"), Err(LoadError::Missing { .. })));
}

#[test]
fn what_is_no_object_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", &weir_progs::STEER[..200]] {
        assert!(matches!(Object::load("bad", bytes), Err(LoadError::Open { .. })));
    }
}

#[test]
fn maps_answer_with_the_kernel_s_errno() {
    if bed(BedOptions::default()).is_none() {
        return;
    }
    let spec = MapSpec {
        map_type: libbpf_sys::BPF_MAP_TYPE_HASH,
        name: "test".into(),
        key_size: 4,
        value_size: 8,
        max_entries: 2,
        flags: 0,
    };
    let code = |error: io::Error| error.raw_os_error();
    let map = Map::create(&spec).unwrap();
    assert_eq!(map.lookup(&[0; 4]).map_err(code), Err(Some(libc::ENOENT)));
    assert_eq!(map.next_key(None).map_err(code), Err(Some(libc::ENOENT)));
    map.update(&[1; 4], &[5; 8], 0).unwrap();
    assert_eq!(map.lookup(&[1; 4]).unwrap(), [5; 8]);
    assert_eq!(map.next_key(None).unwrap(), [1; 4]);
    let no_exist = libbpf_sys::BPF_NOEXIST.into();
    assert_eq!(map.update(&[1; 4], &[6; 8], no_exist).map_err(code), Err(Some(libc::EEXIST)));
    map.update(&[2; 4], &[6; 8], 0).unwrap();
    assert_eq!(map.update(&[3; 4], &[6; 8], 0).map_err(code), Err(Some(libc::E2BIG)));
    map.delete(&[1; 4]).unwrap();
    assert_eq!(map.delete(&[1; 4]).map_err(code), Err(Some(libc::ENOENT)));
    let bad = MapSpec { key_size: 0, ..spec.clone() };
    assert_eq!(Map::create(&bad).map(drop).map_err(code), Err(Some(libc::EINVAL)));
    let per_cpu =
        MapSpec { map_type: libbpf_sys::BPF_MAP_TYPE_PERCPU_ARRAY, value_size: 4, ..spec };
    let per_cpu = Map::create(&per_cpu).unwrap();
    assert_eq!(per_cpu.lookup(&[0; 4]).unwrap().len(), 8 * possible_cpus());
}
