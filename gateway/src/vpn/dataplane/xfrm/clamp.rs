//! Smaller TCP segments for what goes through the interface: the kernel's data path changes no
//! packets, so that a small nftables table does.

use netdev::nft::Nft;

/// The table's family and name.
const TABLE: &str = "inet tidegate-vpn-mss";

/// The table. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct Clamp(Nft);

impl Clamp {
    /// Puts it in force. Without it, routers' "packet too big" does the same, if it arrives: so
    /// that it isn't is only logged.
    pub(super) fn new(interface: &str) -> Option<Self> {
        let made = Nft::find().and_then(|nft| nft.apply(&text(interface)).map(|()| Self(nft)));
        if let Err(error) = &made {
            tracing::warn!(%error, "vpn: TCP segments are not clamped to what tunnels carry");
        }
        made.ok()
    }
}

impl Drop for Clamp {
    fn drop(&mut self) {
        if let Err(error) = self.0.apply(&format!("delete table {TABLE}\n")) {
            tracing::warn!(%error, "vpn: the nftables table {TABLE} stays");
        }
    }
}

fn text(interface: &str) -> String {
    let rule = |way| {
        format!(
            "\t\t{way}ifname \"{interface}\" tcp flags & (syn | rst) == syn tcp option maxseg size \
             set rt mtu\n"
        )
    };
    let chain = |name: &str, hook: &str, rules: &str| {
        format!(
            "\tchain {name} {{\n\t\ttype filter hook {hook} priority -150; policy accept;\n{rules}\t}}\n"
        )
    };
    let chains = [
        chain("forwarded", "forward", &[rule("i"), rule("o")].concat()),
        chain("sent", "output", &rule("o")),
    ];
    format!("add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{}}}\n", chains.concat())
}
