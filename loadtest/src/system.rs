//! The system's own accounting of processes, and limits and cores for them.
//!
//! Linux only: `/proc/PID/…` (proc(5)) and per-process CPU clocks (clock_getcpuclockid(3)).

pub(crate) mod child;
pub(crate) mod interrupt;

use std::fs;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// A process and everything below it, as it stands now, by process id.
pub(crate) fn tree(root: Pid) -> anyhow::Result<Vec<Pid>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry.context("/proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process may end between the listing and this; then it is not of the tree.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(parent) = parent_of(&stat) {
            parents.push((pid, parent));
        }
    }
    let mut tree = vec![root.as_raw()];
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        next += 1;
    }
    Ok(tree.into_iter().map(Pid::from_raw).collect())
}

/// The fourth field of `/proc/PID/stat`. The second, the name in brackets, may hold anything.
fn parent_of(stat: &str) -> Option<i32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// CPU time, user and system, that these processes have used, to the nanosecond.
///
/// The clock counts threads that have ended too, and the time of one that runs right now, where
/// utime and stime of `/proc/PID/stat` come in hundredths of a second.
pub(crate) fn cpu_time(processes: &[Pid]) -> anyhow::Result<Duration> {
    let mut sum = Duration::ZERO;
    for pid in processes {
        let clock = clock_getcpuclockid(*pid).with_context(|| format!("process {pid}"))?;
        sum += Duration::from(clock_gettime(clock).with_context(|| format!("process {pid}"))?);
    }
    Ok(sum)
}

/// CPU time of a process and everything below it, with that of children that have ended: those
/// are known to a hundredth of a second each, the living to the nanosecond.
pub(crate) fn cpu_time_with_ended(root: Pid) -> anyhow::Result<Duration> {
    /// How often a tree is looked at anew because one of its processes ended meanwhile.
    const TRIES: u32 = 10;
    let ticks = sysconf(SysconfVar::CLK_TCK).context("clock ticks")?.context("clock ticks")?;
    let mut tried = 0;
    loop {
        let of_tree = || -> anyhow::Result<Duration> {
            let tree = tree(root)?;
            let mut sum = cpu_time(&tree)?;
            for pid in tree {
                let path = format!("/proc/{pid}/stat");
                let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
                let ended = ended_ticks(&stat).with_context(|| path.clone())?;
                sum += Duration::from_secs_f64(ended as f64 / ticks as f64);
            }
            Ok(sum)
        };
        tried += 1;
        match of_tree() {
            Err(_) if tried < TRIES => {}
            sum => return sum,
        }
    }
}

/// The 16th and 17th field of `/proc/PID/stat`: user and system time of children waited for.
fn ended_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(13);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// CPU time of this process.
pub(crate) fn own_cpu_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("own CPU time")?;
    Ok(Duration::from(time))
}

/// Time for which the calling thread has run, or waited for a core to run on (schedstat of proc(5));
/// none where the system does not count it.
pub(crate) fn wanted_core() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let mut fields = text.split_ascii_whitespace();
    let waited: u64 = fields.nth(1)?.parse().ok()?;
    // The first field lags behind while the thread runs; the clock does not.
    let ran = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(Duration::from(ran) + Duration::from_nanos(waited))
}

/// Memory of some processes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Memory {
    /// Resident pages, those shared with another process counted in each.
    pub(crate) rss: u64,
    /// Resident pages, shared ones divided by the number of their users.
    pub(crate) pss: u64,
}

/// Memory of these processes. Buffers in the kernel are not part of it.
pub(crate) fn memory(processes: &[Pid]) -> anyhow::Result<Memory> {
    let mut sum = Memory::default();
    for pid in processes {
        let path = format!("/proc/{pid}/smaps_rollup");
        let rollup = fs::read_to_string(&path).with_context(|| path.clone())?;
        let field = |name| smaps_field(&rollup, name).with_context(|| format!("{path}: {name}"));
        sum.rss += field("Rss:")?;
        sum.pss += field("Pss:")?;
    }
    Ok(sum)
}

/// The most memory that a process has had resident, in bytes.
pub(crate) fn peak_memory(process: Pid) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    smaps_field(&status, "VmHWM:").with_context(|| format!("{path}: VmHWM"))
}

fn smaps_field(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Cores of this machine that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The numbers of the cores that this process may use.
pub(crate) fn usable_cores() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("the cores of this process")?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

/// Ports that connections from one address to another may begin at, by the kernel's setting.
pub(crate) fn local_ports() -> anyhow::Result<u64> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let range = fs::read_to_string(PATH).context(PATH)?;
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Ok(last - first + 1),
        _ => bail!("{PATH}: {range:?}"),
    }
}

/// Keeps the calling thread, and processes that it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core).with_context(|| format!("core {core}: no such core"))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("core {core}: can't be used; there are {}", cores()))
}

/// Raises the limit of open files as far as this user may; returns the new limit.
pub(crate) fn raise_open_files() -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("limit of open files")?;
    Ok(hard)
}

/// Raises the limit of open files to what a run needs; says what to do if that can't be.
pub(crate) fn require_open_files(needed: u64) -> anyhow::Result<()> {
    let limit = raise_open_files()?;
    // The hard limit can be raised by root only.
    if limit < needed && setrlimit(Resource::RLIMIT_NOFILE, needed, needed).is_err() {
        bail!(
            "{needed} open files are needed, {limit} are allowed: raise the hard limit \
             (`ulimit -Hn {needed}` as root, or LimitNOFILE= of the service), or use fewer connections"
        );
    }
    Ok(())
}

/// One line on the machine: processor, cores, kernel.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {} cores, Linux {}", cores(), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_process_name() {
        assert_eq!(parent_of("7 (a) b) (c) S 42 7 7 0 -1"), Some(42));
        assert_eq!(parent_of("7 (a"), None);
    }

    #[test]
    fn the_time_of_ended_children_is_read_behind_any_process_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 10 20 30 40 5 6 700 80 20 0 1 0";
        assert_eq!(ended_ticks(stat), Some(780));
        assert_eq!(ended_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn a_child_is_in_the_tree_and_its_cpu_time_and_memory_are_seen() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .expect("sh starts");
        let pid = Pid::from_raw(child.id().cast_signed());
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let mut used = Duration::ZERO;
        while used < Duration::from_millis(20) && std::time::Instant::now() < deadline {
            used = cpu_time(&[pid]).expect("clock of the child");
            std::thread::yield_now();
        }
        let found = tree(Pid::this()).expect("tree");
        let memory = memory(&[pid]).expect("memory");
        child.kill().expect("the child is ended");
        child.wait().expect("the child has ended");
        assert!(used >= Duration::from_millis(20), "{used:?}");
        assert!(found.contains(&pid), "{pid} is not in {found:?}");
        assert!(memory.pss > 0 && memory.rss >= memory.pss, "{memory:?}");
    }

    #[test]
    fn memory_fields_are_in_bytes() {
        assert_eq!(smaps_field("x\nRss:      12 kB\nPss:  7 kB\n", "Pss:"), Some(7168));
        assert_eq!(smaps_field("Rss: 12 kB\n", "Pss:"), None);
    }
}
