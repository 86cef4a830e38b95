//! What `weir run` refuses of a real machine: each with file, line, reason and what to do, and
//! nothing left behind.

mod support;

use std::fs;
use std::process::Command;

use support::peer::{DEVICE, bed, binding, client, echoes, output, socket, xdp_program};
use support::{Folder, Running, privileged};
use weir_lab::{Bed, Namespace};

fn serving() -> String {
    binding("192.0.2.0/24", "7") + &socket("echo", "192.0.2.1:7", "echo")
}

/// A configuration that must be refused, in a folder of its own.
struct Attempt {
    folder: Folder,
    text: String,
}

impl Attempt {
    /// The text goes before `[control]`, so that its lines are the file's.
    fn new(text: &str) -> Attempt {
        let folder = Folder::new();
        let path = folder.path("weir.sock").display().to_string();
        let text = format!("{text}[control]\nsocket = \"{path}\"\n");
        fs::write(folder.path("weir.toml"), &text).unwrap();
        Attempt { folder, text }
    }

    /// Number of the line that begins with that.
    fn line(&self, start: &str) -> usize {
        self.text.lines().position(|line| line.starts_with(start)).unwrap() + 1
    }

    fn run(&self, namespace: &Namespace, wrapper: &[&str]) -> (Option<i32>, String) {
        let weir = env!("CARGO_BIN_EXE_weir");
        let words = [wrapper, &[weir]].concat();
        let mut command = namespace.command(words[0]);
        command.args(&words[1..]).args(["run", "-c"]).arg(self.folder.path("weir.toml"));
        // What should have been refused must not run for ever.
        let mut child = Command::new("timeout");
        child.args(["-s", "KILL", "30"]).arg(command.get_program()).args(command.get_args());
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    /// Runs it, and holds the refusal to its form.
    fn assert_refused(&self, namespace: &Namespace, wrapper: &[&str], start: &str, reason: &str) {
        let (code, said) = self.run(namespace, wrapper);
        let place =
            format!("error: {}:{}: ", self.folder.path("weir.toml").display(), self.line(start));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&place), "no `{place}`: {said}");
        assert!(said.contains(reason), "no `{reason}`: {said}");
        assert!(said.lines().any(|line| line.len() > 12 && line.starts_with("help: ")), "{said}");
        assert!(!self.folder.path("weir.sock").exists(), "the control socket is left behind");
    }
}

#[test]
fn what_the_interface_lacks_is_named() {
    if !privileged() {
        return;
    }
    let bed = bed(2);
    let device = |interface: &str, rest: &str| {
        let device = format!("[device]\nkind = \"xsk\"\ninterface = \"{interface}\"\n{rest}");
        Attempt::new(&(device + &serving()))
    };
    device("none0", "").assert_refused(
        bed.weir(),
        &[],
        "interface",
        "there is no interface `none0`",
    );
    device("weir0", "queues = [0, 2]\n").assert_refused(
        bed.weir(),
        &[],
        "queues",
        "queue 2 is out of range: weir0 has 2 receive queues",
    );
    device("weir0", "mode = \"zero-copy\"\n").assert_refused(
        bed.weir(),
        &[],
        "[device]",
        "zero-copy",
    );
    assert_eq!(xdp_program(&bed), None);
    let weir = Running::start(&bed, &(DEVICE.to_owned() + &serving()));
    assert!(echoes(&client(&bed, "192.0.2.1:7"), b"and then it works"), "{}", weir.log());
}

#[test]
fn another_s_program_is_left_in_peace() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let folder = Folder::new();
    let object = folder.path("pass.o");
    let source = "__attribute__((section(\"xdp\"), used)) int pass(void *ctx) { return 2; }\n\
        char LICENSE[] __attribute__((section(\"license\"), used)) = \"Dual MIT/GPL\";\n";
    fs::write(folder.path("pass.c"), source).unwrap();
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-g", "-target", "bpf", "-c"]).arg(folder.path("pass.c"));
    output(clang.arg("-o").arg(&object));
    let link = |arguments: &[&str]| {
        let fixed = ["link", "set", "dev", Bed::WEIR_DEVICE];
        output(bed.weir().command("ip").args(fixed).args(arguments));
    };
    link(&["xdp", "obj", object.to_str().unwrap(), "sec", "xdp"]);
    let id = xdp_program(&bed).expect("the other program is attached");
    let reason = format!("an XDP program (id {id}");
    let attempt = Attempt::new(&(DEVICE.to_owned() + &serving()));
    attempt.assert_refused(bed.weir(), &[], "interface", &reason);
    assert_eq!(xdp_program(&bed), Some(id), "the other program is gone");
    // What the help says helps.
    link(&["xdp", "off"]);
    let weir = Running::start(&bed, &(DEVICE.to_owned() + &serving()));
    assert!(echoes(&client(&bed, "192.0.2.1:7"), b"free"), "{}", weir.log());
}

#[test]
fn a_second_weir_leaves_the_first_in_peace() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let text = DEVICE.to_owned() + &serving();
    let first = Running::start(&bed, &text);
    let id = xdp_program(&bed);
    let echo = client(&bed, "192.0.2.1:7");
    // The same interface.
    Attempt::new(&text).assert_refused(bed.weir(), &[], "interface", "an XDP program (id ");
    assert_eq!(xdp_program(&bed), id);
    assert!(echoes(&echo, b"the first goes on"), "{}", first.log());
    // The same control socket.
    let folder = Folder::new();
    let path = first.client().socket();
    let same = format!("[device]\nkind = \"memory\"\n[control]\nsocket = \"{}\"\n", path.display());
    fs::write(folder.path("weir.toml"), same).unwrap();
    let ended = support::weir(&["run", "-c", folder.path("weir.toml").to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let place =
        format!("error: {}:4: another Weir answers on ", folder.path("weir.toml").display());
    let first_line = ended.stderr.lines().next().unwrap_or_default();
    assert!(first_line.starts_with(&place), "no `{place}`: {first_line}");
    assert!(ended.stderr.contains("\nhelp: stop it first"), "{}", ended.stderr);
    assert_eq!(first.stats().total.answered, 1, "the first's socket has been taken away");
    assert!(echoes(&echo, b"still"), "{}", first.log());
}

#[test]
fn a_missing_privilege_is_named() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let attempt = Attempt::new(&(DEVICE.to_owned() + &serving()));
    for (capabilities, named) in [
        ("-all", "needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_BPF,"),
        ("-net_raw", "needs CAP_NET_RAW,"),
        ("-net_admin", "needs CAP_NET_ADMIN,"),
    ] {
        let drop = format!("--bounding-set={capabilities}");
        let inherit = format!("--inh-caps={capabilities}");
        let wrapper = ["setpriv", &drop, &inherit, "--"];
        attempt.assert_refused(bed.weir(), &wrapper, "[device]", named);
    }
    assert_eq!(xdp_program(&bed), None);
}
