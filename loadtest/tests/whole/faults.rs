//! Faults in the middle of a run, and what its summary says of them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::shared::{LOADTEST, eventually, run_scenario};

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

/// A scenario whose party is a backend, with these faults.
fn scenario(address: SocketAddr, faults: &str, more: &str) -> String {
    format!(
        "parties:\n\
         - name: origin\n  \
           command: [{LOADTEST}, backend, --listen, \"{address}\"]\n  \
           addresses: [\"{address}\"]\n\
         faults: [{faults}]\n\
         target: {{url: \"http://{address}/\"}}\n\
         load: {{open: {{rate: 200, connections: 8, maxConnections: 256}}}}\n\
         {more}\n"
    )
}

#[test]
fn the_summary_says_what_clients_saw_of_each_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("faults.yaml");
    let faults = "{at: 1500ms, party: origin, action: kill, for: 400ms}, \
                  {at: 3500ms, party: origin, action: pause, for: 400ms}, \
                  {at: 5500ms, party: origin, action: restart}";
    let more = "duration: 7500ms\nslice: 100ms\nretries: {times: 5, on: [connect, closed]}\n\
                limits: {failures: 90%}";
    fs::write(&path, scenario(free_address(), faults, more)).expect("written");
    let (report, text) = run_scenario(&path, &[]);
    let events = report["events"].as_array().expect("events");
    let happened: Vec<&str> = events
        .iter()
        .filter_map(|event| event["what"].as_str())
        .filter(|what| what.starts_with("fault"))
        .collect();
    assert_eq!(
        happened,
        [
            "fault: origin killed",
            "fault over: origin started again",
            "fault: origin paused",
            "fault over: origin continued",
            "fault: origin restarting",
            "fault over: origin started again",
        ]
    );
    let total = |field: &str| report["total"][field].as_u64().expect("a count");
    assert_eq!(total("succeeded") + total("failed"), 1500, "{report}");
    // It was down for longer than the tries of most take, but not for those of the last ones.
    assert!(total("failed") >= 40, "{report}");
    assert!(total("retried") >= 1, "{report}");
    let slowest = |from: f64, to: f64| {
        let series = report["series"].as_array().expect("a series").iter();
        let within = series.filter(|slice| {
            let at = slice["at"].as_f64().expect("a time");
            (from..to).contains(&at)
        });
        within.filter_map(|slice| slice["max_us"].as_f64()).fold(0.0, f64::max)
    };
    // What was due when it was paused waited for all of it.
    assert!(slowest(3.4, 4.0) >= 380e3, "{report}");
    for fault in ["origin killed", "origin paused", "origin restarting"] {
        let row = text.lines().find(|line| line.trim_start().starts_with(fault));
        let row = row.unwrap_or_else(|| panic!("no {fault}:\n{text}"));
        assert!(row.contains("normal"), "{row}");
    }
    let retried = format!("{} operations of the run were tried again", total("retried"));
    assert!(text.replace(',', "").contains(&retried), "{retried}: {text}");
}

#[test]
fn a_scenarios_party_is_killed_and_comes_back() {
    let address = free_address();
    let text = include_str!("../../scenarios/kill-the-backend.yaml")
        .replace("127.0.0.1:8000", &address.to_string())
        .replace("[loadtest,", &format!("[{LOADTEST},"))
        .replace("failures: 10%", "failures: 90%");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kill.yaml");
    fs::write(&path, text).expect("written");
    let (report, _) = run_scenario(&path, &["--seconds", "2"]);
    let events = report["events"].as_array().expect("events");
    let happened: Vec<&str> = events.iter().filter_map(|event| event["what"].as_str()).collect();
    assert!(happened.iter().any(|what| what.starts_with("fault: backend")), "{happened:?}");
    assert!(happened.iter().any(|what| what.starts_with("fault over: backend")), "{happened:?}");
    let total = &report["total"];
    let sum = total["succeeded"].as_u64().expect("one") + total["failed"].as_u64().expect("one");
    assert_eq!(sum, 1000, "{total}");
}

/// A process's state letter (proc(5)); nothing if there is no such process.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_paused_program_ends_with_loadtest_even_if_that_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pause.yaml");
    let faults = "{at: 100ms, party: origin, action: pause, for: 50s}";
    fs::write(&path, scenario(free_address(), faults, "duration: 60s")).expect("written");
    let mut run = Command::new(LOADTEST)
        .arg("run")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("loadtest starts");
    let own = run.id().cast_signed();
    let mut party = None;
    eventually("the party is not paused", || {
        party = children(own).into_iter().find(|pid| state(*pid) == Some('T'));
        party.is_some()
    });
    let party = party.expect("a process");
    run.kill().expect("killed");
    run.wait().expect("ended");
    // A process that nobody waits for any more may stay as its number alone.
    let ended = || matches!(state(party), None | Some('Z' | 'X'));
    let start = std::time::Instant::now();
    while !ended() && start.elapsed() < crate::shared::PATIENCE {
        std::thread::yield_now();
    }
    let was = state(party);
    let has_ended = ended();
    if !has_ended {
        let _ = kill(Pid::from_raw(party), Signal::SIGKILL);
    }
    assert!(has_ended, "{was:?}");
}

#[test]
fn faults_of_nobody_are_refused_before_there_is_any_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nobody.yaml");
    let faults = "{at: 100ms, party: orign, action: pause}";
    fs::write(&path, scenario(free_address(), faults, "duration: 1s")).expect("written");
    let output = crate::shared::loadtest(&["run", path.to_str().expect("UTF-8")]);
    let said = crate::shared::said(&output.stderr);
    assert!(!output.status.success() && said.contains("orign"), "{said}");
}
