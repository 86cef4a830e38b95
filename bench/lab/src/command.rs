//! Runs a command to its end and turns a refusal into a readable error.

use std::process::Command;

use crate::LabError;

/// Runs `program` with `arguments` and waits for its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), LabError> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command)
}

fn finish(mut command: Command) -> Result<(), LabError> {
    let output =
        command.output().map_err(|source| LabError::Start { command: typed(&command), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Refused {
        command: typed(&command),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// The command as one could type it again.
fn typed(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_command_and_stderr() {
        let error = run("ip", &["link", "show", "dev", "weir-absent"]).unwrap_err().to_string();
        assert!(error.contains("`ip link show dev weir-absent` failed"), "{error}");
        assert!(error.contains("does not exist"), "{error}");
    }

    #[test]
    fn a_missing_program_names_the_remedy() {
        let error = run("weir-no-such-program", &["x"]).unwrap_err().to_string();
        assert!(error.contains("cannot start `weir-no-such-program x`"), "{error}");
        assert!(error.contains("make setup"), "{error}");
    }
}
