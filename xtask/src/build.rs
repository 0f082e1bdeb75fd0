//! Building the programs that a task runs.

use std::{path::PathBuf, process::Stdio};

use serde_json::Value;

use crate::cargo;

/// Builds `targets` of the workspace in release, and says where the programs of these names lie.
pub fn build<const N: usize>(
    names: [&str; N],
    targets: &[&str],
    features: &str,
) -> Result<[PathBuf; N], String> {
    let mut command = cargo();
    command.args(["build", "--release", "--workspace"]).args(targets);
    command.args(["--features", features, "--message-format=json-render-diagnostics"]);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo build: {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> =
        messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let executable = |name: &str| {
        let mut of_target = messages.iter().filter(|message| message["target"]["name"] == name);
        of_target.find_map(|message| message["executable"].as_str().map(PathBuf::from))
    };
    let mut paths = [const { PathBuf::new() }; N];
    for (path, name) in paths.iter_mut().zip(names) {
        *path =
            executable(name).ok_or_else(|| format!("cargo build named no executable {name}"))?;
    }
    Ok(paths)
}
