//! Who gets which frontend: no two Services have the same one, unless TLS names tell them apart.
//! (NodePorts were settled by `ingest`.)

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::FixedState;
use model::snapshot::{Exposure, ServicePort};
use model::{Diagnostic, HostAddress, L4Settings, ObjectKey, Protocol};

use super::super::Frontend;
use super::pools::Pools;
use super::sharing::port_clash;
use super::subject::Subject;

/// The frontends that are given away, to the oldest Services first.
pub(super) struct Frontends<'a, 'b> {
    pools: &'b Pools<'a>,
    settings: &'b L4Settings,
    host: &'b [HostAddress],
    sockets: HashMap<(Protocol, SocketAddr), Owners<'a>, FixedState>,
}

/// Those who have a socket: one, or several with TLS names of their own.
struct Owners<'a> {
    first: Owner<'a>,
    others: Vec<Owner<'a>>,
}

#[derive(Clone, Copy)]
struct Owner<'a> {
    service: &'a ObjectKey,
    hosts: &'a [String],
}

impl<'a, 'b> Frontends<'a, 'b> {
    pub(super) fn new(
        pools: &'b Pools<'a>,
        (settings, host): (&'b L4Settings, &'b [HostAddress]),
        expected: usize,
    ) -> Self {
        let sockets = HashMap::with_capacity_and_hasher(expected, FixedState::default());
        Self { pools, settings, host, sockets }
    }

    /// The frontends of one port, sorted.
    pub(super) fn of_port(
        &mut self,
        subject: &Subject<'a>,
        exposure: &'a Exposure,
        addresses: &[IpAddr],
        index: usize,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<Frontend> {
        let mut frontends = Vec::new();
        let Some(port) = subject.service.ports.get(index) else { return frontends };
        for &address in addresses {
            let socket = SocketAddr::new(address, port.number);
            match self.take(subject, index, port, socket) {
                Ok(()) => frontends.push(Frontend::Vip(socket)),
                Err((reason, way_out)) => diagnostics.push(
                    subject
                        .error(&format!("spec.ports[{index}].port"), reason)
                        .value(port.number.to_string())
                        .remedy(format!("{way_out}, or choose another tidegate.io/sharing-key")),
                ),
            }
        }
        for &address in &exposure.external_ips {
            if addresses.contains(&address) || !self.is_for_externals(address) {
                continue;
            }
            let socket = SocketAddr::new(address, port.number);
            if self.is_fail_safe(port, address) {
                diagnostics.push(
                    subject
                        .error(
                            "spec.externalIPs",
                            format!(
                                "it is the machine's own address, whose {} port {} always stays \
                                 its own",
                                port.protocol, port.number
                            ),
                        )
                        .value(address.to_string())
                        .remedy(
                            "choose another port or address, or take the port out of \
                             l4.failSafe.inbound",
                        ),
                );
                continue;
            }
            match self.take(subject, index, port, socket) {
                Ok(()) => frontends.push(Frontend::External(socket)),
                Err((reason, way_out)) => diagnostics.push(
                    subject
                        .error("spec.externalIPs", reason)
                        .value(address.to_string())
                        .remedy(format!("{way_out}, or choose another address")),
                ),
            }
        }
        frontends.extend(port.node_port.map(Frontend::NodePort));
        frontends.sort_unstable();
        frontends
    }

    /// Tells of external addresses that a pool has: they are given by allocation alone.
    pub(super) fn check_externals(
        &self,
        subject: &Subject<'_>,
        exposure: &Exposure,
        addresses: &[IpAddr],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        for address in &exposure.external_ips {
            let pool = self.pools.of(*address).and_then(|at| self.pools.get(at));
            let Some(pool) = pool else { continue };
            if addresses.contains(address) || self.is_for_externals(*address) {
                continue;
            }
            diagnostics.push(
                subject
                    .error(
                        "spec.externalIPs",
                        format!(
                            "it is an address of AddressPool {} and not this Service's",
                            pool.name
                        ),
                    )
                    .value(address.to_string())
                    .remedy(
                        "ask for it in tidegate.io/addresses of a Service of type LoadBalancer, or \
                         put it in the pool's spec.reserved",
                    ),
            );
        }
    }

    /// Whether a port of the machine's own must stay open for what listens there.
    fn is_fail_safe(&self, port: &ServicePort, address: IpAddr) -> bool {
        let own = |host: &HostAddress| host.network.addr() == address;
        self.settings.fail_safe.inbound.contains(&(port.protocol, port.number))
            && self.host.iter().any(own)
    }

    /// Tells of external addresses that only a socket of this machine could serve, which has none
    /// of them.
    pub(super) fn check_sockets(
        &self,
        subject: &Subject<'_>,
        exposure: &Exposure,
        host: &[HostAddress],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let is_own = |address| host.iter().any(|own| own.network.addr() == address);
        for (index, address) in exposure.external_ips.iter().enumerate() {
            if host.is_empty() || is_own(*address) || !self.is_for_externals(*address) {
                continue;
            }
            let reason = "its ports go through user space, where connections to it only arrive if \
                          the machine itself has it";
            diagnostics.push(
                subject
                    .warning(&format!("spec.externalIPs[{index}]"), reason.to_owned())
                    .value(address.to_string())
                    .remedy(
                        "put the address on an interface of the edge, such as lo, or use a VIP",
                    ),
            );
        }
    }

    /// Whether an address is outside what pools give: in none, reserved, or the machine's own.
    fn is_for_externals(&self, address: IpAddr) -> bool {
        use super::pools::Withheld::{Alb, Host, Machine, Reserved, Routers, Subnet};
        match self.pools.of(address).and_then(|at| self.pools.get(at)) {
            None => true,
            Some(pool) => match self.pools.withheld(pool, address) {
                Some(Reserved | Host(_)) => true,
                Some(Alb | Routers | Subnet(_) | Machine(_)) | None => false,
            },
        }
    }

    /// Takes a socket, or says who has it and what to do.
    fn take(
        &mut self,
        subject: &Subject<'a>,
        index: usize,
        port: &ServicePort,
        socket: SocketAddr,
    ) -> Result<(), (String, &'static str)> {
        let (protocol, number) = (port.protocol, port.number);
        let owner = Owner { service: subject.key, hosts: subject.sni_hosts(protocol) };
        let Some(owners) = self.sockets.get_mut(&(protocol, socket)) else {
            self.sockets.insert((protocol, socket), Owners { first: owner, others: Vec::new() });
            return Ok(());
        };
        for other in std::iter::once(&owners.first).chain(&owners.others) {
            if other.service == subject.key {
                let reason = format!("{protocol} port {number} stands in the Service twice");
                return Err((reason, "write each port once"));
            }
            let clash = port_clash(index, (protocol, number), owner.hosts, other.hosts);
            if let Some(obstacle) = clash {
                let reason = format!("{}: Service {} {obstacle}", socket.ip(), other.service);
                return Err((reason, obstacle.way_out()));
            }
        }
        owners.others.push(owner);
        Ok(())
    }
}
