//! `cargo run -p certs -- --out DIR --name HOST`: see `certs/README.md`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use certs::{Directory, KeyKind, LeafRequest, SecretName, Validity};
use clap::{Parser, ValueEnum};

/// Makes a development CA and a leaf certificate signed by it.
///
/// A CA that is already in DIR is used again, so clients that trust it once trust every leaf.
#[derive(Parser)]
#[command(name = "certs")]
struct Arguments {
    /// The folder for ca.pem, ca.key and the leaf's .pem and .key
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A name for the leaf: DNS name, wildcard or IP address; may be given many times
    #[arg(
        long = "name",
        value_name = "HOST",
        default_values = ["demo.localhost", "*.demo.localhost", "localhost", "127.0.0.1", "::1"]
    )]
    names: Vec<String>,
    /// The leaf's kind of key
    #[arg(long, value_enum, default_value = "ecdsa")]
    key: Key,
    /// For how many days the leaf is valid
    #[arg(long, value_name = "N", default_value = "397",
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Print the leaf as a kubernetes.io/tls Secret (with its key) on standard output
    #[arg(long, value_name = "NAMESPACE/NAME")]
    secret: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Key {
    /// ECDSA on P-256
    Ecdsa,
    /// RSA of 2,048 bits
    Rsa,
    /// Ed25519, which browsers don't take
    Ed25519,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Every argument is checked before the first file is written.
    let secret = arguments.secret.as_deref().map(SecretName::parse).transpose()?;
    let request = LeafRequest::new(&arguments.names)?.validity(Validity::days(arguments.days)).key(
        match arguments.key {
            Key::Ecdsa => KeyKind::EcdsaP256,
            Key::Rsa => KeyKind::Rsa2048,
            Key::Ed25519 => KeyKind::Ed25519,
        },
    );

    let directory = Directory::open(arguments.out)?;
    let (leaf, files) = directory.issue(&request)?;

    // The manifest alone goes to standard output, so that it can be redirected into a file.
    let mut report = std::io::stderr().lock();
    let names: Vec<String> = request.names().iter().map(ToString::to_string).collect();
    let authority = directory.authority_certificate();
    let made = if directory.made_authority() { "new" } else { "found there" };
    writeln!(report, "CA           {} ({made})", authority.display())?;
    writeln!(report, "certificate  {}", files.certificate.display())?;
    writeln!(report, "private key  {}", files.key.display())?;
    writeln!(report, "names        {}", names.join(", "))?;
    writeln!(report)?;
    writeln!(report, "A client trusts it with: curl --cacert {} …", authority.display())?;
    match secret {
        Some(secret) => {
            writeln!(report, "Secret {secret} follows; it holds the private key.")?;
            std::io::stdout()
                .write_all(leaf.secret_manifest(&secret).as_bytes())
                .context("writing the Secret to standard output")?;
        }
        None => {
            writeln!(report, "The gateway gets it as a Secret: add --secret NAMESPACE/NAME.")?;
        }
    }
    Ok(())
}
