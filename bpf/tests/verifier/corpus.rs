//! Small programs, each with one thing right or wrong, and what must be said of it. The kernel is
//! asked as well where it is there.

use weir_bpf::verifier::VerifyOptions;

use crate::case;
use crate::kernel::{self, Maps};

const FILES: [(&str, &str); 6] = [
    ("flow", include_str!("flow.txt")),
    ("functions", include_str!("functions.txt")),
    ("maps", include_str!("maps.txt")),
    ("pointers", include_str!("pointers.txt")),
    ("references", include_str!("references.txt")),
    ("stack", include_str!("stack.txt")),
];

#[test]
fn every_case_has_its_verdict_and_its_words() {
    let options = VerifyOptions { log_level: 1, ..VerifyOptions::default() };
    let mut count = 0;
    for (file, text) in FILES {
        for case in case::parse(text) {
            count += 1;
            let verdict = case.verify(&options).unwrap();
            match (&verdict, case.verdict) {
                (Ok(_), 0) => {}
                (Ok(_), _) => panic!("{file}: {}: accepted; {:?} wanted", case.name, case.message),
                (Err(rejected), wanted) => {
                    assert_eq!(rejected.errno.0, wanted, "{file}: {}: {rejected}", case.name);
                    let said = rejected.log.contains(&case.message);
                    assert!(said, "{file}: {}: {rejected}; {:?} wanted", case.name, case.message);
                }
            }
        }
    }
    assert!(count > 60, "only {count} cases");
}

#[test]
fn the_kernel_says_the_same() {
    if !kernel::is_there() {
        return;
    }
    for (file, text) in FILES {
        for case in case::parse(text) {
            let maps = Maps::new(&case.maps).unwrap();
            let verdict = maps.verdict(&case, true);
            let errno = verdict.as_ref().err().map_or(0, |(errno, _)| *errno);
            let log = verdict.err().map_or(String::new(), |(_, log)| log);
            assert_eq!(errno, case.verdict, "{file}: {}: {log}", case.name);
            assert!(log.contains(&case.message), "{file}: {}: {log}", case.name);
        }
    }
}
