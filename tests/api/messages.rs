//! A file in `mistakes` compiles, unless `--cfg mistake` makes the mistake that its name tells. Then the compiler's
//! message must have what the file `says`.

use std::{fs, path::Path};

use crate::compiler::{Crates, run};

const CRATES: &[&str] = &["cattleguard", "tower"];

#[test]
fn a_mistake_is_answered_with_what_is_missing() {
    let mistakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/mistakes");
    let crates = Crates::check();
    let mut faults = Vec::new();
    let mut files: Vec<_> = fs::read_dir(mistakes)
        .expect("a folder")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        faults.extend(fault(&crates, &file));
    }
    assert!(faults.is_empty(), "{} mistakes\n\n{}", faults.len(), faults.join("\n"));
}

fn fault(crates: &Crates, file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).expect("a file");
    let says: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("// says: ")).collect();
    assert!(!says.is_empty(), "{}: what is to be said?", file.display());
    run(crates.rustc(file, CRATES));
    let mut rustc = crates.rustc(file, CRATES);
    let output = rustc.args(["--cfg", "mistake"]).output().expect("a compiler");
    let said = String::from_utf8_lossy(&output.stderr);
    let unsaid: Vec<_> = says.into_iter().filter(|words| !said.contains(words)).collect();
    let fault = !output.status.success() && unsaid.is_empty();
    (!fault).then(|| format!("{}: not said: {unsaid:#?}\n\n{said}", file.display()))
}
