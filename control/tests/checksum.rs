//! Unfinished checksums (CHECKSUM_PARTIAL over veth): the log names the peer and the command that
//! mends it, and the command does.

mod support;

use std::time::Duration;

use support::peer::{DEVICE, bed, binding, client, echoes, eventually, output, socket};
use support::{Running, privileged};
use weir_lab::Bed;

fn config() -> String {
    [
        DEVICE.into(),
        binding("192.0.2.0/24", "\"all\""),
        binding("2001:db8::/64", "\"all\""),
        socket("echo", "[::]:7", "echo"),
    ]
    .concat()
}

#[test]
fn unfinished_checksums_are_named_with_their_remedy() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    bed.peer().offload(Bed::PEER_DEVICE, "tx", true).unwrap();
    let weir = Running::start(&bed, &config());
    let clients = [client(&bed, "192.0.2.1:7"), client(&bed, "[2001:db8::1]:7")];
    for client in &clients {
        client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        for number in 0..20u8 {
            assert!(!echoes(client, &[number; 50]), "a bad checksum was answered");
        }
    }
    let stats = weir.stats();
    assert_eq!((stats.total.received, stats.total.dropped), (40, 40), "{stats:?}");
    assert!(stats.total.drops.keys().all(|reason| reason.contains("checksum")), "{stats:?}");
    for peer in [Bed::PEER_V4.to_string(), Bed::PEER_V6.to_string()] {
        let words = format!("packets in a row from {peer} carry checksums");
        eventually("the peer is named", || weir.log().contains(&words));
    }

    // The very command that the log gives, with the interface's name put in.
    let log = weir.log();
    let line = log.lines().find(|line| line.contains("CHECKSUM_PARTIAL")).unwrap();
    let command = &line[line.find("ethtool -K").expect("the log gives a command")..];
    let words: Vec<&str> = command.split_whitespace().take(5).collect();
    let words = words.iter().map(|word| word.replace("INTERFACE", Bed::PEER_DEVICE));
    let words: Vec<String> = words.collect();
    assert_eq!(words.join(" "), format!("ethtool -K {} tx off", Bed::PEER_DEVICE));
    output(bed.peer().command(&words[0]).args(&words[1..]));
    for client in &clients {
        client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        assert!(echoes(client, b"finished"), "{}", weir.log());
    }
    assert_eq!(weir.stats().total.answered, 2);
    assert!(weir.terminate().status.success());
}
