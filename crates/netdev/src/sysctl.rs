//! Kernel settings under `/proc/sys`, or what [`PLACE`] names.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The environment variable that names another place for `/proc/sys`: in a container that can't be
/// written, and the host's stands elsewhere.
pub const PLACE: &str = "TIDEGATE_PROC_SYS";

/// The name of a setting, as `net.ipv4.ip_forward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Vec<String>);

impl Key {
    /// By its dotted name, which names no interface.
    pub fn new(name: &str) -> Self {
        Self(name.split('.').map(str::to_owned).collect())
    }

    /// A setting of one interface (or of `all`, `default`), whose name may have dots:
    /// `net.ipv4.conf.INTERFACE.rp_filter`.
    pub fn of_interface(family: Family, interface: &str, name: &str) -> Self {
        Self(["net", family.name(), "conf", interface, name].map(str::to_owned).to_vec())
    }

    fn file(&self) -> PathBuf {
        let mut file = place(env::var_os(PLACE));
        file.extend(&self.0);
        file
    }
}

impl fmt::Display for Key {
    /// As sysctl(8) has it: a dot within a part is a slash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|part| part.replace('.', "/")).collect();
        f.write_str(&parts.join("."))
    }
}

/// Which protocol's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `net.ipv4`
    V4,
    /// `net.ipv6`
    V6,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// `net.ipv4.ip_forward`
pub fn forwarding_v4() -> Key {
    Key::new("net.ipv4.ip_forward")
}

/// `net.ipv6.conf.all.forwarding`
pub fn forwarding_v6() -> Key {
    Key::new("net.ipv6.conf.all.forwarding")
}

/// A setting that can't be read or made.
#[derive(Debug, Error)]
pub enum SysctlError {
    /// It can't be read.
    #[error("{key} can't be read: {source}; {}", absent(.source))]
    Read {
        /// Its name.
        key: Key,
        /// The reason.
        source: io::Error,
    },
    /// It can't be set.
    #[error("{key} can't be set to `{value}`: {source}; {}", unwritable(.source, .key, .value))]
    Set {
        /// Its name.
        key: Key,
        /// What it was to be.
        value: String,
        /// The reason.
        source: io::Error,
    },
}

/// What it is.
///
/// # Errors
/// [`SysctlError::Read`].
pub fn read(key: &Key) -> Result<String, SysctlError> {
    fs::read_to_string(key.file())
        .map(|value| value.trim_end().to_owned())
        .map_err(|source| SysctlError::Read { key: key.clone(), source })
}

/// Makes it so, and tells what it was; one that is so already isn't written.
///
/// # Errors
/// Both.
pub fn set(key: &Key, value: &str) -> Result<String, SysctlError> {
    let before = read(key)?;
    if before != value {
        fs::write(key.file(), value).map_err(|source| SysctlError::Set {
            key: key.clone(),
            value: value.to_owned(),
            source,
        })?;
    }
    Ok(before)
}

fn place(named: Option<OsString>) -> PathBuf {
    PathBuf::from(named.filter(|path| !path.is_empty()).unwrap_or_else(|| "/proc/sys".into()))
}

fn absent(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => {
            "the kernel has no such setting (IPv6 may be off), or the interface is gone"
        }
        _ => "check that /proc is mounted and may be read",
    }
}

fn unwritable(source: &io::Error, key: &Key, value: &str) -> String {
    let by_hand = format!("`sysctl -w {key}={value}`");
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("run as root with /proc/sys writable, or set it beforehand: {by_hand}")
        }
        _ => format!("set it beforehand: {by_hand}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_place_counts_unless_it_is_empty() {
        let named = |path: &str| place(Some(path.into()));
        assert_eq!(named("/host/proc/sys"), PathBuf::from("/host/proc/sys"));
        assert_eq!(named(""), PathBuf::from("/proc/sys"));
        assert_eq!(place(None), PathBuf::from("/proc/sys"));
    }

    #[test]
    fn a_missing_setting_is_named() {
        let key = Key::of_interface(Family::V4, "eth0.100", "rp_filter");
        let error = read(&key).unwrap_err().to_string();
        assert!(error.contains("net.ipv4.conf.eth0/100.rp_filter"), "{error}");
        assert!(error.contains("interface is gone"), "{error}");
    }
}
