use std::os::unix::fs::PermissionsExt;

use super::*;

fn memory(address: &str) -> Memory {
    let address: IpAddr = address.parse().unwrap();
    let services = [("shop/web".to_owned(), vec![address])].into();
    let taken = Arc::new([Taken { interface: "eth0".into(), address }].into());
    Memory { allocations: Arc::new(Allocations { services, ..Allocations::default() }), taken }
}

#[test]
fn what_was_saved_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a/state");
    let mut state = State::open(&directory).unwrap();
    assert_eq!(*state.saved(), Memory::default());
    state.save(&memory("203.0.113.10")).unwrap();
    state.save(&memory("203.0.113.11")).unwrap();
    drop(state);
    assert_eq!(*State::open(&directory).unwrap().saved(), memory("203.0.113.11"));
}

#[test]
fn only_the_owner_may_look_at_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    State::open(&directory).unwrap().save(&memory("203.0.113.10")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
}

#[test]
fn a_broken_file_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let whole = r#"{"version": 1, "allocations": {"services": {}}, "taken": []}"#;
    for (text, reason) in [
        ("", "is broken: EOF"),
        (&whole[..40], "is broken: EOF"),
        ("{}", "it has no version"),
        (&whole.replace('1', "2"), "has version 2"),
        (&whole.replace("[]", "7"), "is broken: invalid type"),
        (&whole.replace("taken", "token"), "is broken"),
    ] {
        fs::write(&path, text).unwrap();
        let error = State::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("allocations.json"), "{text}: {error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, whole).unwrap();
    State::open(folder.path()).unwrap();
}

#[test]
fn a_state_that_cant_be_written_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::open(folder.path()).unwrap();
    state.save(&memory("203.0.113.10")).unwrap();
    // Stands in for a full disk: no file can be made there.
    fs::create_dir(folder.path().join(".allocations.new")).unwrap();
    state.save(&memory("203.0.113.11")).unwrap_err();
    assert_eq!(*state.saved(), memory("203.0.113.10"));
    drop(state);
    let mut state = State::open(folder.path()).unwrap();
    assert_eq!(*state.saved(), memory("203.0.113.10"));
    fs::remove_dir(folder.path().join(".allocations.new")).unwrap();
    state.save(&memory("203.0.113.11")).unwrap();
}

#[test]
fn a_directory_is_used_by_one_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let first = State::open(folder.path()).unwrap();
    let error = State::open(folder.path()).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    drop(first);
    State::open(folder.path()).unwrap();
}
