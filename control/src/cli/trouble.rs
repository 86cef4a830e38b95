//! What the command says when it cannot do what was asked: what was wrong, and what to do.

use crate::client::ClientError;
use crate::config::Problems;

/// Pairs of an error and its help.
#[derive(Debug)]
pub(super) struct Trouble(Vec<(String, String)>);

impl Trouble {
    pub(super) fn new(error: impl Into<String>, help: impl Into<String>) -> Trouble {
        Trouble(vec![(error.into(), help.into())])
    }

    /// Writes it to the standard error.
    pub(super) fn print(&self) {
        for (error, help) in &self.0 {
            eprintln!("error: {}", one_line(error));
            if !help.is_empty() {
                eprintln!("help: {}", one_line(help));
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl From<Problems> for Trouble {
    fn from(problems: Problems) -> Trouble {
        Trouble(problems.0.into_iter().map(|p| (p.to_string(), p.help)).collect())
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        Trouble::new(error.to_string(), error.help())
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Trouble {
        match error.downcast::<Problems>() {
            Ok(problems) => problems.into(),
            Err(error) => Trouble::new(format!("{error:#}"), ""),
        }
    }
}
