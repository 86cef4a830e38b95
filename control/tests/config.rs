//! The configuration: good files are taken, bad ones are refused where they are bad.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use weir_control::cli::Cli;
use weir_control::config::{Config, Problem};
use weir_control::staging;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The problems of a text, by the checks of `weir check`.
fn problems(text: &str) -> Vec<Problem> {
    let checked = Config::parse(Path::new("bad.toml"), text).and_then(|config| {
        staging::rehearse(&config)?;
        Ok(config)
    });
    match checked {
        Ok(config) => panic!("this should have been refused:\n{text}\n{config:#?}"),
        Err(problems) => problems.0,
    }
}

#[test]
fn every_file_in_configs_is_good() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.extension().unwrap(), "toml", "{} is no configuration", path.display());
        let config = Config::read(&path).unwrap_or_else(|problems| panic!("{problems}"));
        staging::rehearse(&config).unwrap_or_else(|problems| panic!("{problems}"));
        seen += 1;
    }
    assert!(seen >= 3, "configs/ has its examples");
}

const MEMORY: &str = "[device]\nkind = \"memory\"\n";
const WEB: &str = "[[socket]]\nname = \"web\"\naddress = \"192.0.2.1:80\"\nservice = \"echo\"\n";
const STEER: &str = "[[program]]\nobject = \"builtin:steer\"\nname = \"steer\"\n";

/// What is appended to a good beginning, the line of the mistake, and a part of the reason.
type Mistake = (&'static str, &'static str, usize, &'static str);

const MISTAKES: &[Mistake] = &[
    ("", "color = 1\n", 3, "unknown field `color`"),
    ("", "queues = \"two\"\n", 3, "not a number of queues"),
    ("", "interface = \"eth0\"\n", 3, "means nothing for a device of kind \"memory\""),
    ("", "[worker]\nidle = \"nap\"\n", 4, "unknown variant `nap`"),
    ("", "[worker]\ncores = [0, 1]\n", 4, "names 2 processors for 1 queues"),
    ("", "[limits]\nsockets = 0\n", 4, "not 1 to"),
    ("", "[control]\nmetrics = \"localhost\"\n", 4, "not an address and a port"),
    ("", "this is not TOML\n", 3, "expected"),
    ("", "[[bind]]\nprefix = \"192.0.2.1/24\"\nprotocol = \"udp\"\n", 4, "bits set beyond"),
    ("", "[[bind]]\nprefix = \"192.0.2.0/40\"\nprotocol = \"udp\"\n", 4, "is more than 32"),
    ("", "[[bind]]\nprefix = \"here\"\nprotocol = \"udp\"\n", 4, "not an address prefix"),
    ("", "[[bind]]\nprefix = \"192.0.2.0/24\"\nprotocol = \"tcp\"\n", 5, "stays with the kernel"),
    ("", "[[bind]]\nprefix = \"192.0.2.0/24\"\nprotocol = \"sctp\"\n", 5, "not a protocol"),
    ("", "[[bind]]\nprefix = \"::/0\"\nprotocol = \"udp\"\nport = 70000\n", 6, "not a port"),
    ("", "[[bind]]\nprefix = \"::/0\"\n", 3, "missing field `protocol`"),
    (
        "",
        "[[bind]]\nprefix = \"10.0.0.0/8\"\nprotocol = \"udp\"\n\
         [[bind]]\nprefix = \"10.1.0.0/16\"\nprotocol = \"udp\"\nport = 53\n",
        6,
        "overlaps udp,10.0.0.0/8,all of line 3",
    ),
    (
        "",
        "[[bind]]\nprefix = \"10.1.0.0/16\"\nprotocol = \"udp\"\n\
         [[bind]]\nprefix = \"10.0.0.0/8\"\nprotocol = \"udp\"\n",
        6,
        "of line 3 overlaps udp,10.0.0.0/8,all",
    ),
    (
        "",
        "[[bind]]\nprefix = \"::/0\"\nprotocol = \"udp\"\n\
         [[bind]]\nprefix = \"::/0\"\nprotocol = \"udp\"\nport = \"all\"\n",
        6,
        "stands already in line 3",
    ),
    (WEB, WEB, 8, "named already in line 3"),
    (
        WEB,
        "[[socket]]\nname = \"b\"\naddress = \"[::ffff:192.0.2.1]:80\"\nservice = \"echo\"\n",
        9,
        "in use by the socket of line 3",
    ),
    ("", "[[socket]]\nname = \"a\"\naddress = \"192.0.2.1:0\"\nservice = \"echo\"\n", 5, "port 0"),
    (
        "",
        "[[socket]]\nname = \"a\"\naddress = \"0.0.0.0:9\"\nremote = \"192.0.2.1:9\"\nservice = \"echo\"\n",
        5,
        "needs a specific local address",
    ),
    (
        "",
        "[[socket]]\nname = \"a\"\naddress = \"192.0.2.1:80\"\nservice = \"http\"\n",
        6,
        "no service `http`",
    ),
    ("", "[[program]]\nobject = \"builtin:none\"\nname = \"x\"\n", 4, "no built-in object"),
    ("", "[[program]]\nobject = \"none.o\"\nname = \"x\"\n", 4, "cannot be read"),
    ("", "[[program]]\nobject = \"/dev/null\"\nname = \"x\"\n", 4, "object /dev/null"),
    ("", "[[program]]\nobject = \"builtin:steer\"\nname = \"x\"\n", 5, "no program `x`"),
    (STEER, "[[program.entry]]\nmap = \"none\"\nkey = 0\nvalue = 1\n", 6, "no map `none`"),
    (
        STEER,
        "[[program.entry]]\nmap = \"sockets\"\nkey = 0\nsocket = \"none\"\n",
        9,
        "no socket \"none\"",
    ),
    (STEER, "[[program.entry]]\nmap = \"sockets\"\nkey = 0\nvalue = 1\n", 6, "holds sockets"),
    (STEER, "[[program.entry]]\nmap = \"bindings\"\nkey = 0\nvalue = 1\n", 6, "as 0x"),
    (STEER, "[[program.entry]]\nmap = \"bindings\"\nkey = \"seven\"\nvalue = 1\n", 8, "`key`"),
    (STEER, "[[program.entry]]\nmap = \"bindings\"\nvalue = 1\n", 6, "either `key` or `binding`"),
];

#[test]
fn every_mistake_is_told_with_its_line_its_reason_and_what_to_do() {
    for (start, text, line, reason) in MISTAKES {
        let text = format!("{MEMORY}{start}{text}");
        let problems = problems(&text);
        let told = problems.iter().any(|problem| {
            problem.line == Some(*line)
                && problem.reason.contains(reason)
                && !problem.help.is_empty()
        });
        assert!(told, "line {line}, {reason:?} of\n{text}\nwas told as {problems:#?}");
    }
}

#[test]
fn an_index_beyond_a_map_is_the_kernels_error() {
    let entry = "[[program.entry]]\nmap = \"sockets\"\nkey = 1024\nsocket = \"web\"\n";
    let problems = problems(&format!("{MEMORY}{WEB}{STEER}{entry}"));
    assert_eq!(problems[0].line, Some(10));
    assert!(problems[0].reason.contains("E2BIG"), "{problems:?}");
}

#[test]
fn an_xsk_device_is_checked_as_far_as_a_file_can_be() {
    for (keys, line, reason) in [
        ("", 1, "needs an `interface`"),
        ("interface = \"a name that is too long\"\n", 3, "cannot be the name"),
        ("interface = \"eth0\"\nqueues = [0, 0]\n", 4, "stands twice"),
        ("interface = \"eth0\"\nqueues = []\n", 4, "has 0 entries"),
        ("interface = \"eth0\"\nqueues = [-1]\n", 4, "not the number of a queue"),
        ("interface = \"eth0\"\nmode = \"fast\"\n", 4, "unknown variant"),
        ("interface = \"eth0\"\nrx_ring = 1000\n", 4, "not a power of two"),
        ("interface = \"eth0\"\nframe_size = 1024\n", 4, "from 2048 to 4096"),
        ("interface = \"eth0\"\nhuge_pages = 1\n", 4, "neither true"),
    ] {
        let problems = problems(&format!("[device]\nkind = \"xsk\"\n{keys}"));
        let told = problems.iter().any(|p| p.line == Some(line) && p.reason.contains(reason));
        assert!(told, "{keys}: {problems:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = format!(
        "{MEMORY}[[bind]]\nprefix = \"x\"\nprotocol = \"udp\"\n\
         [[socket]]\nname = \"a\"\naddress = \"y\"\nservice = \"z\"\n"
    );
    let lines: Vec<_> = problems(&text).iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(4), Some(8), Some(9)]);
}

#[test]
fn the_readme_says_what_is_so() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut configs = 0;
    for block in readme.split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        let config = Config::parse(Path::new("README.md"), text)
            .unwrap_or_else(|problems| panic!("{problems}"));
        staging::rehearse(&config).unwrap_or_else(|problems| panic!("{problems}"));
        configs += 1;
    }
    assert!(configs > 0, "README.md shows a configuration");
    let mut commands = 0;
    for line in readme.lines().filter_map(|line| line.split("release/weir ").nth(1)) {
        let line = line.split(['#', '&']).next().unwrap();
        let words = std::iter::once("weir").chain(line.split_whitespace());
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("`weir {line}`: {error}"));
        commands += 1;
    }
    assert!(commands > 0, "README.md shows commands");
    let cli = Cli::command();
    for mention in readme.split("`weir ").skip(1) {
        let verb = mention.split(['`', ' ']).next().unwrap();
        assert!(cli.find_subcommand(verb).is_some(), "README.md mentions `weir {verb}`");
    }
}
