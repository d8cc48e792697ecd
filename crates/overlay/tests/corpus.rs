//! Replays the fuzz targets' seeds, and every input that once broke something.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // reason: a test fails by panicking, and names its input

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/checks.rs"]
mod checks;

/// Runs a check on every file kept for a target.
fn replay(target: &str, check: fn(&[u8])) {
    let mut inputs = 0;
    for kind in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target);
        let Ok(files) = fs::read_dir(&folder) else { continue };
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            check(&fs::read(&path).unwrap());
            inputs += 1;
        }
    }
    assert!(inputs > 0, "no inputs for {target}");
}

#[test]
fn kept_messages_break_nothing() {
    replay("probe", checks::probe);
}

#[test]
fn kept_datagrams_break_nothing() {
    replay("peers", checks::peers);
}
