//! From the old configuration and the new: which sockets open and close, and when. Bindings need
//! no plan: the redirect program's adds what is new before it removes what is gone.

use std::collections::{HashMap, HashSet};

use weir_dataplane::socket::SocketSpec;

use crate::config::{At, Config, Problem, Problems};

/// What happens to sockets between two configurations, in the order of the fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sockets to close before others open, since those take their addresses.
    pub replace: Vec<SocketSpec>,
    /// Sockets to open.
    pub open: Vec<SocketSpec>,
    /// Sockets to close, once nothing leads to them.
    pub close: Vec<SocketSpec>,
}

/// Compares two configurations.
///
/// # Errors
/// When the new one changes what only a restart can change.
pub fn plan(old: &Config, new: &Config) -> Result<Plan, Problems> {
    restart_only(old, new)?;
    let mut plan = Plan::default();
    let before: HashMap<&str, &SocketSpec> =
        old.sockets.iter().map(|socket| (&*socket.name, &socket.value)).collect();
    let after: HashMap<&str, &SocketSpec> =
        new.sockets.iter().map(|socket| (&*socket.name, &socket.value)).collect();
    let fresh = |socket: &&At<SocketSpec>| before.get(&*socket.name) != Some(&&socket.value);
    plan.open = new.sockets.iter().filter(fresh).map(|socket| socket.value.clone()).collect();
    let taken: HashSet<_> = plan.open.iter().flat_map(addresses).collect();
    for socket in &old.sockets {
        if after.get(&*socket.name) == Some(&&socket.value) {
            continue;
        }
        let in_the_way = addresses(&socket.value).any(|address| taken.contains(&address));
        let list = if in_the_way { &mut plan.replace } else { &mut plan.close };
        list.push(socket.value.clone());
    }
    // With no room for the old beside the new, the old go first.
    if old.sockets.len() - plan.replace.len() + plan.open.len() > new.sockets_max {
        plan.replace.append(&mut plan.close);
    }
    Ok(plan)
}

fn addresses(
    spec: &SocketSpec,
) -> impl Iterator<Item = (std::net::IpAddr, u16, Option<std::net::SocketAddr>)> + use<> {
    let (port, remote) = (spec.local.port(), spec.remote);
    spec.arrival_addresses().map(move |address| (address, port, remote))
}

fn restart_only(old: &Config, new: &Config) -> Result<(), Problems> {
    const HELP: &str = "restart needed: stop Weir and start it with this file";
    let mut problems = Vec::new();
    let mut refuse = |changed: bool, what: &str, line: Option<usize>| {
        if changed {
            let reason = format!("{what} cannot change while Weir runs");
            let problem = Problem::new(&new.path, reason, HELP);
            problems.push(line.map_or(problem.clone(), |line| problem.at(line)));
        }
    };
    refuse(old.device != new.device, "`device`", Some(new.device.line));
    refuse(old.cores != new.cores, "`worker.cores`", new.cores.as_ref().map(|cores| cores.line));
    refuse(old.idle != new.idle, "`worker.idle`", None);
    refuse(old.engine != new.engine, "`worker.engine`", None);
    refuse(old.verdict_cache != new.verdict_cache, "`worker.verdict_cache`", None);
    refuse(old.sockets_max != new.sockets_max, "`limits.sockets`", None);
    refuse(old.control_socket != new.control_socket, "`control.socket`", None);
    let line = new.metrics.as_ref().map(|metrics| metrics.line);
    refuse(old.metrics != new.metrics, "`control.metrics`", line);
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(rest: &str) -> Config {
        let text = format!("[device]\nkind = \"memory\"\n{rest}");
        Config::parse(Path::new("test.toml"), &text).unwrap()
    }

    fn socket(name: &str, address: &str, service: &str) -> String {
        format!("[[socket]]\nname = \"{name}\"\naddress = \"{address}\"\nservice = \"{service}\"\n")
    }

    fn names(sockets: &[SocketSpec]) -> Vec<&str> {
        sockets.iter().map(|socket| &*socket.name).collect()
    }

    #[test]
    fn nothing_changes_for_a_file_with_other_lines() {
        let web = socket("web", "192.0.2.1:80", "echo");
        assert_eq!(plan(&config(&web), &config(&format!("\n\n{web}"))), Ok(Plan::default()));
    }

    #[test]
    fn an_address_is_free_before_it_is_taken() {
        let old = config(&(socket("a", "192.0.2.1:80", "echo") + &socket("b", "[::]:9", "echo")));
        let new =
            config(&(socket("a", "192.0.2.1:80", "discard") + &socket("c", "0.0.0.0:7", "echo")));
        let plan = plan(&old, &new).unwrap();
        assert_eq!(names(&plan.replace), ["a"]);
        assert_eq!(names(&plan.open), ["a", "c"]);
        assert_eq!(names(&plan.close), ["b"]);
    }

    #[test]
    fn a_full_table_is_emptied_before_it_is_filled() {
        let full = |name: &str| {
            config(&format!("[limits]\nsockets = 1\n{}", socket(name, "192.0.2.1:80", "echo")))
        };
        let plan = plan(&full("a"), &full("b")).unwrap();
        assert_eq!((names(&plan.replace), names(&plan.open)), (vec!["a"], vec!["b"]));
        let other = config(&format!("[limits]\nsockets = 1\n{}", socket("c", "[::]:1", "echo")));
        let plan = super::plan(&full("a"), &other).unwrap();
        assert_eq!((names(&plan.replace), plan.close.len()), (vec!["a"], 0));
    }

    #[test]
    fn what_needs_a_restart_is_refused_with_its_line() {
        let new = Config::parse(
            Path::new("test.toml"),
            "\n[device]\nkind = \"memory\"\nqueues = 2\n[limits]\nsockets = 5\n",
        )
        .unwrap();
        let problems = plan(&config(""), &new).unwrap_err();
        assert_eq!(problems.0.len(), 2);
        assert_eq!(problems.0[0].line, Some(2));
        assert!(problems.0[0].help.contains("restart needed"));
    }
}
