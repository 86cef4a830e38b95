//! A real `weir run` for tests: in a namespace of a lab or right here, watched, and gone at the
//! end whatever happens.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod peer;

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_control::api::sockets::Socket;
use weir_control::api::stats::Stats;
use weir_control::client::Client;
use weir_control::daemon::READY;
use weir_lab::{Bed, Namespace};

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of this test alone, removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How a `weir run` ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<String>,
    pub stderr: String,
}

/// A `weir run` that has said that it is ready.
pub struct Running {
    child: Option<Child>,
    client: Client,
    config: PathBuf,
    stdout: Receiver<String>,
    said: Vec<String>,
    stderr: Arc<Mutex<String>>,
    _folder: Folder,
}

impl Running {
    /// Starts `weir run` in Weir's namespace of the bed. The text is a configuration without
    /// `[control]`, which is added, or with one whose socket is `{socket}`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(bed: &Bed, text: &str) -> Running {
        Running::start_in(Some(bed.weir()), text)
            .unwrap_or_else(|ended| panic!("weir did not start: {ended:?}"))
    }

    /// The same in any namespace, or in the test's own, with whatever it said if it ended
    /// before it was ready.
    pub fn start_in(namespace: Option<&Namespace>, text: &str) -> Result<Running, Ended> {
        let folder = Folder::new();
        let (config, socket) = (folder.path("weir.toml"), folder.path("weir.sock"));
        let path = socket.display().to_string();
        let text = match text.contains("{socket}") {
            true => text.replace("{socket}", &path),
            false => format!("{text}\n[control]\nsocket = \"{path}\"\n"),
        };
        fs::write(&config, text).unwrap();
        let weir = env!("CARGO_BIN_EXE_weir");
        let mut command = match namespace {
            Some(namespace) => namespace.command(weir),
            None => Command::new(weir),
        };
        let command = command.args(["run", "-c"]).arg(&config);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = gather(child.stderr.take().unwrap());
        let stdout = lines(child.stdout.take().unwrap());
        let client = Client::new(socket);
        let mut running = Running {
            child: Some(child),
            client,
            config,
            stdout,
            said: Vec::new(),
            stderr,
            _folder: folder,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match running.stdout.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let ready = line.starts_with(READY);
                    running.said.push(line);
                    if ready {
                        return Ok(running);
                    }
                }
                Err(_) => return Err(running.wait()),
            }
        }
    }

    /// Talks to its API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn stats(&self) -> Stats {
        self.client.read("/v1/stats").expect("a running Weir answers")
    }

    pub fn socket(&self, name: &str) -> Socket {
        let sockets: Vec<Socket> = self.client.read("/v1/sockets").expect("Weir answers");
        sockets.into_iter().find(|socket| socket.name == name).expect("the socket is open")
    }

    /// The configuration file, to be rewritten before [`Running::signal`] with SIGHUP.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What it wrote before it was ready.
    pub fn announcement(&self) -> &[String] {
        &self.said
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// SIGKILL, and how it ended.
    pub fn kill(self) -> Ended {
        self.signal(Signal::SIGKILL);
        self.wait()
    }

    /// How it ended, once it has been told to.
    pub fn terminated(self) -> Ended {
        self.wait()
    }

    fn wait(mut self) -> Ended {
        let mut child = self.child.take().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("weir did not end: {}", self.log());
            }
            thread::sleep(Duration::from_millis(5));
        };
        while let Ok(line) = self.stdout.recv_timeout(Duration::from_secs(1)) {
            self.said.push(line);
        }
        Ended { status, stdout: std::mem::take(&mut self.said), stderr: self.log() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs `weir` with these arguments to its end.
pub fn weir(arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap();
    Ended {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).lines().map(Into::into).collect(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether tests with namespaces and AF_XDP can run; says why if not.
pub fn privileged() -> bool {
    match weir_lab::privileged() {
        Ok(()) => true,
        Err(reason) => {
            println!("skipped: {reason}");
            false
        }
    }
}

fn lines(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn gather(stderr: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let gathered = text.clone();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut text = gathered.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}
