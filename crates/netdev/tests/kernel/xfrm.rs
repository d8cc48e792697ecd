//! XFRM: the interface and policies where the kernel has them; the probe everywhere.

use netdev::xfrm::{self, Action, Direction, Policy, Ports, Selector, Template, Xfrm};

use crate::lab::{alone, run};

#[test]
fn the_probe_leaves_nothing_behind_and_says_what_is_missing() {
    alone(|| {
        let before = run("ip -o link");
        if let Err(unable) = xfrm::probe() {
            let text = unable.to_string();
            assert!(text.contains("the kernel ") && text.contains("; load "), "{text}");
            println!("{text}");
        }
        assert_eq!(run("ip -o link"), before);
        if let Ok(mut xfrm) = Xfrm::open() {
            let ours = 0x5447_0000 | (std::process::id() & 0xffff);
            assert_eq!(xfrm.list(ours).unwrap(), []);
        }
    });
}

#[test]
fn policies_are_put_listed_and_flushed_and_no_other_interfaces() {
    alone(|| {
        let Ok(mut xfrm) = Xfrm::open() else {
            println!("skipped: this kernel has no XFRM");
            return;
        };
        let selector = Selector {
            source: "10.1.0.0/16".parse().unwrap(),
            destination: "10.2.0.0/24".parse().unwrap(),
            protocol: 0,
            source_ports: Ports::default(),
            destination_ports: Ports::default(),
        };
        let template = Template {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            spi: 0x1234,
            reqid: 7,
        };
        let policy =
            |direction, if_id, action| Policy { direction, selector, priority: 100, action, if_id };
        let protect = Action::Protect(template);
        xfrm.put_policy(&policy(Direction::Out, 1, Action::Block)).unwrap();
        // In its place.
        xfrm.put_policy(&policy(Direction::Out, 1, protect)).unwrap();
        xfrm.put_policy(&policy(Direction::Forward, 1, protect)).unwrap();
        xfrm.put_policy(&policy(Direction::Out, 2, Action::Block)).unwrap();
        let mut ours = xfrm.policies(1).unwrap();
        ours.sort_by_key(|policy| policy.direction);
        let directions: Vec<_> = ours.iter().map(|policy| policy.direction).collect();
        assert_eq!(directions, [Direction::Out, Direction::Forward]);
        assert!(ours.iter().all(|policy| policy.selector == selector && !policy.blocks));
        let shown = run("ip xfrm policy");
        for part in ["src 10.1.0.0/16 dst 10.2.0.0/24", "spi 0x00001234", "reqid 7", "if_id 0x1"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        xfrm.flush(1).unwrap();
        assert_eq!(xfrm.policies(1).unwrap(), []);
        let theirs = xfrm.policies(2).unwrap();
        assert!(matches!(theirs.as_slice(), [policy] if policy.blocks), "{theirs:?}");
        xfrm.remove_policy(Direction::Out, &selector, 2).unwrap();
        xfrm.remove_policy(Direction::Out, &selector, 2).unwrap();
        assert_eq!(xfrm.policies(2).unwrap(), []);
    });
}
