//! The tool as users run it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

fn certs(out: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_certs"))
        .arg("--out")
        .arg(out)
        .args(arguments)
        .output()
        .expect("the tool starts")
}

fn succeed(out: &Path, arguments: &[&str]) -> Output {
    let output = certs(out, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn private_keys_are_for_their_owner_alone_also_where_an_open_file_stood() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("www.example.test.key");
    fs::write(&key, "old").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    succeed(folder.path(), &["--name", "www.example.test"]);
    for name in ["ca.key", "www.example.test.key"] {
        let metadata = fs::metadata(folder.path().join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(fs::read_to_string(&key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
}

#[test]
fn a_second_run_keeps_the_ca_and_adds_a_leaf() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["--name", "a.example.test"]);
    let ca = fs::read(folder.path().join("ca.pem")).unwrap();
    succeed(folder.path(), &["--name", "*.example.test", "--key", "rsa"]);
    assert_eq!(fs::read(folder.path().join("ca.pem")).unwrap(), ca);
    for name in ["a.example.test.pem", "_wildcard.example.test.pem"] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
}

#[test]
fn the_secret_alone_goes_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let output = succeed(folder.path(), &["--name", "a.example.test", "--secret", "demo/demo-tls"]);
    let manifest = String::from_utf8(output.stdout).unwrap();
    let value = |key: &str| {
        let line = manifest.lines().find_map(|line| line.trim().strip_prefix(key));
        line.unwrap_or_else(|| panic!("{key} in {manifest}")).trim().to_owned()
    };
    assert!(manifest.starts_with("apiVersion: v1\nkind: Secret\n"), "{manifest}");
    assert_eq!((value("namespace:"), value("name:")), ("demo".into(), "demo-tls".into()));
    assert_eq!(value("type:"), "kubernetes.io/tls");
    for (key, file) in [("tls.crt:", "a.example.test.pem"), ("tls.key:", "a.example.test.key")] {
        let decoded = STANDARD.decode(value(key)).unwrap();
        assert_eq!(decoded, fs::read(folder.path().join(file)).unwrap(), "{key}");
    }
}

#[test]
fn a_ca_without_its_key_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &[]);
    fs::remove_file(folder.path().join("ca.key")).unwrap();
    let before = fs::read(folder.path().join("ca.pem")).unwrap();
    let output = certs(folder.path(), &[]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(message.contains("ca.key is missing beside"), "{message}");
    assert_eq!(fs::read(folder.path().join("ca.pem")).unwrap(), before);
}

#[test]
fn a_wrong_name_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let output = certs(&out, &["--name", "a b"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(message.contains(r#"name "a b""#) && message.contains("wildcard"), "{message}");
    assert!(!out.exists());
}
