//! Every product's configuration is held against the product itself, as far as it is here.

use std::process::Stdio;

use super::*;

/// Where `loadtest peers`, run in the workspace, puts programs.
fn peers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(peers::FOLDER)
}

/// Configures a product and has it checked by its own program, to which `check` adds the words
/// that make it do so. Needs the product: says so and passes where it is not here, but for those
/// that every development machine and CI have.
fn is_accepted(product: &dyn Product, check: &[&str], key: Key) {
    let always_there = ["nginx", "haproxy"].contains(&product.name());
    match product.locate() {
        Err(error) if !always_there => return eprintln!("not checked: {error:#}"),
        located => drop(located.expect("a program")),
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let certificate = Certificate::make(folder, key).expect("a certificate");
    let site = Site::hundred_hosts();
    let bench = Bench {
        site: &site,
        backend: free_address().expect("an address"),
        folder,
        certificate: &certificate.chain,
        key: &certificate.key,
        pair: &certificate.pair,
        http: free_address().expect("an address"),
        https: free_address().expect("an address"),
        connections: 100,
    };
    let launch = product.configure(&bench).expect("a configuration");
    let mut arguments: Vec<&str> = launch.program.arguments.iter().map(String::as_str).collect();
    match check {
        // Caddy's word stands in the place of another.
        ["validate"] => arguments[0] = "validate",
        more => arguments.extend(more),
    }
    let output = Command::new(&launch.program.path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}: {said}", product.name());
    for trouble in ["warn", "deprecat"] {
        assert!(!said.to_lowercase().contains(trouble), "{}: {said}", product.name());
    }
}

#[test]
fn nginx_accepts_its_configuration() {
    is_accepted(&Nginx, &["-t"], Key::Ecdsa);
    is_accepted(&Nginx, &["-t"], Key::Rsa);
}

#[test]
fn haproxy_accepts_its_configuration() {
    for edition in [Edition::Installed, Edition::Newer(peers_folder())] {
        for log in [Log::File, Log::Memory] {
            is_accepted(&Haproxy { edition: edition.clone(), log }, &["-c"], Key::Ecdsa);
        }
        is_accepted(&Haproxy { edition, log: Log::File }, &["-c"], Key::Rsa);
    }
}

#[test]
fn envoy_accepts_its_configuration() {
    is_accepted(&Envoy { folder: peers_folder() }, &["--mode", "validate"], Key::Ecdsa);
    is_accepted(&Envoy { folder: peers_folder() }, &["--mode", "validate"], Key::Rsa);
}

#[test]
fn caddy_accepts_its_configuration() {
    is_accepted(&Caddy { folder: peers_folder() }, &["validate"], Key::Ecdsa);
    is_accepted(&Caddy { folder: peers_folder() }, &["validate"], Key::Rsa);
}
