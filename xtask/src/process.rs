//! Running the program and reading what it says.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::build::build;

/// The folder with models and data, and in it these; an error names the first that is not there.
pub fn data<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N], String> {
    let folder = PathBuf::from(env::var_os("BERT_TUNE_DATA").unwrap_or_default());
    let paths = names.map(|name| folder.join(name));
    match paths.iter().find(|path| !path.exists()) {
        Some(path) => Err(format!("no {} (BERT_TUNE_DATA)", path.display())),
        None => Ok(paths),
    }
}

/// Builds the program `bert` with these features, and makes the folder `out`.
pub fn bert(features: &str, out: &Path) -> Result<PathBuf, String> {
    let [bert] = build(["bert"], &["--bin", "bert"], features)?;
    fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    Ok(bert)
}

/// The JSON in a file, which `make` gives where there is none.
pub fn once(path: &Path, make: impl FnOnce() -> Result<String, String>) -> Result<Value, String> {
    let failed = |error| format!("{}: {error}", path.display());
    if !path.exists() {
        let made = make()?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).and_then(|()| fs::write(path, made)).map_err(failed)?;
    }
    json(&fs::read_to_string(path).map_err(failed)?)
}

/// What a process prints; what it says on standard error is shown.
pub fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}").replace('"', "");
    eprintln!("$ {shown}");
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{shown} could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("{shown}: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{error} in {text:?}"))
}

pub fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("a number was expected, got {value}"))
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean of shares, and each, in percent.
pub fn percent(values: &[f64]) -> String {
    let each: Vec<_> = values.iter().map(|value| format!("{:.1}", 100.0 * value)).collect();
    format!("{:.1} ({})", 100.0 * mean(values), each.join(", "))
}
