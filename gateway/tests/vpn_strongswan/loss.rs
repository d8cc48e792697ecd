//! Rekeyings under traffic, on a wire that loses packets.

use testkit::eventually;
use testkit::vpn_lab::Site;

use crate::mixed::{Ends, wait_ping};

#[test]
fn rekeyings_of_both_ends_lose_no_packet() {
    let mixed = Ends::default().up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    let clear = mixed.lab.clear();
    let pings = mixed.lab.ping_on(Site::A, "0.002");
    for round in 0..20 {
        let (ours, theirs) = match round % 2 {
            0 => (["vpn", "rekey", "site"].as_slice(), ["--rekey", "--child", "net"]),
            _ => {
                (["vpn", "rekey", "site", "--what", "ike"].as_slice(), ["--rekey", "--ike", "edge"])
            }
        };
        if round % 3 != 0 {
            let (code, _, error) = mixed.gateway.run(ours);
            assert_eq!(code, Some(0), "{error}");
        }
        if round % 3 != 1 {
            mixed.swan.swanctl(&theirs);
        }
        eventually("one pair is left", || {
            let children = mixed.connection().get("children")?.as_array()?.len();
            (children == 1 && mixed.swan.installed() == 1).then_some(())
        });
    }
    let (sent, answered) = pings.stop();
    assert!(sent > 100, "{sent}");
    assert!(answered + 1 >= sent, "{answered} of {sent}");
    assert_eq!(clear.lines(), [""; 0]);
}

#[test]
fn a_lossy_wire_keeps_no_rekeying_stuck() {
    let mixed = Ends::default().up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    let clear = mixed.lab.clear();
    mixed.lab.lose(5);
    for round in 0..10 {
        let arguments = ["vpn", "rekey", "site", "--what", "ike"];
        let (code, _, error) = mixed.gateway.run(&arguments[..3 + round % 2 * 2]);
        assert_eq!(code, Some(0), "{error}");
        wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    }
    mixed.lab.lose(0);
    eventually("one pair is left", || {
        let children = mixed.connection().get("children")?.as_array()?.len();
        (children == 1 && mixed.swan.installed() == 1).then_some(())
    });
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    assert_eq!(clear.lines(), [""; 0]);
}
