//! The crate, checked with all its features as a user's compiler would.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// The cargo that runs this test, with the directory that it builds in: what is checked there is checked once.
pub fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([command, "--locked", "--all-features", "--lib", "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    cargo.arg("--target-dir").arg(target());
    cargo
}

pub fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory")
}

pub fn run(mut command: Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// This crate, and those that it was checked with, by name.
pub struct Crates(BTreeMap<String, PathBuf>);

impl Crates {
    pub fn check() -> Self {
        let mut check = cargo("check");
        check.arg("--message-format=json");
        let artifacts = run(check).stdout;
        let artifacts = String::from_utf8(artifacts).expect("JSON");
        Self(artifacts.lines().filter_map(Self::artifact).collect())
    }

    fn artifact(message: &str) -> Option<(String, PathBuf)> {
        let message: Value = serde_json::from_str(message).expect("JSON");
        let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
        let metadata = files.into_iter().find(|file| file.ends_with(".rmeta"))?;
        Some((message["target"]["name"].as_str()?.replace('-', "_"), metadata.into()))
    }

    /// A compiler that checks one file against these crates.
    pub fn rustc(&self, file: &Path, crates: &[&str]) -> Command {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--color=never"]);
        rustc.args(["--check-cfg=cfg(mistake)", "--diagnostic-width=140"]);
        rustc.arg("--out-dir").arg(env!("CARGO_TARGET_TMPDIR"));
        for name in crates {
            let metadata = &self.0[*name];
            rustc.arg("--extern").arg(format!("{name}={}", metadata.display()));
            let folder = metadata.parent().expect("a folder");
            rustc.arg("-L").arg(format!("dependency={}", folder.display()));
        }
        rustc.arg(file);
        rustc
    }
}
