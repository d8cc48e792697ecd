//! SAs are replaced while traffic goes on.

use testkit::eventually;
use testkit::vpn_lab::Site;

use crate::Pair;

#[test]
fn rekeying_by_command_loses_no_packet() {
    let pair = Pair::up();
    pair.wait_ping(Site::A);
    let clear = pair.lab.clear();
    let pings = [pair.lab.ping_on(Site::A, "0.01"), pair.lab.ping_on(Site::B, "0.01")];
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
