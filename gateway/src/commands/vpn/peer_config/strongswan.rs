//! swanctl.conf (strongSwan 5.9 and later).

use std::fmt::Write as _;

use model::suite::Proposal;

use super::{HIDDEN, Peer, Secret, hexadecimal, joined, plain, seconds};

pub(super) fn text(peer: &Peer<'_>) -> String {
    let connection = &peer.plan.connection;
    let mut lines = vec!["connections {".to_owned(), format!("    {} {{", peer.name)];
    let mut add =
        |depth: usize, line: String| lines.push(format!("{}{line}", "    ".repeat(depth)));
    add(2, "version = 2".to_owned());
    if let Some(local) = &peer.local {
        add(2, format!("local_addrs = {local}"));
    }
    add(2, format!("remote_addrs = {}", peer.remote_or_blank()));
    add(2, format!("proposals = {}", proposals(&connection.ike)));
    if !connection.mobike {
        add(2, "mobike = no".to_owned());
    }
    if !connection.fragmentation {
        add(2, "fragmentation = no".to_owned());
    }
    if connection.force_udp {
        add(2, "encap = yes".to_owned());
    }
    if connection.childless {
        add(2, "childless = allow".to_owned());
    }
    if let Some(ppk) = &connection.ppk {
        add(2, format!("ppk_id = {}", quoted(&ppk.id)));
        add(2, format!("ppk_required = {}", if ppk.required { "yes" } else { "no" }));
    }
    if peer.begins {
        add(2, "keyingtries = 0".to_owned());
    }
    add(2, format!("rekey_time = {}s", seconds(connection.lifetimes.ike)));
    if !connection.dpd.delay.is_zero() {
        add(2, format!("dpd_delay = {}s", seconds(connection.dpd.delay)));
    }
    let by_certificate = matches!(peer.secret, Secret::Certificate);
    let auth = if by_certificate { "pubkey" } else { "psk" };
    for (side, id) in
        [("local", peer.local_id.clone()), ("remote", Some(peer.remote_id_or_blank()))]
    {
        add(2, format!("{side} {{"));
        add(3, format!("auth = {auth}"));
        if by_certificate && side == "local" {
            add(3, "# in swanctl/x509, its key in swanctl/private".to_owned());
            add(3, "certs = peer.pem".to_owned());
        }
        if by_certificate && side == "remote" {
            add(3, "# in swanctl/x509ca".to_owned());
            add(3, "cacerts = edge-ca.pem".to_owned());
        }
        if let Some(id) = id {
            add(3, format!("id = {}", quoted(&id)));
        }
        add(2, "}".to_owned());
    }
    add(2, "children {".to_owned());
    for (policy, esp) in peer.children() {
        add(3, format!("{} {{", policy.child.replace('.', "-")));
        add(4, format!("local_ts = {}", joined(&policy.remote_selectors, ", ")));
        add(4, format!("remote_ts = {}", joined(&policy.local_selectors, ", ")));
        add(4, format!("esp_proposals = {}", proposals(esp)));
        add(4, format!("rekey_time = {}s", seconds(connection.lifetimes.child)));
        let (start, dpd) = if peer.begins { ("start", "restart") } else { ("none", "clear") };
        add(4, format!("start_action = {start}"));
        add(4, format!("dpd_action = {dpd}"));
        add(3, "}".to_owned());
    }
    add(2, "}".to_owned());
    lines.push("    }\n}".to_owned());
    let mut text = lines.join("\n");
    text.push('\n');
    secrets(&mut text, peer);
    text
}

fn secrets(text: &mut String, peer: &Peer<'_>) {
    let secret = match peer.secret {
        Secret::Certificate => None,
        Secret::Hidden => Some(HIDDEN.to_owned()),
        Secret::Shown(key) => Some(match plain(key) {
            Some(text) => quoted(text),
            None => hexadecimal(key),
        }),
    };
    let ppk = peer.plan.connection.ppk.as_ref().map(|ppk| {
        let shown = matches!(peer.secret, Secret::Shown(_));
        (ppk, if shown { hexadecimal(&ppk.key.0) } else { HIDDEN.to_owned() })
    });
    if secret.is_none() && ppk.is_none() {
        return;
    }
    text.push_str("\nsecrets {\n");
    if let Some(secret) = secret {
        let _ = writeln!(text, "    ike-{} {{", peer.name);
        let ids = [peer.local_id.clone(), Some(peer.remote_id_or_blank())];
        for (index, id) in ids.into_iter().flatten().enumerate() {
            let _ = writeln!(text, "        id-{} = {}", index + 1, quoted(&id));
        }
        let _ = writeln!(text, "        secret = {secret}\n    }}");
    }
    if let Some((ppk, key)) = ppk {
        let _ = writeln!(text, "    ppk-{} {{", peer.name);
        let _ = writeln!(text, "        id = {}\n        secret = {key}\n    }}", quoted(&ppk.id));
    }
    text.push_str("}\n");
}

fn proposals(all: &[Proposal]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A value as it may stand: in quotes if something in it has a meaning of its own.
fn quoted(text: &str) -> String {
    let simple = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@:/%".contains(&byte);
    if !text.is_empty() && text.bytes().all(simple) {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
