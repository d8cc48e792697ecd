//! The `vpn` section: what must hold within it.

use model::VpnSettings;
use model::settings::canonical_network;

use super::Checker;
use super::l4::is_interface;
use crate::config::values::Network;
use crate::config::{ConfigError, Vpn, file};

impl Checker<'_> {
    /// The VPN plane, if it is enabled.
    pub(super) fn vpn(&self, vpn: file::Vpn) -> Result<Option<Vpn>, ConfigError> {
        if !is_interface(&vpn.interface) {
            return Err(self
                .error("vpn.interface", format!("{:?} can't be an interface's name", vpn.interface))
                .remedy("write up to 15 letters, digits and dashes, such as tidegate-vpn"));
        }
        if vpn.port == vpn.nat_port {
            return Err(self
                .error("vpn.natPort", "is the same port as vpn.port")
                .remedy("write natPort: 4500, or another port of its own"));
        }
        for (key, networks, remedy) in [
            (
                "vpn.clusterSubnets",
                &vpn.cluster_subnets,
                "write the cluster's pod and service networks",
            ),
            ("vpn.exempt", &vpn.exempt, "write the networks that the edge is on"),
        ] {
            if let Some(network) = networks.iter().find(|one| one.0.prefix_len() == 0) {
                let reason = format!("{} is everybody's network", network.0);
                return Err(self.error(key, reason).remedy(remedy));
            }
        }
        let (retransmit, half_open) = (&vpn.retransmit, &vpn.half_open);
        let periods = [
            ("vpn.retransmit.first", retransmit.first),
            ("vpn.retransmit.max", retransmit.max),
            ("vpn.halfOpen.lifetime", half_open.lifetime),
        ];
        if let Some((key, period)) = periods.into_iter().find(|(_, period)| period.is_zero()) {
            return Err(self.too_short(key, period));
        }
        if !(1.0..=10.0).contains(&retransmit.base) {
            return Err(self
                .error("vpn.retransmit.base", format!("{} is not from 1 to 10", retransmit.base))
                .remedy("write a factor such as 1.8"));
        }
        if retransmit.max < retransmit.first {
            let reason = format!("is {}, less than first, {}", retransmit.max, retransmit.first);
            return Err(self.error("vpn.retransmit.max", reason).remedy("write a longer time"));
        }
        if !vpn.enabled {
            return Ok(None);
        }
        let read = |networks: &[Network]| {
            networks.iter().map(|network| canonical_network(network.0)).collect()
        };
        let settings = VpnSettings {
            interface: vpn.interface,
            cluster_subnets: read(&vpn.cluster_subnets),
            exempt: read(&vpn.exempt),
            port: vpn.port,
            nat_port: vpn.nat_port,
            force_udp: vpn.force_encapsulation,
        };
        Ok(Some(Vpn {
            settings,
            dataplane: vpn.dataplane,
            workers: vpn.workers,
            offloads: vpn.offloads,
            mtu: vpn.mtu,
            on_stop: vpn.on_stop,
            half_open: vpn.half_open,
            retransmit: vpn.retransmit,
        }))
    }
}
