//! `loadtest run` with scenarios, against the program's own backend and servers of this file.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::shared::{Backend, LOADTEST, eventually, loadtest, run_scenario, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Writes a scenario, runs it, and reads its report.
fn report(text: &str, flags: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("scenario.yaml");
    fs::write(&scenario, text).expect("written");
    run_scenario(&scenario, flags).0
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// HTTP requests that a backend has answered, this question aside.
fn count(backend: &Backend) -> u64 {
    backend.counts()["requests"].as_u64().expect("a count") - 1
}

#[track_caller]
fn assert_refused(text: &str, expected: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("scenario.yaml");
    fs::write(&scenario, text).expect("written");
    let began = Instant::now();
    let output = loadtest(&["run", scenario.to_str().expect("UTF-8")]);
    let said = said(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}: {said}", began.elapsed());
    for part in expected {
        assert!(said.contains(part), "{said}\ndoes not have\n{part}");
    }
}

#[test]
fn the_scenarios_for_http1_run_against_the_backend_and_count_as_it_does() {
    for name in ["http1-closed", "http1-open-rate", "mix-of-sites", "spike"] {
        let backend = Backend::start();
        let connect = backend.address.to_string();
        let scenario = scenarios().join(format!("{name}.yaml"));
        // The limits are for a machine that does nothing else.
        let text = fs::read_to_string(&scenario).expect("a scenario");
        let text: String = text
            .lines()
            .filter(|line| !line.starts_with("limits:"))
            .map(|l| format!("{l}\n"))
            .collect();
        let report = report(&text, &["--seconds", "0.6", "--connect", &connect]);
        let phases = report["phases"].as_array().expect("phases");
        let all: u64 =
            phases.iter().map(|phase| phase["succeeded"].as_u64().expect("a count")).sum();
        assert_eq!(report["total"]["failed"], 0, "{name}: {report}");
        assert!(all > 0);
        assert_eq!(all, count(&backend), "{name}");
        assert_eq!(report["kind"], "run");
        let series = report["series"].as_array().expect("a series");
        let in_series: u64 = series.iter().map(|s| s["succeeded"].as_u64().expect("one")).sum();
        assert_eq!(in_series, all, "{name}");
    }
}

#[test]
fn weights_digests_backends_and_processes_stand_in_the_report() {
    let backend = Backend::start();
    let address = backend.address;
    let text = fs::read_to_string(scenarios().join("mix-of-sites.yaml")).expect("a scenario");
    let text = format!("{text}\nprocesses: [{{name: target, listens: \"{address}\"}}]\n");
    let report = report(&text, &["--seconds", "0.8", "--connect", &address.to_string()]);
    let counts: Vec<u64> = report["mix"]
        .as_array()
        .expect("a mix")
        .iter()
        .map(|entry| entry["succeeded"].as_u64().expect("a count"))
        .collect();
    assert_eq!(counts, [240, 100, 40, 20]);
    assert_eq!(report["backends"]["tested"], 240);
    let processes = report["processes"].as_array().expect("processes");
    assert_eq!(
        (&processes[0]["name"], &processes[1]["name"]),
        (&"generator".into(), &"target".into())
    );
    for process in processes {
        assert!(process["cpu_seconds"].as_f64().expect("a time") > 0.0, "{process}");
        assert!(process["peak_pss"].as_u64().expect("bytes") > 0, "{process}");
    }
}

#[test]
fn connections_that_are_only_held_while_it_counts_are_no_failure() {
    let backend = Backend::start();
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("scenario.yaml");
    let text = format!(
        "target: {{url: \"http://{}/\"}}\nload: {{idle: {{connections: 20, refresh: 60s}}}}\n\
         phases:\n\
         - {{name: opening, duration: 1s, counted: false}}\n\
         - {{name: held, duration: 300ms}}\n",
        backend.address
    );
    fs::write(&scenario, text).expect("written");
    let output = loadtest(&["run", scenario.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

#[test]
fn idle_connections_are_held_and_refreshed() {
    let backend = Backend::start();
    let report = report(
        &format!(
            "target: {{url: \"http://{}/\", sources: [127.0.0.2-127.0.0.3]}}\n\
             load: {{idle: {{connections: 200, refresh: 200ms}}}}\nduration: 1s\n",
            backend.address
        ),
        &[],
    );
    assert_eq!((&report["connections"], &report["total"]["failed"]), (&200.into(), &0.into()));
    let answered = report["total"]["succeeded"].as_u64().expect("a count");
    assert!(answered >= 400, "{answered}");
    assert_eq!(answered, count(&backend));
}

#[test]
fn datagrams_are_counted_and_their_loss_told() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    // Every tenth is lost.
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        for number in 0_u64.. {
            let Ok((size, from)) = socket.recv_from(&mut buffer) else { return };
            if number % 10 != 9 {
                let _ = socket.send_to(&buffer[..size], from);
            }
        }
    });
    let text = fs::read_to_string(scenarios().join("udp.yaml")).expect("a scenario");
    let text = format!("{text}\nlimits: {{failures: 20%}}\n");
    let flags = ["--seconds", "0.5", "--rate", "1000", "--connect", &address];
    let report = report(&text, &flags);
    let count = |field: &str| report["total"][field].as_u64().expect("a count");
    let (back, lost) = (count("succeeded"), count("failed"));
    assert!((480..=520).contains(&(back + lost)), "{back} came back, {lost} did not");
    assert_eq!(lost, (back + lost) / 10, "{back} came back");
    assert_eq!(report["total"]["failures"]["lost"], lost);
}

#[test]
fn a_limit_that_is_not_kept_fails_the_run() {
    let backend = Backend::start();
    assert_refused(
        &format!(
            "target: {{url: \"http://{}/\"}}\nload: {{closed: {{connections: 1}}}}\n\
             duration: 300ms\nlimits: {{p50: 1us, rate: 10000000}}\n",
            backend.address
        ),
        &["p50 is ", "1µs are allowed", "operations a second; 10000000 are wanted"],
    );
}

#[test]
fn an_unknown_key_is_told_with_the_line_and_the_known_keys() {
    assert_refused(
        "target: {url: http://127.0.0.1:1/}\nload:\n  open: {rte: 5}\n",
        &["scenario.yaml:3: load.open.rte: unknown key; known here: rate, connections,"],
    );
}

#[test]
fn a_target_that_does_not_answer_ends_the_run_within_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    for load in ["{closed: {connections: 2}}", "{open: {rate: 10}}", "{idle: {connections: 5}}"] {
        assert_refused(
            &format!("target: {{url: \"http://{address}/\"}}\nload: {load}\nduration: 60s\n"),
            &[&address.to_string(), "refused", "start the target, or correct its address"],
        );
    }
}

#[test]
fn more_connections_than_files_or_ports_are_refused_with_what_to_do() {
    let text =
        "target: {url: http://127.0.0.1:1/}\nload: {idle: {connections: 1000000}}\nduration: 1s\n";
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("scenario.yaml");
    fs::write(&scenario, text).expect("written");
    let output = loadtest(&["run", scenario.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    // Where the limit of open files can be raised, ports are what is short.
    let said = said(&output.stderr);
    let files = said.contains("1000064 open files are needed") && said.contains("ulimit -Hn");
    let ports = said.contains("1000000 ports are needed") && said.contains("target.sources");
    assert!(files || ports, "{said}");
}

/// The state of a process, as /proc has it; nothing if there is none.
fn state(pid: i32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn a_signal_ends_a_run_with_its_faults_undone_and_its_report_written() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let backend = Backend::start();
        let party = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn();
        let mut party = party.expect("sleep starts");
        let pid = party.id().cast_signed();
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let text = format!(
            "parties: [{{name: asleep, pid: {pid}}}]\n\
             faults: [{{at: 200ms, party: asleep, action: pause, for: 50s}}]\n\
             target: {{url: \"http://{}/\"}}\nload: {{closed: {{connections: 2}}}}\n\
             phases: [{{name: first, duration: 40s}}, {{name: never, duration: 40s}}]\n",
            backend.address
        );
        fs::write(file("long.yaml"), text).expect("written");
        let run = Command::new(LOADTEST)
            .arg("run")
            .arg(file("long.yaml"))
            .arg("--json")
            .arg(file("report.json"))
            .arg("--html")
            .arg(file("report.html"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("loadtest runs");
        eventually("the party is not paused", || state(pid) == Some('T'));
        kill(Pid::from_raw(run.id().cast_signed()), signal).expect("sent");
        let output = run.wait_with_output().expect("ended");
        let is_stopped = state(pid) == Some('T');
        party.kill().expect("ended");
        party.wait().expect("ended");
        assert_eq!(output.status.code(), Some(130), "{signal}: {}", said(&output.stderr));
        assert!(!is_stopped, "{signal}: the party is left stopped");
        assert!(said(&output.stdout).contains("broken off after"), "{}", said(&output.stdout));
        let json = fs::read(file("report.json")).expect("a report");
        let report: Value = serde_json::from_slice(&json).expect("JSON");
        let note = report["notes"][0].as_str().expect("a note");
        assert!(note.starts_with("broken off after "), "{signal}: {note}");
        let seconds = report["seconds"].as_f64().expect("a time");
        assert!(seconds > 0.1 && seconds < 40.0, "{signal}: {seconds}");
        assert_eq!(report["phases"].as_array().map(Vec::len), Some(1), "{report}");
        assert!(report["total"]["succeeded"].as_u64() > Some(0), "{report}");
        let page = fs::read_to_string(file("report.html")).expect("a page");
        assert!(page.contains("broken off after "), "{signal}");
    }
}

#[test]
fn outputs_that_can_not_be_written_are_told_before_the_load() {
    let backend = Backend::start();
    let url = format!("http://{}/", backend.address);
    let output = loadtest(&["run", &url, "--seconds", "60", "--json", "/nowhere/report.json"]);
    let text = said(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("--json /nowhere/report.json: no file can be made in /nowhere"),
        "{text}"
    );
    assert_eq!(count(&backend), 0, "there was no load");
}

#[test]
fn the_table_is_printed_though_an_output_fails_in_the_end() {
    let backend = Backend::start();
    let url = format!("http://{}/", backend.address);
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let output = loadtest(
        &[
            &["run", &url, "--seconds", "0.2", "--json", "/dev/full", "--html"][..],
            &[page.to_str().expect("UTF-8")],
        ]
        .concat(),
    );
    let (table, text) = (said(&output.stdout), said(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("--json /dev/full: not written: No space left"), "{text}");
    assert!(table.contains("succeeded"), "{table}");
    assert!(fs::read_to_string(&page).expect("a page").contains("<html"), "the other is written");
}
