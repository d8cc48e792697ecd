//! The files that a run leaves: tried before the load, written in one piece behind it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

/// A file that an option names.
#[derive(Debug)]
pub(super) struct Output {
    option: &'static str,
    /// As it was given, for messages.
    given: PathBuf,
    /// Where it is, behind symbolic links.
    path: PathBuf,
    /// Whether it is a device or a pipe, which can't be replaced.
    is_special: bool,
}

impl Output {
    /// Tries whether a file can be written, and leaves no trace of that.
    ///
    /// # Errors
    ///
    /// It can't; the message begins with the option and the path.
    pub(super) fn check(option: &'static str, given: &Path) -> anyhow::Result<Self> {
        Self::checked(option, given).with_context(|| format!("{option} {}", given.display()))
    }

    fn checked(option: &'static str, given: &Path) -> anyhow::Result<Self> {
        let path = fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
        let mut output = Self { option, given: given.to_owned(), path, is_special: false };
        match fs::metadata(&output.path) {
            Ok(metadata) if metadata.is_dir() => bail!("a folder; name a file in it"),
            Ok(metadata) if !metadata.is_file() => output.is_special = true,
            Ok(_) => {
                OpenOptions::new()
                    .write(true)
                    .open(&output.path)
                    .context("the file that is there can't be replaced")?;
                drop(output.beside()?);
            }
            Err(_) if given.file_name().is_none() => bail!("no file's name; name a file"),
            Err(_) => drop(output.beside()?),
        }
        Ok(output)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    ///
    /// It can't be written; what was there before is still there then.
    pub(super) fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        self.written(bytes)
            .with_context(|| format!("{} {}: not written", self.option, self.given.display()))
    }

    fn written(&self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.is_special {
            return Ok(fs::write(&self.path, bytes)?);
        }
        let mut file = self.beside()?;
        file.write_all(bytes)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }

    /// A new file in the same folder, gone again unless it is put in the place of the other.
    fn beside(&self) -> anyhow::Result<NamedTempFile> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mode = fs::metadata(&self.path).map_or(0o666, |metadata| metadata.permissions().mode());
        tempfile::Builder::new()
            .prefix(".loadtest-")
            .permissions(Permissions::from_mode(mode & 0o777))
            .tempfile_in(folder)
            .with_context(|| {
                format!(
                    "no file can be made in {}: make the folder, or name another",
                    folder.display()
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_tried_without_a_trace_and_replaced_in_one_piece() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.json");
        let entries = || fs::read_dir(folder.path()).expect("a folder").count();
        let output = Output::check("--json", &path).expect("it can be written");
        assert_eq!(entries(), 0, "the trial leaves nothing");
        output.write(b"first").expect("written");
        let output = Output::check("--json", &path).expect("it can be replaced");
        assert_eq!(fs::read(&path).expect("there"), b"first");
        output.write(b"second").expect("written");
        assert_eq!((fs::read(&path).expect("there"), entries()), (b"second".to_vec(), 1));
    }

    #[test]
    fn what_can_not_be_written_is_told_with_its_option_and_leaves_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        for path in [folder.path().to_owned(), inner.join("report.html")] {
            let error = format!("{:#}", Output::check("--html", &path).expect_err("impossible"));
            assert!(error.starts_with(&format!("--html {}: ", path.display())), "{error}");
        }
        fs::create_dir(&inner).expect("made");
        let output = Output::check("--html", &inner.join("report.html")).expect("now it can");
        fs::remove_dir(&inner).expect("removed");
        let error = format!("{:#}", output.write(b"x").expect_err("the folder is gone"));
        assert!(error.contains("report.html: not written: no file can be made in"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let output = Output::check("--json", Path::new("/dev/null")).expect("it can be written");
        output.write(b"x").expect("written");
        assert!(!fs::metadata("/dev/null").expect("there").is_file());
    }
}
