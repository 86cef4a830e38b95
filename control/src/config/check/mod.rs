//! From what the file says to what is meant: every value is looked at, every mistake is told.

mod bindings;
mod device;
mod programs;
mod sockets;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::Spanned;
use weir_dataplane::limits;

use super::file::{self, File};
use super::{At, CONTROL_SOCKET, Config, Problem, Problems, line_of};

/// Queues that one configuration may name; each has a worker.
const QUEUES_MAX: usize = limits::WORKERS;

/// Checks everything that can be checked without looking at the machine.
pub(super) fn check(path: &Path, text: &str, file: File) -> Result<Config, Problems> {
    let mut checker = Checker { path, text, problems: Vec::new() };
    let device_line = checker.line(&file.device);
    let device = checker.device(file.device);
    let worker = file.worker.unwrap_or_default();
    let cores = worker.cores.map(|cores| checker.place(cores));
    let sockets_max = checker.sockets_max(file.limits.unwrap_or_default());
    let control = file.control.unwrap_or_default();
    let control_socket_line = control.socket.as_ref().map(|socket| checker.line(socket));
    let control_socket =
        control.socket.map_or(CONTROL_SOCKET.into(), |socket| PathBuf::from(socket.into_inner()));
    let metrics = control.metrics.and_then(|address| checker.metrics(&address));
    let bindings = checker.bindings(file.binds);
    let sockets = checker.sockets(file.sockets, sockets_max);
    let names: HashMap<&str, usize> =
        sockets.iter().map(|socket| (&*socket.name, socket.line)).collect();
    let programs = checker.programs(file.programs, &names);
    if let (Some(cores), Some(device)) = (&cores, &device) {
        checker.cores(cores, device);
    }
    match device {
        Some(device) if checker.problems.is_empty() => Ok(Config {
            path: path.into(),
            device: At { value: device, line: device_line },
            cores,
            idle: worker.idle.unwrap_or_default(),
            engine: match worker.engine.unwrap_or_default() {
                file::Engine::Jit => weir_bpf::Engine::Jit,
                file::Engine::Interpreter => weir_bpf::Engine::Interpreter,
            },
            verdict_cache: worker.verdict_cache.unwrap_or(true),
            sockets_max,
            control_socket,
            control_socket_line,
            metrics,
            bindings,
            sockets,
            programs,
        }),
        _ => {
            checker.problems.sort_by_key(|problem| problem.line);
            Err(Problems(checker.problems))
        }
    }
}

struct Checker<'a> {
    path: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn line<T>(&self, spanned: &Spanned<T>) -> usize {
        line_of(self.text, spanned.span().start)
    }

    fn place<T>(&self, spanned: Spanned<T>) -> At<T> {
        At { line: self.line(&spanned), value: spanned.into_inner() }
    }

    fn refuse(&mut self, line: usize, reason: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem::new(self.path, reason, help).at(line));
    }

    /// A path of the file, relative to the folder that the file is in.
    fn path(&self, text: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(text)
    }

    fn file(&self, text: Spanned<String>) -> At<PathBuf> {
        At { value: self.path(text.get_ref()), line: self.line(&text) }
    }

    fn sockets_max(&mut self, limits: file::Limits) -> usize {
        let Some(sockets) = limits.sockets else { return limits::SOCKETS_DEFAULT };
        let sockets = self.place(sockets);
        if !(1..=limits::SOCKETS_MAX).contains(&sockets.value) {
            self.refuse(
                sockets.line,
                format!("`limits.sockets` is {}, not 1 to {}", sockets.value, limits::SOCKETS_MAX),
                format!("leave it out for {}", limits::SOCKETS_DEFAULT),
            );
        }
        sockets.value
    }

    fn metrics(&mut self, address: &Spanned<String>) -> Option<At<SocketAddr>> {
        let line = self.line(address);
        match address.get_ref().parse() {
            Ok(value) => Some(At { value, line }),
            Err(_) => {
                self.refuse(
                    line,
                    format!("`{}` is not an address and a port", address.get_ref()),
                    "write it as \"127.0.0.1:9464\" or \"[::1]:9464\"",
                );
                None
            }
        }
    }
}
