//! What can go wrong with `nft`, read from what it says.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::NetlinkError;

/// A call that failed.
#[derive(Debug, Error)]
pub enum NftError {
    /// The program isn't there.
    #[error(
        "the program `nft` is in none of {}; install it (package `nftables` on Debian, Ubuntu, \
         Fedora and Alpine, version 1.0.6 or later)",
        list(.folders)
    )]
    Missing {
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// The program doesn't start, or can't be talked to.
    #[error("{program}: {source}; check that it can be run and memory is left", program = .program.display())]
    Start {
        /// Its place.
        program: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The process may not change nftables.
    #[error(
        "nftables may not be changed by this process: {message}; give it CAP_NET_ADMIN in its \
         network namespace (run as root, or add the capability)"
    )]
    Permission {
        /// nft's own words.
        message: String,
    },
    /// The kernel has no such thing.
    #[error("the kernel lacks {what}: {message}; load its module, or run a kernel that has it")]
    Unsupported {
        /// What is missing.
        what: String,
        /// nft's own words.
        message: String,
    },
    /// The text was refused, nothing of it has been applied.
    #[error("nft refuses{}: {message}; {remedy}", on_line(.line))]
    Refused {
        /// The first line that it complains of.
        line: Option<Line>,
        /// nft's own words.
        message: String,
        /// What helps.
        remedy: &'static str,
    },
    /// It took too long and was ended.
    #[error(
        "nft took longer than {} s and was ended; another program may hold nftables, or the \
         machine is overloaded: look at what is applied before trying again",
        .after.as_secs()
    )]
    TimedOut {
        /// How long that was.
        after: Duration,
    },
    /// Its output is not JSON.
    #[error("nft {args}: output can't be read: {source}; is it version 1.0.6 or later with JSON?")]
    Output {
        /// Its arguments.
        args: String,
        /// The reason.
        source: serde_json::Error,
    },
    /// The kernel's notifications can't be had.
    #[error("nftables' changes can't be seen: {0}")]
    Netlink(#[from] NetlinkError),
}

/// A line of the text that was to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from one.
    pub number: usize,
    /// What stands in it, cut off where it is long.
    pub text: String,
}

impl NftError {
    /// Whether something that the text names isn't there: the table differs from what it was
    /// thought to be, or has not been loaded.
    pub fn is_not_there(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains(NOT_THERE))
    }

    /// In a check of what is there, a refusal means that the kernel lacks something.
    pub(super) fn missing(self, what: &str) -> Self {
        match self {
            Self::Refused { message, .. } | Self::Unsupported { message, .. } => {
                Self::Unsupported { what: what.to_owned(), message }
            }
            other => other,
        }
    }
}

const NOT_THERE: &str = "No such file or directory";
/// Longer lines (a thousand elements) are cut.
const LINE: usize = 200;
/// More of nft's words than this help nobody.
const MESSAGE: usize = 1_000;

/// What nft's words on stderr mean.
pub(super) fn read(stderr: &str, input: &str) -> NftError {
    let message = message(stderr);
    if message.contains("Operation not permitted") || message.contains("Permission denied") {
        return NftError::Permission { message };
    }
    let line = line_number(stderr).and_then(|number| {
        let text = input.lines().nth(number.checked_sub(1)?)?;
        Some(Line { number, text: shortened(text.trim(), LINE) })
    });
    let lacking = ["Operation not supported", "Protocol not supported", "Address family not"];
    if lacking.iter().any(|words| message.contains(words)) {
        let what = line.map_or("what the text needs".to_owned(), |line| {
            format!("what line {} needs (`{}`)", line.number, line.text)
        });
        return NftError::Unsupported { what, message };
    }
    let remedy = if message.contains("syntax error") {
        "nft is older than 1.0.6, or this is a fault of the gateway: please report it"
    } else if message.contains(NOT_THERE) {
        "the table is not as it was thought to be: load it whole"
    } else if message.contains("File exists") || message.contains("Device or resource busy") {
        "something of that name is there already: load the table whole"
    } else if message.contains("Message too long") || message.contains("No buffer space") {
        "raise net.core.wmem_max and net.core.rmem_max"
    } else if message.contains("Cannot allocate memory") {
        "the machine has no memory left for rules"
    } else {
        "nothing of it has been applied"
    };
    NftError::Refused { line, message, remedy }
}

/// The messages without the quoted text and its marks.
fn message(stderr: &str) -> String {
    let mut lines = Vec::new();
    for line in stderr.lines().map(str::trim_end) {
        if let Some(at) = line.find("Error: ") {
            lines.push(&line[at + "Error: ".len()..]);
        }
    }
    if lines.is_empty() {
        lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    }
    lines.dedup();
    match shortened(&lines.join("; "), MESSAGE) {
        message if message.is_empty() => "nft failed without a word".to_owned(),
        message => message,
    }
}

/// Of `/dev/stdin:3:1-20: Error: …`, the 3.
fn line_number(stderr: &str) -> Option<usize> {
    let line = stderr.lines().find(|line| line.contains("Error: "))?;
    let place = line.split(": ").next()?;
    place.split(':').nth(1)?.parse().ok()
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

struct OnLine<'a>(&'a Line);

impl fmt::Display for OnLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " line {} (`{}`)", self.0.number, self.0.text)
    }
}

fn on_line(line: &Option<Line>) -> String {
    line.as_ref().map(|line| OnLine(line).to_string()).unwrap_or_default()
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_reasons_are_told_apart() {
        let input = "table inet a {\n flowtable f\n}\n";
        let said = |reason: &str| {
            let text = format!(
                "/dev/stdin:2:2-10: Error: Could not process rule: {reason}\n flowtable f\n ^^^^^\n"
            );
            read(&text, input)
        };
        assert!(matches!(said("Operation not permitted"), NftError::Permission { .. }));
        let lacking = said("Operation not supported").to_string();
        assert!(lacking.contains("line 2") && lacking.contains("flowtable f"), "{lacking}");
        let gone = said("No such file or directory");
        assert!(gone.is_not_there() && gone.to_string().contains("load it whole"), "{gone}");
        assert!(said("File exists").to_string().contains("there already"));
        assert!(said("Message too long").to_string().contains("net.core.wmem_max"));
    }

    #[test]
    fn words_without_a_place_are_kept() {
        let error = read("netlink: Error: cache initialization failed: Bad address\n", "");
        let NftError::Refused { line: None, message, .. } = &error else { panic!("{error:?}") };
        assert_eq!(message, "cache initialization failed: Bad address");
        assert!(read("", "").to_string().contains("without a word"));
        assert!(read("Killed\n", "").to_string().contains("Killed"));
    }

    #[test]
    fn what_is_long_is_cut() {
        let text = format!("{}: {}", "/dev/stdin:1:1-1", "Error: é".repeat(2_000));
        let NftError::Refused { line: Some(line), message, .. } = read(&text, &"ü".repeat(500))
        else {
            panic!("{text}");
        };
        assert_eq!((line.text.chars().count(), message.chars().count()), (201, 1_001));
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = NftError::Missing { folders: vec!["/usr/bin".into(), "/usr/sbin".into()] };
        let text = error.to_string();
        assert!(text.contains("/usr/bin, /usr/sbin") && text.contains("`nftables`"), "{text}");
    }
}
