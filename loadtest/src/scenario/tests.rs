//! Scenarios' texts, right and wrong.

use super::*;
use crate::load::Reuse;
use crate::load::plan::Pace;

const LEAST: &str = "target: {url: http://127.0.0.1:1/}\nload: {closed: {connections: 4}}\n";

fn read(text: &str) -> anyhow::Result<Job> {
    parse(text, "x.yaml", "x", Path::new("."), &Overrides::default())
}

#[track_caller]
fn assert_wrong(text: &str, expected: &str) {
    let error = format!("{:#}", read(text).expect_err("it is wrong"));
    assert!(error.contains(expected), "{error}\ndoes not have\n{expected}");
}

#[test]
fn the_least_scenario_has_sensible_defaults() {
    let job = read(&format!("{LEAST}duration: 2s\n")).expect("it is right");
    assert_eq!((job.name.as_str(), job.plan.reuse), ("x", Reuse::KeepAlive));
    assert_eq!(job.plan.profile().end(), 2_000_000_000);
    assert_eq!(job.plan.most_connections(), 4);
    assert_eq!(job.plan.entries[0].name, "GET 127.0.0.1:1/");
    assert_eq!(job.plan.slice, Some(Duration::from_millis(100)));
}

#[test]
fn an_unknown_key_is_told_with_line_path_and_the_known_ones() {
    assert_wrong(
        &format!("{LEAST}duration: 1s\ntimout: 3s\n"),
        "x.yaml:4: timout: unknown key; known here: name, description, target, protocol, load, \
         duration, phases, mix, timeout,",
    );
    assert_wrong(
        "target: {url: http://127.0.0.1:1/}\nload:\n  closed:\n    conections: 4\n",
        "x.yaml:4: load.closed.conections: unknown key; known here: connections, streams, keepAlive",
    );
    assert_wrong(
        &format!("{LEAST}duration: 1s\nmix:\n- path: /\n- path: /b\n  expect: {{lenght: 3}}\n"),
        "x.yaml:7: mix[1].expect.lenght: unknown key; known here: status, length,",
    );
}

#[test]
fn wrong_values_are_told_with_line_path_value_and_remedy() {
    for (text, expected) in [
        ("duration: 5\n", "x.yaml:3: duration: "),
        ("duration: 5x\n", "\"5x\" is no length of time"),
        ("", "x.yaml:1: duration: is missing: write duration: 10s, or phases"),
        ("duration: 1s\nduration: 2s\n", "x.yaml:4: duration: stands twice"),
        ("duration: 1s\nprotocol: http3\n", "http3"),
        ("duration: 1s\nphases: [{duration: 1s}]\n", "the phases have durations"),
        ("phases: [{duration: 1s, rate: 5}]\n", "phases[0].rate: is not what sets the pace"),
        ("phases:\n- duration: 1s\n  connections: {from: 1}\n", "x.yaml:5: phases[0].connections"),
        ("phases: [{duration: 1s, connections: 2000000}]\n", "write a number from 0 to 1000000"),
        (
            "phases: [{duration: 1s, connections: -1}]\n",
            "phases[0].connections: invalid type: integer `-1`",
        ),
        ("duration: 1s\nmix: [{path: a b}]\n", "mix[0].path: \"a b\" is no path"),
        ("duration: 1s\nmix: [{weight: 0}]\n", "mix: the weights sum up to 0"),
        ("duration: 1s\nmix: [{path: /}, {path: /}]\n", "mix[1].name"),
        ("duration: 1s\nmix: [{body: {size: 1, text: a}}]\n", "one of size, text and file"),
        ("duration: 1s\nmix: [{body: {file: /no/such}}]\n", "mix[0].body.file: /no/such: "),
        ("duration: 1s\nmix: [{body: {file: /dev/zero}}]\n", "/dev/zero is no regular file"),
        ("duration: 1s\nmix: []\n", "x.yaml:4: mix: is empty"),
        ("duration: 1\n", "duration: 1 is no length of time: write 1s"),
        ("duration: 1s\nmix: [{headers: {Host: a}}]\n", "follows from host and body"),
        ("duration: 1s\nmix: [{expect: {sha256: abc}}]\n", "64 hexadecimal digits"),
        ("duration: 1s\nretries: {times: 1, on: [bad]}\n", "there are connect, tls, closed"),
        ("duration: 1s\nprocesses: [{name: a}]\n", "one of pid, pidfile, listens and party"),
        ("duration: 1s\nlimits: {failures: 2}\n", "a share from 0 to 1"),
        ("duration: 2s\nfaults: [{at: 1s, party: x, action: kill}]\n", "no such party"),
        (
            "duration: 4s\nfaults:\n- {at: 1s, party: x, action: kill}\n- {at: 10s, party: x, \
             action: kill}\n",
            "x.yaml:6: faults[1].at: 10s is behind the end (4s)",
        ),
        (
            "duration: 4s\nfaults: [{at: 4s, party: x, action: kill}]\n",
            "faults[0].at: 4s is behind the end (4s)",
        ),
        ("duration: 1s\n---\nx: 1\n", "a second document"),
    ] {
        assert_wrong(&format!("{LEAST}{text}"), expected);
    }
}

#[test]
fn what_does_not_go_together_is_told() {
    let with = |target: &str, load: &str| {
        format!(
            "target: {target}\nload: {load}\nduration: 1s\nmix: [{{host: a.test}}, {{host: b.test}}]\n"
        )
    };
    let closed = "{closed: {connections: 1}}";
    assert_wrong(&with("{}", closed), "target.url: is missing");
    assert_wrong(&with("{url: ftp://x/}", closed), "begin it with http:// or https://");
    assert_wrong(&with("{url: https://127.0.0.1/}", closed), "say whom to believe");
    assert_wrong(
        &with("{url: https://127.0.0.1/, tls: {insecure: true}}", closed),
        "1 connections are fewer than the 2 hosts",
    );
    assert_wrong(
        &with("{url: https://127.0.0.1/, tls: {insecure: true, versions: [\"1.1\"]}}", closed),
        "target.tls.versions[0]: \"1.1\" is not spoken",
    );
    for (port, shown) in [("99999", "99999"), ("0", "0"), ("65536", "65536")] {
        assert_wrong(
            &with(&format!("{{url: \"http://127.0.0.1:{port}/\"}}"), closed),
            &format!("has the port \"{shown}\": write 1 to 65535"),
        );
    }
    let secret = with("{url: \"http://user:secret@127.0.0.1:80/\"}", closed);
    assert_wrong(&secret, "write headers: {Authorization: …} in the mix");
    let error = format!("{:#}", read(&secret).expect_err("it is wrong"));
    assert!(!error.contains("secret"), "{error}");
    let both = "{url: https://127.0.0.1/, tls: {ca: x, insecure: true}}";
    assert_wrong(&with(both, closed), "remove one of them");
    let plain = "{url: http://127.0.0.1/}";
    assert_wrong(&with(plain, "{open: {rate: -5}}"), "-5: write a number above 0");
    assert_wrong(&with(plain, "{open: {rate: many}}"), "expected a number, as in 100");
    let name = "n".repeat(201);
    assert_wrong(
        &format!("{LEAST}duration: 1s\nmix: [{{name: {name}}}]\n"),
        "mix[0].name: has 201 characters; write 200 at most",
    );
    assert_wrong(&with(plain, "{}"), "load: write one of closed");
    assert_wrong(&with(plain, "{open: {rate: 0}}"), "load.open.rate: 0: write a number above 0");
    assert_wrong(&with(plain, "{closed: {connections: 1, streams: 2}}"), "load.closed.streams");
    let sources = "{url: http://127.0.0.1/, sources: [127.0.0.9-127.0.0.2]}";
    assert_wrong(&with(sources, closed), "target.sources[0]: \"127.0.0.9-127.0.0.2\" is empty");
}

#[test]
fn the_command_line_scales_levels_and_phases() {
    let text = "target: {url: http://127.0.0.1:1/}\nload: {open: {rate: 100}}\n\
                phases: [{duration: 1s, rate: {from: 50, to: 100}}, {duration: 3s}]\n";
    let overrides = Overrides { seconds: Some(2.0), rate: Some(200.0), ..Overrides::default() };
    let job = parse(text, "x", "x", Path::new("."), &overrides).expect("it is right");
    let phases: Vec<_> = job.plan.profile().phases().map(|(phase, ..)| phase.clone()).collect();
    assert_eq!((phases[0].from, phases[0].to, phases[1].to), (100.0, 200.0, 200.0));
    assert_eq!(phases[0].length, Duration::from_millis(500));
    let closed = format!("{LEAST}duration: 1s\n");
    let error = parse(&closed, "x", "x", Path::new("."), &overrides).expect_err("no rate there");
    assert!(error.to_string().contains("has no rate to change by --rate"), "{error}");
}

#[test]
fn an_address_of_ipv6_has_a_port_or_none() {
    for (host, port) in [("[::1]", 80), ("[::1]:8080", 8080)] {
        let text = format!(
            "target: {{url: \"http://{host}/\"}}\nload: {{closed: {{connections: 1}}}}\nduration: 1s\n"
        );
        assert_eq!(read(&text).expect("it is right").plan.address.port(), port, "{host}");
    }
}

#[test]
fn faults_keep_their_place_in_a_load_that_the_command_line_shortens() {
    let text = format!(
        "{LEAST}duration: 10s\nparties: [{{name: a, command: [x]}}]\n\
         faults: [{{at: 5s, party: a, action: kill, for: 2s}}]\n"
    );
    let overrides = Overrides { seconds: Some(1.0), ..Overrides::default() };
    let job = parse(&text, "x", "x", Path::new("."), &overrides).expect("it is right");
    assert_eq!(job.faults.times(), [500, 700].map(Duration::from_millis));
}

#[test]
fn sources_are_single_addresses_and_ranges() {
    let job = read(
        "target: {url: http://127.0.0.1:1/, sources: [127.0.0.7, 127.0.1.254-127.0.2.1]}\n\
         load: {idle: {connections: 9, refresh: 1s}}\nduration: 1s\n",
    );
    let plan = job.expect("it is right").plan;
    let sources: Vec<String> = plan.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["127.0.0.7", "127.0.1.254", "127.0.1.255", "127.0.2.0", "127.0.2.1"]);
    assert_eq!((plan.reuse, plan.hold.refresh), (Reuse::Hold, Some(Duration::from_secs(1))));
    assert!(matches!(plan.pace, Pace::Closed { .. }));
}

#[test]
fn every_scenario_of_the_repository_is_right_and_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for file in std::fs::read_dir(folder).expect("the folder") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.starts_with("# "), "{}: no comment says what it is for", path.display());
        count += 1;
        super::read(&path, &Overrides::default()).expect("it is right");
    }
    assert!(count >= 12, "{count}");
}
