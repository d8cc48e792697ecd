//! VyOS's `set` commands (1.4 and later).

use model::suite::{Encryption, Integrity, Prf, Proposal};

use super::libreswan::number;
use super::transforms::{Secrecy, Transforms};
use super::{HIDDEN, Peer, Secret, plain, seconds};

pub(super) fn text(peer: &Peer<'_>) -> String {
    let connection = &peer.plan.connection;
    let name = &peer.name;
    let mut lines: Vec<String> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    let remote_id = peer.remote_id_or_blank();
    let by_certificate = matches!(peer.secret, Secret::Certificate);
    if !by_certificate {
        let psk = format!("authentication psk {name}");
        for id in peer.local_id.iter().chain([&remote_id]) {
            lines.push(format!("{psk} id {}", quoted(id)));
        }
        match peer.secret {
            Secret::Shown(key) => match plain(key) {
                Some(key) => lines.push(format!("{psk} secret {}", quoted(key))),
                None => lines.push(format!("{psk} secret {}", quoted(HIDDEN))),
            },
            _ => lines.push(format!("{psk} secret {}", quoted(HIDDEN))),
        }
    }
    let ike = format!("ike-group {name}");
    lines.push(format!("{ike} key-exchange 'ikev2'"));
    lines.push(format!("{ike} lifetime '{}'", seconds(connection.lifetimes.ike)));
    if !connection.dpd.delay.is_zero() {
        let dpd = format!("{ike} dead-peer-detection");
        let action = if peer.begins { "restart" } else { "clear" };
        lines.push(format!("{dpd} action '{action}'"));
        lines.push(format!("{dpd} interval '{}'", seconds(connection.dpd.delay)));
        lines.push(format!("{dpd} timeout '{}'", seconds(connection.dpd.timeout)));
    }
    lines.push(format!("{ike} close-action '{}'", if peer.begins { "start" } else { "none" }));
    if !connection.mobike {
        lines.push(format!("{ike} disable-mobike"));
    }
    for (index, proposal) in connection.ike.iter().enumerate() {
        let at = format!("{ike} proposal {}", index + 1);
        lines.extend(
            proposal.groups.first().map(|group| format!("{at} dh-group '{}'", number(*group))),
        );
        algorithms(&mut lines, &at, proposal);
    }
    let peer_at = format!("site-to-site peer {name}");
    let mode = if by_certificate { "x509" } else { "pre-shared-secret" };
    lines.push(format!("{peer_at} authentication mode '{mode}'"));
    if by_certificate {
        lines.push(format!("{peer_at} authentication x509 certificate 'PEER-CERTIFICATE'"));
        lines.push(format!("{peer_at} authentication x509 ca-certificate 'EDGE-CA'"));
    }
    if let Some(id) = &peer.local_id {
        lines.push(format!("{peer_at} authentication local-id {}", quoted(id)));
    }
    lines.push(format!("{peer_at} authentication remote-id {}", quoted(&remote_id)));
    let kind = if peer.begins { "initiate" } else { "respond" };
    lines.push(format!("{peer_at} connection-type '{kind}'"));
    lines.push(format!("{peer_at} ike-group '{name}'"));
    let local = peer.local.as_deref().unwrap_or("any");
    lines.push(format!("{peer_at} local-address {}", quoted(local)));
    lines.push(format!("{peer_at} remote-address {}", quoted(&peer.remote_or_blank())));
    if connection.force_udp {
        lines.push(format!("{peer_at} force-udp-encapsulation"));
    }
    for (index, (policy, esp)) in peer.children().enumerate() {
        let group = format!("{name}-{}", index + 1);
        let esp_at = format!("esp-group {group}");
        lines.push(format!("{esp_at} mode 'tunnel'"));
        lines.push(format!("{esp_at} lifetime '{}'", seconds(connection.lifetimes.child)));
        let transforms = Transforms::new(esp);
        lines.push(match transforms.secrecy {
            Secrecy::Group(group) | Secrecy::First(group) => {
                format!("{esp_at} pfs 'dh-group{}'", number(group))
            }
            Secrecy::Off => format!("{esp_at} pfs 'disable'"),
        });
        for (number, set) in transforms.sets.iter().enumerate() {
            let at = format!("{esp_at} proposal {}", number + 1);
            lines.push(format!("{at} encryption '{}'", cipher_name(set.cipher)));
            lines.push(format!("{at} hash '{}'", set.integrity.map_or("sha256", hash_name)));
        }
        notes.extend(transforms.notes(|set| match set.integrity {
            Some(integrity) => format!("{}-{}", cipher_name(set.cipher), hash_name(integrity)),
            None => cipher_name(set.cipher).to_owned(),
        }));
        let tunnel = format!("{peer_at} tunnel {}", index + 1);
        lines.push(format!("{tunnel} esp-group '{group}'"));
        for network in &policy.remote_selectors {
            lines.push(format!("{tunnel} local prefix '{network}'"));
        }
        for network in &policy.local_selectors {
            lines.push(format!("{tunnel} remote prefix '{network}'"));
        }
    }
    let notes = notes.into_iter().map(|note| format!("# {note}\n"));
    notes.chain(lines.into_iter().map(|line| format!("set vpn ipsec {line}\n"))).collect()
}

/// What this edge prefers of a proposal.
fn algorithms(lines: &mut Vec<String>, at: &str, proposal: &Proposal) {
    let cipher = proposal.encryption.first().copied().map(cipher_name);
    lines.extend(cipher.map(|cipher| format!("{at} encryption '{cipher}'")));
    let hash = proposal.integrity.first().copied().map(hash_name);
    let prf = proposal.prf.first().map(|prf| match prf {
        Prf::HmacSha256 => "sha256",
        Prf::HmacSha384 => "sha384",
        Prf::HmacSha512 => "sha512",
        Prf::HmacSha1 => "sha1",
    });
    // A cipher that authenticates takes the hash for the PRF alone.
    lines.push(format!("{at} hash '{}'", hash.or(prf).unwrap_or("sha256")));
}

fn cipher_name(cipher: Encryption) -> &'static str {
    match cipher {
        Encryption::Aes128Gcm16 => "aes128gcm128",
        Encryption::Aes256Gcm16 => "aes256gcm128",
        Encryption::ChaCha20Poly1305 => "chacha20poly1305",
        Encryption::Aes128Cbc => "aes128",
        Encryption::Aes192Cbc => "aes192",
        Encryption::Aes256Cbc => "aes256",
        Encryption::TripleDesCbc => "3des",
    }
}

fn hash_name(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::HmacSha256 => "sha256",
        Integrity::HmacSha384 => "sha384",
        Integrity::HmacSha512 => "sha512",
        Integrity::HmacSha1 => "sha1",
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', ""))
}
