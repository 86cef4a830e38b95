//! What a fuzzer does with the text of a configuration.

use std::path::Path;

use weir_control::config::Config;
use weir_control::plan::{Plan, plan};

/// Any bytes: refused with a line that the text has, or taken, and then equal to itself.
pub fn exercise(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse(Path::new("fuzz.toml"), text) {
        Ok(config) => assert_eq!(plan(&config, &config), Ok(Plan::default())),
        Err(problems) => {
            assert!(!problems.0.is_empty());
            let lines = text.bytes().filter(|&byte| byte == b'\n').count() + 1;
            for problem in problems.0 {
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
                assert!(!problem.help.is_empty(), "{problem}");
            }
        }
    }
}
