//! Strangers at the IKE port, while a tunnel is up.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use testkit::vpn_lab::Site;

use crate::mixed::{Ends, wait_ping};

#[test]
fn ike_scan_gets_an_answer_and_nothing_breaks() {
    let mixed = Ends::default().up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    let from = mixed.lab.gateway(Site::B);
    from.ip("addr add 192.0.2.77/24 dev wan0\n");
    for version in ["--ikev2", "--aggressive"] {
        let arguments = ["--sport=40500", "--retry=1", "--timeout=300", version, "192.0.2.1"];
        // It says nothing of use to IKEv1, and no more than a notification to IKEv2.
        let text = from.command("ike-scan", &arguments);
        assert!(text.contains("Ending ike-scan"), "{text}");
    }
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
}

#[test]
fn a_flood_of_half_open_handshakes_makes_cookies_and_harms_no_tunnel() {
    // A second connection that anybody may begin.
    let objects = "---
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: visitors, namespace: default}
spec:
  auto: add
  auth:
    psk: {secretName: site-psk, key: psk}
  local: {address: 192.0.2.1, id: a.test, subnets: [10.1.0.0/24]}
  remote: {gateway: \"%any\", id: c.test, subnets: [10.3.0.0/24]}
";
    let mixed = Ends { objects: objects.into(), ..Ends::default() }.up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    let pings = mixed.lab.ping_on(Site::A, "0.02");
    let from = mixed.lab.gateway(Site::B);
    let mut lines = String::new();
    for host in 10..60 {
        lines.push_str(&format!("addr add 192.0.2.{host}/32 dev wan0\n"));
    }
    from.ip(&lines);
    // 5,000 in a second, from 50 addresses, each with another SPI.
    let sent = from.run(|| {
        let sockets: Vec<UdpSocket> =
            (10..60).map(|host| UdpSocket::bind(format!("192.0.2.{host}:0")).unwrap()).collect();
        let to: SocketAddr = "192.0.2.1:500".parse().unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        let mut sent = 0_u64;
        while Instant::now() < end && sent < 10_000 {
            for socket in &sockets {
                sent += 1;
                socket.send_to(&sa_init(sent), to).unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        sent
    });
    assert!(sent >= 5_000, "{sent}");
    let cookies =
        mixed.gateway.metric("tidegate_vpn_ike_events_total", &[("event", "cookies_sent")]);
    assert!(cookies > 0.0, "no cookie was asked for");
    let (sent, answered) = pings.stop();
    assert!(answered + 2 >= sent, "{answered} of {sent}");
    assert_eq!(mixed.connection().get("state").unwrap(), "up");
}

/// An IKE_SA_INIT with AES-GCM, SHA-256 and Curve25519.
fn sa_init(number: u64) -> Vec<u8> {
    let sa: &[u8] = &[
        0, 0, 0, 36, 1, 1, 0, 3, // one proposal of three transforms
        3, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 0, 128, // AES-GCM-16, 128 bits
        3, 0, 0, 8, 2, 0, 0, 5, // PRF-HMAC-SHA2-256
        0, 0, 0, 8, 4, 0, 0, 31, // Curve25519
    ];
    let mut key = vec![0, 31, 0, 0];
    key.extend([9; 32]);
    let nonce = [7; 32];
    let mut body = Vec::new();
    for (next, content) in [(34, sa), (40, key.as_slice()), (0, nonce.as_slice())] {
        body.extend([next, 0]);
        body.extend(u16::try_from(content.len() + 4).unwrap().to_be_bytes());
        body.extend(content);
    }
    let mut message = (0x5449_4445_0000_0000 + number).to_be_bytes().to_vec();
    message.extend([0; 8]);
    message.extend([33, 0x20, 34, 0x08, 0, 0, 0, 0]);
    message.extend(u32::try_from(body.len() + 28).unwrap().to_be_bytes());
    message.extend(body);
    message
}

#[test]
fn garbage_is_counted_and_changes_nothing() {
    let mixed = Ends::default().up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    let from = mixed.lab.gateway(Site::B);
    from.run(|| {
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        for number in 0..4_000_usize {
            let mut datagram: Vec<u8> = (0..number % 400).map(|_| random()).collect();
            if number % 2 == 0 {
                // A header that is right as far as it goes.
                let whole = sa_init(number as u64);
                let keep = datagram.len().min(whole.len());
                datagram = whole;
                datagram.truncate(28.max(keep));
                if let Some(octet) = datagram.get_mut(16 + number % 12) {
                    *octet = random();
                }
            }
            let port = if number % 3 == 0 { 4500 } else { 500 };
            _ = socket.send_to(&datagram, ("192.0.2.1", port));
        }
    });
    let malformed =
        mixed.gateway.metric("tidegate_vpn_ike_events_total", &[("event", "malformed")]);
    assert!(malformed > 0.0);
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    assert_eq!(mixed.connection().get("state").unwrap(), "up");
}
