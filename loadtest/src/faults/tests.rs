use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::*;

/// Where a child of a test serves: its own tests, run as a program of its own, are the party.
const SERVE_AT: &str = "LOADTEST_TEST_SERVE_AT";
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a test: what the parties of the tests below run.
#[test]
#[ignore = "run by other tests as a program of its own"]
fn serve() {
    if let Ok(address) = std::env::var(SERVE_AT) {
        let arguments = crate::cli::Backend {
            listen: address.parse().expect("an address"),
            tcp_echo: None,
            udp_echo: None,
            name: "party".to_owned(),
            announce: None,
        };
        crate::backend::serve(&arguments).expect("serves");
    }
}

fn own(test: &str) -> Vec<String> {
    let own = std::env::current_exe().expect("own path").display().to_string();
    [&own, "--exact", &format!("faults::tests::{test}"), "--ignored", "--nocapture"]
        .map(str::to_owned)
        .to_vec()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

fn server(address: SocketAddr) -> Vec<String> {
    ["env".to_owned(), format!("{SERVE_AT}={address}")].into_iter().chain(own("serve")).collect()
}

fn forms<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("the form")
}

fn plan(parties: serde_json::Value, faults: serde_json::Value) -> anyhow::Result<Plan> {
    Plan::parse(forms(parties), forms(faults))
}

/// Whether a request is answered within so long.
fn answers(address: SocketAddr, within: Duration) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, within)?;
        stream.set_read_timeout(Some(within))?;
        stream.write_all(b"GET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// Ticks at the moments that the stage asks for until an event says this.
fn tick_until(stage: &mut Stage, start: Instant, said: &str) -> Vec<String> {
    let mut all = Vec::new();
    while !all.iter().any(|what: &String| what.starts_with(said)) {
        assert!(start.elapsed() < PATIENCE, "no {said:?} but {all:?}");
        let due = stage.next_due().unwrap_or_default();
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        all.extend(stage.tick(start.elapsed()).into_iter().map(|event| event.what));
    }
    all
}

fn state(pid: nix::unistd::Pid) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, behind) = stat.rsplit_once(')').unwrap_or_default();
    behind.trim().chars().take(1).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_party_is_gone_and_is_started_again_after_its_time() {
    let (folder, address) = (tempfile::tempdir().expect("folder"), free_address());
    let parties = serde_json::json!([
        {"name": "origin", "command": server(address), "addresses": [address.to_string()]}
    ]);
    let faults =
        serde_json::json!([{"at": "10ms", "party": "origin", "action": "kill", "for": "300ms"}]);
    let plan = plan(parties, faults).expect("a plan");
    let mut stage = Stage::start(plan, folder.path()).expect("a stage");
    assert!(answers(address, PATIENCE));
    let first = stage.process("origin").expect("a process");
    let start = Instant::now();
    assert!(stage.tick(Duration::ZERO).is_empty());
    assert_eq!(tick_until(&mut stage, start, BEGINS), ["fault: origin killed"]);
    eventually("it still answers", || !answers(address, Duration::from_millis(100)));
    let said = tick_until(&mut stage, start, NEWS);
    assert!(start.elapsed() >= Duration::from_millis(310), "too early");
    assert_eq!(said[0], "fault over: origin started again");
    assert_eq!(said[1], format!("party: origin accepts connections at {address}"));
    assert!(answers(address, PATIENCE));
    assert_ne!(stage.process("origin").expect("a process"), first);
    assert_eq!(stage.next_due(), None);
    let last = stage.process("origin").expect("a process");
    assert_eq!(stage.finish().expect("undone"), Vec::<String>::new());
    assert_eq!(state(last), "", "it was left running");
}

#[test]
fn a_restarted_party_ends_on_its_own_and_starts_again() {
    let folder = tempfile::tempdir().expect("folder");
    let script = "echo up; trap 'echo ending; exit 0' TERM; while :; do sleep 0.02; done";
    let parties = serde_json::json!([{"name": "a", "command": ["sh", "-c", script]}]);
    let faults = serde_json::json!([{"at": "200ms", "party": "a", "action": "restart"}]);
    let mut stage =
        Stage::start(plan(parties, faults).expect("a plan"), folder.path()).expect("a stage");
    let log = || std::fs::read_to_string(folder.path().join("a.log")).unwrap_or_default();
    eventually("it does not come up", || log() == "up\n");
    let start = Instant::now();
    tick_until(&mut stage, start, IS_OVER);
    eventually("it was not ended in order", || log() == "up\nending\nup\n");
    drop(stage);
    assert_eq!(log(), "up\nending\nup\nending\n");
}

/// A child of the test that is no child of the stage.
struct Stranger(Child);

impl Stranger {
    fn start() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done & while :; do :; done"]);
        Self(command.stdin(Stdio::null()).spawn().expect("sh"))
    }

    fn tree(&self) -> Vec<nix::unistd::Pid> {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        crate::system::tree(pid).expect("a tree")
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        for pid in self.tree() {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

#[test]
fn a_paused_party_stands_still_with_all_its_children_and_goes_on_whatever_happens() {
    let (folder, stranger) = (tempfile::tempdir().expect("folder"), Stranger::start());
    eventually("no child of its own", || stranger.tree().len() == 2);
    let tree = stranger.tree();
    let parties = serde_json::json!([{"name": "a", "pid": stranger.0.id()}]);
    let faults = serde_json::json!([{"at": "0s", "party": "a", "action": "pause"}]);
    let mut stage =
        Stage::start(plan(parties, faults).expect("a plan"), folder.path()).expect("a stage");
    assert_eq!(stage.tick(Duration::ZERO)[0].what, "fault: a paused");
    eventually("it runs on", || tree.iter().all(|pid| state(*pid) == "T"));
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _stage = stage;
        panic!("a run that breaks");
    }));
    assert!(broken.is_err());
    eventually("it stands still", || tree.iter().all(|pid| state(*pid) == "R"));
}

#[test]
fn a_slowed_party_gets_its_share_of_cpu_and_then_all_of_it() {
    let (folder, stranger) = (tempfile::tempdir().expect("folder"), Stranger::start());
    let pidfile = folder.path().join("pid");
    std::fs::write(&pidfile, format!("{}\n", stranger.0.id())).expect("a pidfile");
    let parties = serde_json::json!([{"name": "a", "pidfile": pidfile}]);
    let faults = serde_json::json!([
        {"at": "0s", "party": "a", "action": "slow", "share": 0.1, "for": "2s"}
    ]);
    let mut stage =
        Stage::start(plan(parties, faults).expect("a plan"), folder.path()).expect("a stage");
    let (start, mut ran, mut looks) = (Instant::now(), 0, 0);
    let mut said = Vec::new();
    let mut last = start;
    let mut running = Duration::ZERO;
    while !said.iter().any(|what: &String| what.starts_with(IS_OVER)) {
        assert!(start.elapsed() < PATIENCE, "{said:?}");
        let due = stage.next_due().unwrap_or_default();
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        // Seen before each turn: what it did since the turn before.
        if matches!(state(stranger.tree()[0]).as_str(), "R" | "S") {
            ran += 1;
            running += last.elapsed();
        }
        looks += 1;
        last = Instant::now();
        said.extend(stage.tick(start.elapsed()).into_iter().map(|event| event.what));
    }
    let share = running.as_secs_f64() / start.elapsed().as_secs_f64();
    assert!((0.05..0.25).contains(&share), "{share}, {ran} of {looks} turns");
    assert_eq!(said[0], "fault: a slowed to 10 % of the time");
    eventually("it is still slow", || stranger.tree().iter().all(|pid| state(*pid) == "R"));
}

/// A party that ends by itself, with status 3, as soon as the file is there.
fn mortal(file: &Path) -> serde_json::Value {
    let script =
        format!("while [ ! -e {} ]; do sleep 0.01; done; echo done; exit 3", file.display());
    serde_json::json!([{"name": "a", "command": ["sh", "-c", script]}])
}

#[test]
fn a_fault_that_cannot_be_carried_out_is_an_event_of_its_own() {
    let folder = tempfile::tempdir().expect("folder");
    let end = folder.path().join("end");
    let faults = serde_json::json!([{"at": "0s", "party": "a", "action": "pause", "for": "10ms"}]);
    let plan = plan(mortal(&end), faults).expect("a plan");
    let mut stage = Stage::start(plan, folder.path()).expect("a stage");
    std::fs::write(&end, "").expect("a file");
    let pid = stage.process("a").expect("a process");
    eventually("it goes on", || state(pid) == "Z");
    let event = &stage.tick(Duration::ZERO)[0];
    assert_eq!(event.what, "fault failed: a: it has ended (exit status: 3): done");
}

#[test]
fn a_party_that_ends_by_itself_is_told_at_the_end() {
    let folder = tempfile::tempdir().expect("folder");
    let end = folder.path().join("end");
    let plan = plan(mortal(&end), serde_json::json!([])).expect("a plan");
    let stage = Stage::start(plan, folder.path()).expect("a stage");
    std::fs::write(&end, "").expect("a file");
    let pid = stage.process("a").expect("a process");
    eventually("it goes on", || state(pid) == "Z");
    let told = stage.finish().expect("undone");
    assert_eq!(told, ["party a had ended by itself (exit status: 3)"]);
}

/// A command that runs in a network namespace of its own, as root there.
fn in_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.arg(if nix::unistd::geteuid().is_root() { "-n" } else { "-rn" });
    command
}

#[test]
fn a_partition_ends_even_if_the_run_is_killed() {
    let then = "\"$@\"; n=0; while [ -n \"$(nft list tables)\" ]; do n=$((n + 1)); \
                [ $n -lt 400 ] || exit 1; sleep 0.05; done; echo no table";
    let mut command = in_namespace();
    command.args(["sh", "-c", then, "sh"]).args(own("killed_in_a_namespace"));
    let output = command.output().expect("unshare (util-linux) runs");
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("cut off: true") && said.contains("no table"), "{said}{errors}");
    assert!(!said.contains("not killed"), "{said}");
}

#[test]
#[ignore = "run by another test in a network namespace of its own"]
fn killed_in_a_namespace() {
    let folder = tempfile::tempdir().expect("folder");
    let parties = serde_json::json!([{"name": "far", "addresses": ["10.0.0.7", "[::1]:80"]}]);
    let faults = serde_json::json!([{"at": "0s", "party": "far", "action": "partition"}]);
    let mut stage =
        Stage::start(plan(parties, faults).expect("a plan"), folder.path()).expect("a stage");
    stage.tick(Duration::ZERO);
    let rules = || {
        let listed = Command::new("nft").args(["list", "ruleset"]).output().expect("nft");
        String::from_utf8_lossy(&listed.stdout).into_owned()
    };
    eventually("nobody is cut off", || rules().contains("jump input_0"));
    println!("cut off: {}", rules().contains("ip saddr 10.0.0.7 counter"));
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("a signal");
    println!("not killed");
}

#[test]
fn a_partition_drops_packets_of_one_address_only_and_ends_with_the_run() {
    let mut command = in_namespace();
    let output = command.args(own("in_a_namespace")).output().expect("unshare (util-linux) runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
}

#[test]
#[ignore = "run by another test in a network namespace of its own"]
fn in_a_namespace() {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
    assert!(up.success(), "the loopback interface can't be set up");
    let folder = tempfile::tempdir().expect("folder");
    let (near, far) = (free_address(), free_address());
    let party = |name: &str, address: SocketAddr| {
        serde_json::json!(
            {"name": name, "command": server(address), "addresses": [address.to_string()]}
        )
    };
    let faults = serde_json::json!([
        {"at": "0s", "party": "far", "action": "partition", "for": "1s"},
        {"at": "2s", "party": "near", "action": "partition"}
    ]);
    let parties = serde_json::json!([party("near", near), party("far", far)]);
    let mut stage =
        Stage::start(plan(parties, faults).expect("a plan"), folder.path()).expect("a stage");
    let quickly = Duration::from_millis(200);
    assert!(answers(near, PATIENCE) && answers(far, PATIENCE));
    assert_eq!(stage.tick(Duration::ZERO)[0].what, "fault: far cut off");
    eventually("the party is still reached", || !answers(far, quickly));
    assert!(answers(near, PATIENCE), "another party is cut off, too");
    assert!(stage.tick(Duration::from_millis(500)).is_empty(), "nft complains");
    assert_eq!(stage.tick(Duration::from_secs(1))[0].what, "fault over: far reachable again");
    eventually("the party is not reached again", || answers(far, quickly));
    stage.tick(Duration::from_secs(2));
    eventually("the other party is still reached", || !answers(near, quickly));
    let tables = || {
        let listed = Command::new("nft").args(["list", "tables"]).output().expect("nft");
        String::from_utf8_lossy(&listed.stdout).into_owned()
    };
    assert!(tables().contains("loadtest_"), "{}", tables());
    drop(stage);
    assert_eq!(tables(), "");
}

#[test]
fn a_party_whose_address_another_program_has_is_not_started() {
    let folder = tempfile::tempdir().expect("folder");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("an address").to_string();
    let parties = serde_json::json!([{"name": "a", "command": ["true"], "addresses": [address]}]);
    let plan = plan(parties, serde_json::json!([])).expect("a plan");
    let error = Stage::start(plan, folder.path()).expect_err("it is taken");
    let said = format!("party a: addresses: {address}: somebody listens there already");
    assert!(format!("{error:#}").contains(&said), "{error:#}");
}

#[test]
fn plans_that_cannot_be_carried_out_are_refused_with_what_to_write() {
    let origin =
        serde_json::json!([{"name": "a", "command": ["x"], "addresses": ["127.0.0.1:80"]}]);
    let by_pid = serde_json::json!([{"name": "a", "pid": 77}]);
    let fault = |fields: serde_json::Value| {
        let mut fault = serde_json::json!({"at": "1s", "party": "a", "action": "kill"});
        let fields = fields.as_object().expect("fields").clone();
        fault.as_object_mut().expect("fields").extend(fields);
        fault
    };
    for (parties, faults, said) in [
        (&origin, vec![fault(serde_json::json!({"party": "b"}))], "no such party; there are: a"),
        (&by_pid, vec![fault(serde_json::json!({"for": "1s"}))], "with a command can be started"),
        (&by_pid, vec![fault(serde_json::json!({"action": "partition"}))], "no addresses to cut"),
        (&origin, vec![fault(serde_json::json!({"action": "slow"}))], "write share: 0.1"),
        (&origin, vec![fault(serde_json::json!({"share": 0.5}))], "share belongs to slow"),
        (
            &origin,
            vec![fault(serde_json::json!({"action": "slow", "share": 1.5}))],
            "share 1.5: write 0.01 to 0.99",
        ),
        (&origin, vec![fault(serde_json::json!({"for": "0s"}))], "more than nothing"),
        (
            &origin,
            vec![fault(serde_json::json!({})), fault(serde_json::json!({"at": "2s"}))],
            "kill at 1s is not over when kill begins at 2s",
        ),
        (&serde_json::json!([{"name": "a"}]), vec![], "write command, pid or pidfile"),
        (&serde_json::json!([{"name": "a", "pid": 1}]), vec![], "other than init"),
        (&serde_json::json!([{"name": "a/b", "pid": 7}]), vec![], "name: write"),
        (&serde_json::json!([{"name": "a", "pid": 7, "pidfile": "x"}]), vec![], "one of them"),
    ] {
        let error = plan(parties.clone(), faults.into()).expect_err(said);
        assert!(format!("{error:#}").contains(said), "{error:#}");
    }
    let misspelt = serde_json::json!({"at": "1s", "party": "a", "action": "kill", "fro": "1s"});
    let error = serde_json::from_value::<FaultForm>(misspelt).expect_err("an unknown key");
    assert!(error.to_string().contains("unknown field `fro`"), "{error}");
    for text in ["1", "s", "-1s", "NaNs", "1d", "9999h", ""] {
        assert!(plan::Span::try_from(text.to_owned()).is_err(), "{text}");
    }
    let one = plan::Span::try_from("1.5m".to_owned()).expect("a span");
    assert_eq!(one.0, Duration::from_secs(90));
}
