//! SAs are replaced while traffic goes on.

use testkit::eventually;
use testkit::vpn_lab::Site;

use crate::Pair;
use crate::site::Connection;

#[test]
fn rekeying_by_command_loses_no_packet() {
    let pair = Pair::up();
    pair.wait_ping(Site::A);
    let clear = pair.lab.clear();
    let pings = [pair.lab.ping_on(Site::A, "0.002"), pair.lab.ping_on(Site::B, "0.002")];
    for round in 1..=15 {
        for (what, counter) in [("site", "/child_rekeys"), ("ike", "/ike_rekeys")] {
            let from = if round % 2 == 0 { Site::A } else { Site::B };
            let before = pair.number(from, counter);
            let (code, _, error) =
                pair.gateway(from).run(&["vpn", "rekey", "default/site", "--what", what]);
            assert_eq!(code, Some(0), "{error}");
            eventually(&format!("{what} is rekeyed"), || {
                (pair.number(from, counter) > before).then_some(())
            });
        }
    }
    for pings in pings {
        let (sent, answered) = pings.stop();
        assert!(sent > 20, "{sent}");
        // The last one may be under way.
        assert!(answered + 1 >= sent, "{answered} of {sent} were answered");
    }
    assert_eq!(clear.lines(), [""; 0]);
}

/// Drops one in twenty packets between the gateways, and counts those of tunnels.
const LOSS: &str = "add table ip lossy
delete table ip lossy
table ip lossy {
 counter lost { }
 chain wire {
  type filter hook input priority -300
  iifname wan0 ip protocol esp numgen random mod 100 < 5 counter name lost drop
  iifname wan0 udp dport { 500, 4500 } numgen random mod 100 < 5 drop
 }
}
";

/// Packets of tunnels that were dropped on their way to a gateway.
fn lost(pair: &Pair, site: Site) -> u64 {
    let gateway = pair.lab.gateway(site);
    let text = gateway.command("nft", &["list", "counter", "ip", "lossy", "lost"]);
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// As many rounds as REKEYINGS says, 40 by default: each rekeys the IKE SA or its child, from one
/// end, the other, or both at once. With one in twenty packets lost on the wire, every packet that
/// was sent has come, or is among those that the wire lost.
#[test]
fn rekeyings_on_a_lossy_wire_lose_nothing_by_themselves() {
    let rounds = std::env::var("REKEYINGS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    // Some message is lost several times in a row, so they are repeated soon.
    let keys = "retransmit: {first: 100ms, base: 1.5, max: 1s, tries: 20}";
    let pair = Pair::configured(keys, |site| Connection::new(site).patient());
    pair.wait_up();
    pair.wait_ping(Site::A);
    let clear = pair.lab.clear();
    let counts = |of: &str| Site::BOTH.map(|site| pair.number(site, &format!("/children/0/{of}")));
    let before = [counts("sent_packets"), counts("received_packets")];
    for site in Site::BOTH {
        pair.lab.gateway(site).command_with("nft", &["-f", "-"], LOSS);
    }
    let pings = [pair.lab.ping_on(Site::A, "0.01"), pair.lab.ping_on(Site::B, "0.01")];
    let rekeyed = || -> u64 {
        let all = ["/child_rekeys", "/ike_rekeys"]
            .map(|what| Site::BOTH.map(|site| pair.number(site, what)).iter().sum::<u64>());
        all.iter().sum()
    };
    for round in 0..rounds {
        let what = if round % 4 == 3 { "ike" } else { "site" };
        let from: &[Site] = match round % 3 {
            0 => &[Site::A],
            1 => &[Site::B],
            _ => &Site::BOTH,
        };
        let counted = rekeyed();
        for site in from {
            let command = ["vpn", "rekey", "default/site", "--what", what];
            let (code, _, error) = pair.gateway(*site).run(&command);
            assert_eq!(code, Some(0), "{error}");
        }
        eventually(&format!("round {round}: {what} is rekeyed"), || {
            (rekeyed() > counted).then_some(())
        });
    }
    for pings in pings {
        let (sent, answered) = pings.stop();
        assert!(sent > 20 && answered > sent / 2, "{answered} of {sent}");
    }
    // Each packet that was sent is accounted for, whatever SA it went on.
    eventually("all packets have come or were lost on the wire", || {
        let now = [counts("sent_packets"), counts("received_packets")];
        let of = |i: usize, site: usize| now[i][site] - before[i][site];
        let lost = Site::BOTH.map(|site| lost(&pair, site));
        (of(0, 0) == of(1, 1) + lost[1] && of(0, 1) == of(1, 0) + lost[0]).then_some(())
    });
    for site in Site::BOTH {
        pair.lab.gateway(site).command("nft", &["delete", "table", "ip", "lossy"]);
    }
    eventually("one pair of SAs is left on each end", || {
        let lens = Site::BOTH.map(|site| {
            let sas = pair.connection(site).pointer("/children/0/sas").cloned()?;
            sas.as_array().map(Vec::len)
        });
        (lens == [Some(1), Some(1)]).then_some(())
    });
    pair.wait_ping(Site::B);
    assert_eq!(clear.lines(), [""; 0]);
}
