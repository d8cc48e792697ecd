//! ipsec.conf and ipsec.secrets (Libreswan 4 and later). The other end is `left`.

use std::fmt::Write as _;

use model::suite::{Encryption, Group, Integrity, Prf, Proposal};

use super::transforms::{Secrecy, Set, Transforms};
use super::{HIDDEN, Peer, Secret, hexadecimal, joined, plain, seconds};

pub(super) fn text(peer: &Peer<'_>) -> String {
    let connection = &peer.plan.connection;
    let mut text = String::from("# /etc/ipsec.d/tidegate.conf\n");
    let (left_id, right_id) = (peer.local_id.as_deref().map(id), id(&peer.remote_id_or_blank()));
    for (policy, esp) in peer.children() {
        let name = match policy.child == peer.key.name {
            true => peer.name.clone(),
            false => format!("{}-{}", peer.name, policy.child.replace('.', "-")),
        };
        let mut lines: Vec<(&str, String)> = vec![
            ("ikev2", "insist".to_owned()),
            ("type", "tunnel".to_owned()),
            ("left", peer.local.clone().unwrap_or_else(|| "%defaultroute".to_owned())),
        ];
        lines.extend(left_id.clone().map(|id| ("leftid", id)));
        lines.push(("leftsubnets", format!("{{{}}}", joined(&policy.remote_selectors, ","))));
        lines.push(("right", peer.remote_or_blank()));
        lines.push(("rightid", right_id.clone()));
        lines.push(("rightsubnets", format!("{{{}}}", joined(&policy.local_selectors, ","))));
        match peer.secret {
            Secret::Certificate => {
                lines.push(("authby", "rsa-sha2,ecdsa".to_owned()));
                lines.push(("leftcert", "peer".to_owned()));
            }
            _ => lines.push(("authby", "secret".to_owned())),
        }
        lines.push(("ike", ike(&connection.ike)));
        let transforms = Transforms::new(esp);
        let (group, pfs) = match transforms.secrecy {
            Secrecy::Group(group) | Secrecy::First(group) => {
                (format!(";dh{}", number(group)), "yes")
            }
            Secrecy::Off => (String::new(), "no"),
        };
        let esp: Vec<String> = transforms.sets.iter().map(|set| set_name(set) + &group).collect();
        let notes = transforms.notes(set_name);
        lines.push(("esp", esp.join(",")));
        lines.push(("pfs", pfs.to_owned()));
        lines.push(("ikelifetime", format!("{}s", seconds(connection.lifetimes.ike))));
        lines.push(("salifetime", format!("{}s", seconds(connection.lifetimes.child))));
        if !connection.dpd.delay.is_zero() {
            lines.push(("dpddelay", format!("{}s", seconds(connection.dpd.delay))));
            lines.push(("dpdtimeout", format!("{}s", seconds(connection.dpd.timeout))));
        }
        if connection.force_udp {
            lines.push(("encapsulation", "yes".to_owned()));
        }
        if connection.mobike {
            lines.push(("mobike", "yes".to_owned()));
        }
        if let Some(ppk) = &connection.ppk {
            lines.push(("ppk", if ppk.required { "insist" } else { "propose" }.to_owned()));
            lines.push(("ppk-ids", ppk.id.clone()));
        }
        lines.push(("auto", if peer.begins { "start" } else { "add" }.to_owned()));
        add_name(&mut text, &name);
        for note in notes {
            let _ = writeln!(text, "    # {note}");
        }
        for (key, value) in lines {
            let _ = writeln!(text, "    {key}={value}");
        }
    }
    let key = match peer.secret {
        Secret::Certificate => return text,
        Secret::Hidden => HIDDEN.to_owned(),
        Secret::Shown(key) => match plain(key) {
            Some(text) => format!("\"{text}\""),
            None => hexadecimal(key),
        },
    };
    let left = left_id.unwrap_or_else(|| "%any".to_owned());
    let _ = writeln!(text, "\n# /etc/ipsec.d/tidegate.secrets\n{left} {right_id} : PSK {key}");
    text
}

fn add_name(text: &mut String, name: &str) {
    let _ = writeln!(text, "conn {name}");
}

/// An identity: names with an @ in front, unlike addresses.
fn id(text: &str) -> String {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if is_address || text.contains('@') || text == super::EDGE {
        text.to_owned()
    } else if text.contains('=') {
        format!("\"{text}\"")
    } else {
        format!("@{text}")
    }
}

fn set_name(set: &Set) -> String {
    let cipher = cipher_name(set.cipher);
    match set.integrity {
        Some(integrity) => format!("{cipher}-{}", integrity_name(integrity)),
        None => cipher.to_owned(),
    }
}

/// Of each proposal for an IKE SA what this edge prefers.
fn ike(all: &[Proposal]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for proposal in all {
        let Some(cipher) = proposal.encryption.first() else { continue };
        let mut text = cipher_name(*cipher).to_owned();
        let hash = match (proposal.integrity.first(), proposal.prf.first()) {
            (Some(integrity), _) => Some(integrity_name(*integrity)),
            (None, prf) => prf.copied().map(prf_name),
        };
        if let Some(hash) = hash {
            text = format!("{text}-{hash}");
        }
        if let Some(group) = proposal.groups.first() {
            text = format!("{text};dh{}", number(*group));
        }
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join(",")
}

fn cipher_name(cipher: Encryption) -> &'static str {
    match cipher {
        Encryption::Aes128Gcm16 => "aes_gcm128",
        Encryption::Aes256Gcm16 => "aes_gcm256",
        Encryption::ChaCha20Poly1305 => "chacha20_poly1305",
        Encryption::Aes128Cbc => "aes128",
        Encryption::Aes192Cbc => "aes192",
        Encryption::Aes256Cbc => "aes256",
        Encryption::TripleDesCbc => "3des",
    }
}

fn integrity_name(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::HmacSha256 => "sha2_256",
        Integrity::HmacSha384 => "sha2_384",
        Integrity::HmacSha512 => "sha2_512",
        Integrity::HmacSha1 => "sha1",
    }
}

fn prf_name(prf: Prf) -> &'static str {
    match prf {
        Prf::HmacSha256 => "sha2_256",
        Prf::HmacSha384 => "sha2_384",
        Prf::HmacSha512 => "sha2_512",
        Prf::HmacSha1 => "sha1",
    }
}

/// The group's number.
pub(super) fn number(group: Group) -> u16 {
    match group {
        Group::Modp1024 => 2,
        Group::Modp1536 => 5,
        Group::Modp2048 => 14,
        Group::Modp3072 => 15,
        Group::Modp4096 => 16,
        Group::P256 => 19,
        Group::P384 => 20,
        Group::P521 => 21,
        Group::X25519 => 31,
        Group::MlKem768 => 36,
    }
}
