//! The `overlay` section: what must hold within it.

use ipnet::IpNet;
use model::OverlaySettings;
use model::settings::canonical_network;

use super::Checker;
use super::l4::is_interface;
use crate::config::values::Network;
use crate::config::{ConfigError, Overlay, file};

/// The interface of a second key has one character more.
const MAX_INTERFACE: usize = 14;

impl Checker<'_> {
    /// The overlay, if it is enabled.
    pub(super) fn overlay(
        &self,
        overlay: file::Overlay,
        node_name: Option<String>,
    ) -> Result<Option<Overlay>, ConfigError> {
        let name = &overlay.interface;
        if !is_interface(name) || name.len() > MAX_INTERFACE {
            return Err(self
                .error("overlay.interface", format!("{name:?} can't be an interface's name"))
                .remedy("write up to 14 letters, digits and dashes, such as tidegate-wg"));
        }
        let taken = [overlay.port, overlay.port.saturating_add(1)];
        if taken.contains(&overlay.probe_port) {
            return Err(self
                .error("overlay.probePort", "is overlay.port, or the next one, which new keys take")
                .remedy("write probePort: 51820, or another port of its own"));
        }
        if let Some(network) = overlay.service_subnets.iter().find(|one| one.0.prefix_len() == 0) {
            let reason = format!("{} is everybody's network", network.0);
            return Err(self
                .error("overlay.serviceSubnets", reason)
                .remedy("write the networks of Services, such as [172.21.0.0/16]"));
        }
        let unfit = |address: &&std::net::IpAddr| {
            address.is_unspecified() || address.is_loopback() || address.is_multicast()
        };
        if let Some(address) = overlay.underlay.addresses.iter().find(unfit) {
            let reason = format!("{address} is no address that nodes could reach");
            return Err(self
                .error("overlay.underlay.addresses", reason)
                .remedy("write addresses of this machine, such as [192.0.2.7]"));
        }
        let mut outside = overlay.outside.iter().flatten();
        if let Some(name) = outside.find(|name| !is_interface(name)) {
            return Err(self
                .error("overlay.outside", format!("{name:?} can't be an interface's name"))
                .remedy("write names of this machine's interfaces, such as [eth0]"));
        }
        if let Some(period) = overlay.key_rotation.filter(|period| period.is_zero()) {
            return Err(self.too_short("overlay.keyRotation", period));
        }
        if !overlay.enabled {
            return Ok(None);
        }
        let read = |networks: &[Network]| -> Vec<IpNet> {
            networks.iter().map(|network| canonical_network(network.0)).collect()
        };
        let settings = OverlaySettings {
            name: self.own_name(node_name)?,
            mode: overlay.mode.into(),
            pod_cidrs: overlay.pod_cidrs.into(),
            services: read(&overlay.service_subnets),
            egress: read(&overlay.egress.networks),
            masquerade: overlay.egress.masquerade,
            interface: overlay.interface,
            port: overlay.port,
            probe_port: overlay.probe_port,
            mtu: overlay.mtu,
            ..OverlaySettings::default()
        };
        Ok(Some(Overlay {
            settings,
            backend: overlay.backend,
            workers: overlay.workers,
            offloads: overlay.offloads,
            underlay: overlay.underlay.addresses,
            outside: overlay.outside,
            key_rotation: overlay.key_rotation,
            on_stop: overlay.on_stop,
        }))
    }
}
