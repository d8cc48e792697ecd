use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use netdev::nft::{Event, Nft, NftError, current_generation};
use netdev::wait;

use crate::lab::{alone, eventually, run};

const TABLE: &str = "inet tidegate";
const TEXT: &str = "table inet tidegate {
  map ports {
    type inet_service : ipv4_addr
    elements = { 80 : 192.0.2.1 }
  }
  chain c {
    type filter hook input priority 0; policy accept;
    tcp dport 22 accept
  }
}
";
const SECOND: Duration = Duration::from_secs(1);

/// A script in place of nft.
fn script(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("nft");
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    file
}

#[test]
fn a_transaction_is_applied_and_listed() {
    alone(|| {
        let nft = Nft::find().unwrap();
        nft.probe().unwrap();
        assert!(nft.list_json(&["table", "inet", "tidegate"]).unwrap_err().is_not_there());
        let before = current_generation().unwrap();
        nft.apply(TEXT).unwrap();
        assert_eq!(current_generation().unwrap(), before + 1);
        let listed = nft.list_json(&["table", "inet", "tidegate"]).unwrap();
        let objects = listed["nftables"].as_array().unwrap();
        assert!(objects.iter().any(|object| object["map"]["name"] == "ports"), "{listed}");
        assert!(nft.list(&["table", "inet", "tidegate"]).unwrap().contains("tcp dport 22 accept"));
    });
}

#[test]
fn a_check_changes_nothing() {
    alone(|| {
        let nft = Nft::find().unwrap();
        nft.check(TEXT).unwrap();
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn a_refusal_names_the_line_and_nothing_is_applied() {
    alone(|| {
        let nft = Nft::find().unwrap();
        for (text, number, line, words) in [
            (
                "table inet a {\n  chain c {\n    frobnicate\n  }\n}\n",
                3,
                "frobnicate",
                "syntax error",
            ),
            (
                "add table inet a\nadd rule inet a gone accept\n",
                2,
                "add rule inet a gone accept",
                "No such file or directory",
            ),
        ] {
            let error = nft.apply(text).unwrap_err();
            let NftError::Refused { line: Some(found), message, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!((found.number, found.text.as_str()), (number, line));
            assert!(message.contains(words), "{message}");
            assert_eq!(run("nft list ruleset"), "");
            let shown = error.to_string();
            assert!(shown.contains(line) && shown.contains(';'), "{shown}");
        }
    });
}

#[test]
fn large_texts_and_outputs_pass() {
    alone(|| {
        let nft = Nft::find().unwrap();
        let elements: Vec<String> =
            (0..50_000_u32).map(|n| format!("{}", std::net::Ipv4Addr::from(n << 4))).collect();
        let text = format!(
            "table inet tidegate {{\n set s {{\n type ipv4_addr\n elements = {{ {} }}\n }}\n}}\n",
            elements.join(", ")
        );
        nft.apply(&text).unwrap();
        let listed = nft.list_json(&["set", "inet", "tidegate", "s"]).unwrap();
        assert_eq!(listed["nftables"][1]["set"]["elem"].as_array().unwrap().len(), 50_000);
        // More complaints than a pipe holds.
        let error = nft.apply(&"frobnicate the packets\n".repeat(5_000)).unwrap_err();
        assert!(matches!(error, NftError::Refused { line: Some(_), .. }), "{error:?}");
        assert!(error.to_string().len() < 2_000);
    });
}

#[test]
fn own_loads_however_large_are_not_told_and_small_changes_of_them_are_quick() {
    alone(|| {
        let nft = Nft::find().unwrap();
        let mut monitor = nft.monitor(TABLE).unwrap();
        let elements: Vec<String> = (0..100_000_u32)
            .map(|n| format!("192.0.2.1 . tcp . 80 . {n} : 10.0.0.1 . 8080"))
            .collect();
        let text = format!(
            "table inet tidegate {{
 map m {{
 typeof ip daddr . meta l4proto . th dport . meta mark : ip daddr . th dport
 elements = {{ {} }}
 }}
}}
",
            elements.join(", ")
        );
        let start = Instant::now();
        nft.apply(&text).unwrap();
        let loaded = start.elapsed();
        assert_eq!(monitor.wait(Duration::ZERO).unwrap(), None);
        let start = Instant::now();
        nft.apply("delete element inet tidegate m { 192.0.2.1 . tcp . 80 . 5 }").unwrap();
        println!("loaded in {loaded:?}, one element in {:?}", start.elapsed());
        assert_eq!(monitor.wait(Duration::ZERO).unwrap(), None);
        run("nft add chain inet tidegate d");
        assert!(monitor.wait(SECOND).unwrap().is_some());
    });
}

#[test]
fn one_that_hangs_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let text = format!("echo $$ > {}; exec sleep 600", pid.display());
    let nft = Nft::at(script(&folder, &text)).with_timeout(Duration::from_millis(500));
    let start = Instant::now();
    let error = nft.apply(TEXT).unwrap_err();
    assert!(matches!(error, NftError::TimedOut { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists());
}

#[test]
fn a_missing_right_is_named() {
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let found = Nft::find().unwrap().program().display().to_string();
        let text =
            format!("exec setpriv --reuid 65534 --clear-groups --bounding-set=-all {found} \"$@\"");
        let nft = Nft::at(script(&folder, &text));
        for error in [nft.probe().unwrap_err(), nft.apply(TEXT).unwrap_err()] {
            assert!(matches!(error, NftError::Permission { .. }), "{error:?}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        }
    });
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // As nft says it where nft_chain_nat is missing.
    let text = "grep -q 'type nat' || exit 0
echo '/dev/stdin:2:8-8: Error: Could not process rule: No such file or directory' >&2; exit 1";
    let error = Nft::at(script(&folder, text)).probe().unwrap_err();
    let NftError::Unsupported { what, .. } = &error else { panic!("{error:?}") };
    assert!(what.contains("nft_chain_nat"), "{error}");
}

#[test]
fn others_changes_are_told_within_a_second_and_own_ones_are_not() {
    alone(|| {
        let nft = Nft::find().unwrap();
        let mut monitor = nft.monitor(TABLE).unwrap();
        nft.apply(TEXT).unwrap();
        nft.clone().apply("add element inet tidegate ports { 81 : 192.0.2.2 }").unwrap();
        run("nft add table inet another");
        run("nft add table ip tidegate");
        nft.list_json(&["ruleset"]).unwrap();
        assert_eq!(monitor.wait(Duration::from_millis(200)).unwrap(), None);
        for change in [
            "nft delete element inet tidegate ports { 81 }",
            "nft add rule inet tidegate c accept",
            "nft add chain inet tidegate d",
            "nft add set inet tidegate s { type ipv4_addr ; }",
            "nft flush chain inet tidegate c",
            "nft flush ruleset",
        ] {
            run(change);
            assert_eq!(wait::any(&[monitor.as_fd()], Some(SECOND)).unwrap(), [true], "{change}");
            let event = monitor.wait(SECOND).unwrap();
            let Some(Event::Changed { by_name, by_pid, generation }) = event else {
                panic!("{change}: {event:?}");
            };
            assert_eq!(by_name, "nft");
            assert_ne!(by_pid, 0);
            assert_eq!(generation, current_generation().unwrap());
            assert_eq!(monitor.wait(Duration::ZERO).unwrap(), None, "{change}: once");
        }
        nft.apply(TEXT).unwrap();
        run("nft delete table inet tidegate");
        let event = monitor.wait(SECOND).unwrap();
        assert!(matches!(event, Some(Event::Changed { .. })), "{event:?}");
    });
}

#[test]
fn elements_that_packets_add_and_time_removes_are_no_changes() {
    alone(|| {
        let nft = Nft::find().unwrap();
        nft.apply(
            "table inet tidegate {
  set seen {
    type ipv4_addr . inet_service
    flags dynamic,timeout
    timeout 1s
    gc-interval 1s
  }
  map affinity {
    type ipv4_addr : inet_service
    flags dynamic,timeout
    timeout 1s
  }
  chain c {
    type filter hook input priority 0; policy accept;
    meta l4proto udp update @seen { ip saddr . udp dport } counter
    meta l4proto udp update @affinity { ip saddr : 80 }
  }
}
",
        )
        .unwrap();
        let mut monitor = nft.monitor(TABLE).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in 1_000..1_100 {
            let _ = socket.send_to(b"x", ("127.0.0.1", port));
        }
        let listed = || nft.list(&["set", "inet", "tidegate", "seen"]).unwrap();
        assert!(listed().contains("127.0.0.1 . 1050"), "{}", listed());
        eventually("they time out", || !listed().contains("127.0.0.1"));
        // One more, which makes the kernel clear away those that timed out.
        let _ = socket.send_to(b"x", ("127.0.0.1", 2_000));
        assert_eq!(monitor.wait(Duration::from_millis(1_500)).unwrap(), None);
    });
}

#[test]
fn lost_notifications_are_told() {
    alone(|| {
        let nft = Nft::find().unwrap();
        nft.apply("table inet tidegate {\n set s {\n type ipv4_addr . inet_service\n }\n}\n")
            .unwrap();
        let mut monitor = nft.monitor(TABLE).unwrap();
        monitor.set_limit(4 << 10);
        let elements: Vec<String> =
            (0..10_000_u32).map(|n| format!("{} . 80", std::net::Ipv4Addr::from(n))).collect();
        let text = format!("add element inet tidegate s {{ {} }}", elements.join(", "));
        nft.apply(&text).unwrap();
        let mut events = Vec::new();
        while let Some(event) = monitor.wait(Duration::ZERO).unwrap() {
            events.push(event);
        }
        assert_eq!(events, [Event::Overrun]);
        // And from then on all is as before.
        run("nft add chain inet tidegate d");
        let event = monitor.wait(SECOND).unwrap();
        assert!(matches!(event, Some(Event::Changed { .. })), "{event:?}");
    });
}
