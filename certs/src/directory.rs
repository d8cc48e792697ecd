//! The CA and its leaf certificates in a folder.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::authority::{Authority, Leaf, LeafRequest};
use crate::error::Error;

const AUTHORITY_NAME: &str = "Tidegate development CA";
const PUBLIC_MODE: u32 = 0o644;
const PRIVATE_MODE: u32 = 0o600;

/// A folder with a CA in it: `ca.pem` and `ca.key`, and a `.pem` and `.key` for every leaf.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    authority: Authority,
    made_authority: bool,
}

/// Where a leaf was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key, readable by its owner alone.
    pub key: PathBuf,
}

impl Directory {
    /// Goes on with the CA in the folder, or makes the folder (mode 0700) and a new CA.
    ///
    /// # Errors
    /// [`Error::HalfAuthority`] if one of the CA's two files is missing, [`Error::File`],
    /// [`Error::X509`] and [`Error::Mismatch`] if they can't be used.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| Error::File { path: path.clone(), source })?;
        let (certificate, key) = (path.join("ca.pem"), path.join("ca.key"));
        let (authority, made_authority) = match (read(&certificate)?, read(&key)?) {
            (Some(certificate), Some(key)) => (Authority::from_pem(&certificate, &key)?, false),
            (Some(_), None) => {
                return Err(Error::HalfAuthority { present: certificate, missing: key });
            }
            (None, Some(_)) => {
                return Err(Error::HalfAuthority { present: key, missing: certificate });
            }
            (None, None) => {
                let authority = Authority::new(AUTHORITY_NAME)?;
                write(&key, &authority.key_pem(), PRIVATE_MODE)?;
                write(&certificate, authority.certificate_pem(), PUBLIC_MODE)?;
                (authority, true)
            }
        };
        Ok(Self { path, authority, made_authority })
    }

    /// Issues a leaf and writes it under its first name, in place of an older one.
    ///
    /// # Errors
    /// Those of [`Authority::issue`], and [`Error::File`].
    pub fn issue(&self, request: &LeafRequest) -> Result<(Leaf, LeafFiles), Error> {
        let leaf = self.authority.issue(request)?;
        let stem = request.names().first().ok_or(Error::NoName)?.file_stem();
        let files = LeafFiles {
            certificate: self.path.join(format!("{stem}.pem")),
            key: self.path.join(format!("{stem}.key")),
        };
        write(&files.key, &leaf.key_pem(), PRIVATE_MODE)?;
        write(&files.certificate, leaf.certificate_pem(), PUBLIC_MODE)?;
        Ok((leaf, files))
    }

    /// The CA.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether [`Directory::open`] made the CA, rather than finding it.
    pub fn made_authority(&self) -> bool {
        self.made_authority
    }

    /// Where the CA's certificate lies.
    pub fn authority_certificate(&self) -> PathBuf {
        self.path.join("ca.pem")
    }
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path: path.to_owned(), source }),
    }
}

/// Writes a new file beside the old one and renames it into place: no reader ever sees half a
/// file, and the mode holds even where an older file with another one stood.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let attempt = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(|source| {
        // The temporary file may hold a key; whether it is there at all depends on the step.
        let _ = fs::remove_file(&temporary);
        Error::File { path: path.to_owned(), source }
    })
}
