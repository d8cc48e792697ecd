//! One run of `nft`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{NftError, Own, error};
use crate::wait;

/// Runs it to its end, or to the end of its time; its output. A transaction is noted with those
/// of our own.
pub(super) fn run(
    program: &Path,
    args: &[&str],
    input: &str,
    timeout: Duration,
    own: Option<&Own>,
) -> Result<Vec<u8>, NftError> {
    let failed = |source| NftError::Start { program: program.to_owned(), source };
    let deadline = Instant::now() + timeout;
    let mut command = Command::new(program);
    command
        .args(args)
        .env("LC_ALL", "C")
        // A large table takes hundreds of megabytes there for a moment: in huge pages, if the
        // kernel gives any, that is a tenth of the time less (glibc 2.35 and later).
        .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
        .stdin(file_of(input).map_err(failed)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = match own {
        Some(own) => own.start(&mut command),
        None => command.spawn(),
    };
    let mut child = child.map_err(failed)?;
    let ended = outputs(&mut child, deadline)
        .and_then(|outputs| Ok((outputs, ended(&mut child, deadline)?)));
    match ended {
        Ok(((output, _), status)) if status.success() => Ok(output),
        Ok(((_, errors), _)) => {
            // Nothing has changed, so nothing will be notified of.
            own.map(|own| own.take(child.id()));
            Err(error::read(&String::from_utf8_lossy(&errors), input))
        }
        Err(source) => {
            // Whether it is there still or not: afterwards it isn't.
            let _ = child.kill();
            let _ = child.wait();
            Err(match source.kind() {
                io::ErrorKind::TimedOut => NftError::TimedOut { after: timeout },
                _ => failed(source),
            })
        }
    }
}

/// A file in memory, read from its beginning.
fn file_of(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("nft", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// All that comes on stdout and stderr until both are closed.
fn outputs(child: &mut Child, deadline: Instant) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (mut more_output, mut more_errors) = (true, true);
    while more_output || more_errors {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut polled = Vec::with_capacity(2);
        if more_output {
            polled.push(PollFd::new(stdout.as_fd(), PollFlags::POLLIN));
        }
        if more_errors {
            polled.push(PollFd::new(stderr.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut polled, wait::limit(Some(left))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = polled.iter().map(|fd| fd.any().unwrap_or(true));
        let output_ready = more_output && ready.next() == Some(true);
        let errors_ready = more_errors && ready.next() == Some(true);
        // One read of a pipe with something in it, or without a writer, doesn't block.
        if output_ready {
            more_output = read_some(&mut stdout, &mut output)?;
        }
        if errors_ready {
            more_errors = read_some(&mut stderr, &mut errors)?;
        }
    }
    Ok((output, errors))
}

/// Reads once; whether there may be more.
fn read_some(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 64 * 1024];
    match from.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            into.extend_from_slice(&buffer[..length]);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}

/// Its end, which follows that of its output at once.
fn ended(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
