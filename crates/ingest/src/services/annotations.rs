//! A Service's annotations under `tidegate.io/`.
//!
//! None is passed over in silence, and one that decides on a Service's addresses or on who gets in
//! is never passed over at all: a Service whose `tidegate.io/visibility` can't be read must not
//! come out on the public side, nor one whose PROXY header can't be read take addresses from
//! clients.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use model::snapshot::{Algorithm, Exposure, HostMatch, ProxyVersion, Requested, ServicePort};
use model::{Diagnostic, ObjectKey, Protocol, Visibility};

use super::Reader;
use crate::annotations::{OWN_PREFIX, field, values};
use crate::names;
use crate::report::shown;
use crate::secrets::{Certificates, Lookup};

const TLS_SECRET: &str = "tls-secret";
const TLS_PORTS: &str = "tls-ports";
const SNI_HOSTS: &str = "sni-hosts";
const ACCEPT_PROXY: &str = "accept-proxy-protocol";
const SEND_PROXY: &str = "send-proxy-protocol";

/// All of them.
const NAMES: [&str; 13] = [
    "visibility",
    "pool",
    "addresses",
    "sharing-key",
    "algorithm",
    "snat",
    "user-space",
    TLS_SECRET,
    TLS_PORTS,
    SNI_HOSTS,
    ACCEPT_PROXY,
    SEND_PROXY,
    "idle-timeout",
];

/// Those that are about VIPs alone.
const OF_VIPS: [&str; 4] = ["visibility", "pool", "addresses", "sharing-key"];

/// What follows from an annotation that can't be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Otherwise {
    /// The Service is exposed without it.
    Without,
    /// The Service has no VIP until it is mended.
    NoVip,
    /// Nothing of the Service is exposed until it is mended.
    Closed,
}

/// Why an annotation can't be honoured.
struct Fault {
    reason: String,
    remedy: &'static str,
    otherwise: Otherwise,
}

impl Fault {
    fn new(otherwise: Otherwise, reason: impl Into<String>, remedy: &'static str) -> Self {
        Self { reason: reason.into(), remedy, otherwise }
    }
}

impl Otherwise {
    fn words(self) -> &'static str {
        match self {
            Self::Without => "it has no effect",
            Self::NoVip => "the Service has no VIP until it is mended",
            Self::Closed => "nothing of the Service is reached from outside until it is mended",
        }
    }
}

impl Reader<'_, '_, '_> {
    /// Warns of annotations of a Service that nothing exposes.
    pub(super) fn annotations_in_vain(&mut self, object: &Service) {
        for (full, text) in object.metadata.annotations.iter().flatten() {
            let Some(name) = full.strip_prefix(OWN_PREFIX) else { continue };
            if NAMES.contains(&name) {
                let reason = "has no effect on a Service that isn't reached from outside";
                let remedy = "write type: LoadBalancer or NodePort, or remove it";
                self.warning(field(full), text, reason, remedy);
            } else {
                self.unknown(full, text);
            }
        }
    }

    /// Reads all of them; returns the worst that follows from those that can't be honoured, and
    /// why.
    pub(super) fn annotations(
        &mut self,
        object: &Service,
        ports: &[ServicePort],
        exposure: &mut Exposure,
        certificates: &mut Certificates<'_>,
    ) -> Option<(Otherwise, String)> {
        let mut worst: Option<(Otherwise, String)> = None;
        let mut found = false;
        for (full, text) in object.metadata.annotations.iter().flatten() {
            let Some(name) = full.strip_prefix(OWN_PREFIX) else { continue };
            if !NAMES.contains(&name) {
                self.unknown(full, text);
                continue;
            }
            if !exposure.load_balancer && OF_VIPS.contains(&name) {
                // Of one that is being deleted it had an effect.
                if object.metadata.deletion_timestamp.is_some() {
                    continue;
                }
                let reason = "has no effect on a Service that gets no VIP from here";
                let remedy = "write type: LoadBalancer and no other's class, or remove it";
                self.warning(field(full), text, reason, remedy);
                continue;
            }
            found = true;
            if let Err(fault) = self.read(name, text.trim(), exposure, certificates) {
                self.fault(full, text, fault, &mut worst);
            }
        }
        if found {
            self.together(object, ports, exposure, &mut worst);
        }
        worst
    }

    fn unknown(&mut self, full: &str, text: &str) {
        let remedy = format!("correct its name or remove it; there are {}", NAMES.join(", "));
        let reason = "is no annotation of Services, and has no effect";
        self.warning(field(full), text, reason, remedy);
    }

    fn fault(
        &mut self,
        full: &str,
        text: &str,
        fault: Fault,
        worst: &mut Option<(Otherwise, String)>,
    ) {
        let Fault { reason, remedy, otherwise } = fault;
        self.error(field(full), text.trim(), format!("{reason}; {}", otherwise.words()), remedy);
        if worst.as_ref().is_none_or(|(known, _)| *known < otherwise)
            && otherwise != Otherwise::Without
        {
            *worst = Some((otherwise, format!("the annotation {full} can't be honoured")));
        }
    }

    fn read(
        &mut self,
        name: &str,
        text: &str,
        exposure: &mut Exposure,
        certificates: &mut Certificates<'_>,
    ) -> Result<(), Fault> {
        use Otherwise::{Closed, NoVip, Without};
        let boolean = |otherwise| {
            values::boolean(text)
                .map_err(|reason| Fault::new(otherwise, reason, "write \"true\" or \"false\""))
        };
        let stream = &mut exposure.stream;
        match name {
            "visibility" => {
                exposure.visibility = match text {
                    "public" => Visibility::Public,
                    "private" => Visibility::Private,
                    _ => {
                        let reason = "neither public nor private";
                        return Err(Fault::new(NoVip, reason, "write public or private"));
                    }
                };
            }
            "pool" => {
                names::subdomain(text).map_err(|reason| {
                    Fault::new(NoVip, reason, "write the name of an AddressPool")
                })?;
                exposure.pool = Some(text.to_owned());
            }
            "addresses" => self.addresses(text, &mut exposure.requested)?,
            "sharing-key" => {
                if text.is_empty() {
                    let remedy = "write the same key on each Service that shares the address";
                    return Err(Fault::new(Without, "the key is empty", remedy));
                }
                exposure.sharing_key = Some(text.to_owned());
            }
            "algorithm" => {
                exposure.algorithm = match text {
                    "random" => Algorithm::Random,
                    "round-robin" => Algorithm::RoundRobin,
                    "source-hash" => Algorithm::SourceHash,
                    "maglev" => Algorithm::Maglev,
                    "least-connections" => Algorithm::LeastConnections,
                    _ => {
                        let remedy = "write random, round-robin, source-hash, maglev or \
                                      least-connections";
                        return Err(Fault::new(Without, "not a way to choose", remedy));
                    }
                };
            }
            "snat" => exposure.snat = Some(boolean(Without)?),
            "user-space" => stream.forced = boolean(Without)?,
            TLS_SECRET => stream.tls_secret = Some(self.tls_secret(text, certificates)?),
            TLS_PORTS => {
                let port = |item: &str| {
                    item.trim().parse().ok().and_then(names::port_number).ok_or_else(|| {
                        let reason = format!("{item:?} is not a port number");
                        Fault::new(Closed, reason, "write numbers from spec.ports, as \"443,8443\"")
                    })
                };
                stream.tls_ports = text.split(',').map(port).collect::<Result<_, _>>()?;
                stream.tls_ports.sort_unstable();
                stream.tls_ports.dedup();
            }
            SNI_HOSTS => {
                let host = |item: &str| {
                    let item = item.trim().to_ascii_lowercase();
                    match names::host(&item) {
                        Ok(HostMatch::Any) | Err(_) => {
                            let reason = format!("{item:?} is not a host name");
                            let remedy = "write names such as \"db.example.com,*.example.org\"";
                            Err(Fault::new(Closed, reason, remedy))
                        }
                        Ok(_) => Ok(item),
                    }
                };
                stream.sni_hosts = text.split(',').map(host).collect::<Result<_, _>>()?;
                stream.sni_hosts.sort_unstable();
                stream.sni_hosts.dedup();
            }
            ACCEPT_PROXY => stream.accept_proxy = boolean(Closed)?,
            SEND_PROXY => {
                stream.send_proxy = match text {
                    "v1" => Some(ProxyVersion::V1),
                    "v2" => Some(ProxyVersion::V2),
                    _ => return Err(Fault::new(Closed, "neither v1 nor v2", "write v1 or v2")),
                };
            }
            _ => {
                let period = values::own_timeout(text).map_err(|reason| {
                    Fault::new(Without, reason, "write a time such as \"30s\" or \"5m\"")
                })?;
                stream.idle_ms = Some(u64::try_from(period.as_millis()).unwrap_or(u64::MAX));
            }
        }
        Ok(())
    }

    fn addresses(&mut self, text: &str, requested: &mut Vec<Requested>) -> Result<(), Fault> {
        const REMEDY: &str = "write addresses of a pool, one of each family at most, with commas";
        let field = field("tidegate.io/addresses");
        for item in text.split(',') {
            let address: IpAddr = item.trim().parse().map_err(|_| {
                let reason = format!("{:?} is not an address", item.trim());
                Fault::new(Otherwise::NoVip, reason, REMEDY)
            })?;
            if !requested.iter().any(|known| known.address == address) {
                requested.push(Requested { address, field: field.clone() });
            }
        }
        Ok(())
    }

    /// The Secret's name. Where there is no such one that could be read, connections are refused,
    /// as the name alone says that they must be encrypted.
    fn tls_secret(
        &mut self,
        text: &str,
        certificates: &mut Certificates<'_>,
    ) -> Result<ObjectKey, Fault> {
        names::subdomain(text).map_err(|reason| {
            let remedy = "write the name of a kubernetes.io/tls Secret of the Service's namespace";
            Fault::new(Otherwise::Closed, reason, remedy)
        })?;
        let secret = ObjectKey::new(&self.key.namespace, text);
        let missing = match certificates.look_up(&secret, self.report) {
            Lookup::Good => return Ok(secret),
            Lookup::Broken => "the Secret can't be used",
            Lookup::Missing => "there is no such Secret",
        };
        self.error(
            field("tidegate.io/tls-secret"),
            text,
            format!("{missing}; connections to the ports whose TLS ends here are refused"),
            "mend it if there is a finding about it, or create it, of type kubernetes.io/tls",
        );
        Ok(secret)
    }

    /// What must hold between annotations, and between them and the ports.
    fn together(
        &mut self,
        object: &Service,
        ports: &[ServicePort],
        exposure: &Exposure,
        worst: &mut Option<(Otherwise, String)>,
    ) {
        let annotations = object.metadata.annotations.as_ref();
        let written = |name: &str| {
            let full = format!("{OWN_PREFIX}{name}");
            let text = annotations.and_then(|annotations| annotations.get(&full))?.clone();
            Some((full, text))
        };
        let stream = &exposure.stream;
        if stream.tls_secret.is_some()
            && !stream.sni_hosts.is_empty()
            && let Some((full, text)) = written(SNI_HOSTS)
        {
            let reason = "TLS either passes through by name or ends here by tls-secret, not both";
            let fault = Fault::new(Otherwise::Closed, reason, "remove one of the two");
            self.fault(&full, &text, fault, worst);
        }
        let tcp = |number: u16| {
            ports.iter().any(|port| port.protocol == Protocol::Tcp && port.number == number)
        };
        if let Some((full, text)) = written(TLS_PORTS) {
            if written(TLS_SECRET).is_none() && !stream.tls_ports.is_empty() {
                let reason = "has no effect without tidegate.io/tls-secret";
                self.warning(field(&full), &text, reason, "write both or none");
            } else if let Some(number) = stream.tls_ports.iter().find(|number| !tcp(**number)) {
                let reason = format!("{number} is no TCP port of the Service");
                let remedy = "write numbers from spec.ports";
                self.fault(&full, &text, Fault::new(Otherwise::Closed, reason, remedy), worst);
            }
        }
        let asked = [
            (TLS_SECRET, stream.tls_secret.is_some()),
            (SNI_HOSTS, !stream.sni_hosts.is_empty()),
            (ACCEPT_PROXY, stream.accept_proxy),
            (SEND_PROXY, stream.send_proxy.is_some()),
        ];
        for (name, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            let Some((full, text)) = written(name) else { continue };
            if !ports.iter().any(|port| port.protocol == Protocol::Tcp) {
                let remedy = "give the Service a TCP port, or remove it";
                let fault = Fault::new(Otherwise::Closed, "needs a TCP port", remedy);
                self.fault(&full, &text, fault, worst);
                continue;
            }
            for port in ports.iter().filter(|port| port.protocol != Protocol::Tcp) {
                let reason = format!("doesn't hold for {} of {}", port.number, port.protocol);
                let remedy = "make a Service of its own of that port, with the same sharing-key";
                self.warning(field(&full), &text, reason, remedy);
            }
        }
        self.sctp_in_user_space(ports, exposure, written);
    }

    fn sctp_in_user_space(
        &mut self,
        ports: &[ServicePort],
        exposure: &Exposure,
        written: impl Fn(&str) -> Option<(String, String)>,
    ) {
        let asked = [
            ("user-space", exposure.stream.forced),
            ("algorithm", exposure.algorithm == Algorithm::LeastConnections),
            ("idle-timeout", exposure.stream.idle_ms.is_some()),
        ];
        for (name, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            let Some((full, text)) = written(name) else { continue };
            for port in ports.iter().filter(|port| port.protocol == Protocol::Sctp) {
                let reason =
                    format!("doesn't hold for {} of SCTP, which the kernel forwards", port.number);
                self.report.push(
                    Diagnostic::warning(self.reference(), field(&full), reason)
                        .value(shown(&text))
                        .remedy("remove it, or make a Service of its own of that port"),
                );
            }
        }
    }
}
