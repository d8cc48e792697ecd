//! The `overlay` command: one end of a tunnel by the interface that edges and nodes have.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use model::PublicKey;
use overlay::PrivateKey;
use plan::overlay::{Peer, Tunnel};
use wireguard::{Interfaces, Settings, Wanted};

use crate::cli;

/// What its interface has of itself, as edges and nodes have.
const MTU: u16 = 1420;

/// Makes the interface, and stays until this process is told to stop. In user space whatever the
/// kernel has, and with one worker, as all others have.
pub(crate) fn run(arguments: &cli::Overlay) -> anyhow::Result<()> {
    let cli::Overlay { end, no_offloads } = arguments;
    let key = PrivateKey::new(octets(&end.key).context("--key")?);
    let tunnel = Tunnel {
        interface: end.interface.clone(),
        key: key.public(),
        port: end.listen,
        mtu: MTU,
        addresses: Vec::new(),
        peers: vec![Peer {
            key: PublicKey(octets(&end.peer).context("--peer")?),
            name: "other".to_owned(),
            endpoint: Some(end.endpoint),
            allowed: vec![end.allowed.parse().context("--allowed")?],
            keepalive: None,
        }],
    };
    let settings = Settings {
        backend: Wanted::UserSpace,
        prefix: end.interface.clone(),
        workers: 1,
        offloads: !no_offloads,
        ..Settings::default()
    };
    let mut interfaces = Interfaces::new(settings).context("the interface")?;
    let keys = BTreeMap::from([(tunnel.key, key)]);
    if let Some(fault) = interfaces.apply(&[tunnel], &keys).into_iter().next() {
        bail!(fault);
    }
    loop {
        std::thread::park();
    }
}

/// The octets of a key in hexadecimal digits.
fn octets(digits: &str) -> anyhow::Result<[u8; 32]> {
    let mut octets = [0; 32];
    if digits.len() != 64 {
        bail!("a key has 64 hexadecimal digits");
    }
    for (place, octet) in octets.iter_mut().enumerate() {
        let pair = digits.get(2 * place..2 * place + 2).context("a key has ASCII digits")?;
        *octet = u8::from_str_radix(pair, 16).context("a key has hexadecimal digits")?;
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        assert_eq!(octets(&"0a".repeat(32)).expect("a key"), [10; 32]);
        for wrong in ["0a", &"0g".repeat(32), &"ä".repeat(32)] {
            assert!(octets(wrong).is_err(), "{wrong}");
        }
    }
}
