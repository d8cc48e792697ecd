use std::net::UdpSocket;
use std::time::Duration;

use netdev::tun::{self, FRAME, FRAME_HEADER, Settings, TunError};

use crate::lab::{alone, eventually, run};

fn settings(queues: usize, offloads: bool) -> Settings {
    Settings { name: "tide0".to_owned(), mtu: 1500, queues, offloads }
}

/// The next frame of any queue that holds UDP for the port.
fn frame_for(tun: &tun::Tun, port: u16) -> Vec<u8> {
    let skip = if tun.offloads.header { FRAME_HEADER } else { 0 };
    let mut found = None;
    eventually("a frame comes", || {
        for queue in &tun.queues {
            let mut frame = vec![0; FRAME];
            let Ok(length) = queue.receive(&mut frame) else { continue };
            frame.truncate(length);
            let packet = &frame[skip..];
            if packet[0] == 0x45 && packet[9] == 17 && packet[22..24] == port.to_be_bytes() {
                found = Some(frame);
            }
        }
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn packets_come_out_and_go_in_with_and_without_offloads() {
    alone(|| {
        for (queues, offloads) in [(1, false), (2, false), (1, true), (3, true)] {
            let tun = tun::open(&settings(queues, offloads)).unwrap();
            assert_eq!(tun.queues.len(), queues);
            assert_eq!(tun.offloads.header, offloads);
            run("ip addr add 10.9.0.1/24 dev tide0");
            let here = UdpSocket::bind("10.9.0.1:0").unwrap();
            here.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            here.send_to(b"question", "10.9.0.2:7").unwrap();
            let mut frame = frame_for(&tun, 7);
            let start = if offloads { FRAME_HEADER } else { 0 };
            if offloads {
                assert_eq!(frame[0], 1, "the checksum is partial");
            }
            assert!(frame.ends_with(b"question"));
            // Back to where it came from, without a UDP checksum.
            frame[..start].fill(0);
            let packet = &mut frame[start..];
            let (source, destination) = packet[12..20].split_at_mut(4);
            source.swap_with_slice(destination);
            let (source, destination) = packet[20..24].split_at_mut(2);
            source.swap_with_slice(destination);
            packet[26..28].fill(0);
            tun.queues[queues - 1].send(&frame).unwrap();
            let (length, from) = here.recv_from(&mut [0; 64]).unwrap();
            assert_eq!((length, from), (8, "10.9.0.2:7".parse().unwrap()));
        }
    });
}

#[test]
fn a_taken_name_is_refused_and_an_interface_goes_with_its_queues() {
    alone(|| {
        let tun = tun::open(&settings(2, true)).unwrap();
        let error = tun::open(&settings(2, true)).unwrap_err();
        assert!(matches!(error, TunError::Exists { .. }), "{error}");
        drop(tun);
        let tun = tun::open(&settings(1, false)).unwrap();
        assert_eq!(netdev::address::interface("tide0").unwrap().index, tun.index);
    });
}

#[test]
fn an_interface_has_no_address_and_no_reverse_path_filter() {
    alone(|| {
        run("sysctl -qw net.ipv4.conf.default.rp_filter=1");
        let tun = tun::open(&settings(1, true)).unwrap();
        let shown = run("ip addr show dev tide0");
        assert!(shown.contains("mtu 1500") && shown.contains(",UP"), "{shown}");
        assert!(!shown.contains("inet"), "{shown}");
        let filter = run("sysctl -n net.ipv4.conf.tide0.rp_filter");
        assert_eq!(filter.trim(), "0");
        drop(tun);
    });
}
