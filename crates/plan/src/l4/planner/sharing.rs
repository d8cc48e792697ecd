//! Whether two Services may have the same address.

use std::fmt;

use model::Protocol;

use super::subject::Subject;

/// Why a Service can't share an address with another.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// They haven't the same sharing key, or not the same namespace.
    Key,
    /// They have different `externalTrafficPolicy`.
    Policy,
    /// Both want the port.
    Port { index: usize, protocol: Protocol, number: u16 },
    /// Both want the port's TLS connections for this name.
    Host { index: usize, number: u16, host: String },
}

/// Why `subject` can't share an address with `other`, if it can't.
pub(super) fn obstacle(subject: &Subject<'_>, other: &Subject<'_>) -> Option<Obstacle> {
    if !same_key(subject, other) {
        return Some(Obstacle::Key);
    }
    let local =
        |subject: &Subject<'_>| subject.exposure.is_some_and(|exposure| exposure.local_only);
    if local(subject) != local(other) {
        return Some(Obstacle::Policy);
    }
    subject.service.ports.iter().enumerate().find_map(|(index, port)| {
        let (protocol, number) = (port.protocol, port.number);
        let mut others = other.service.ports.iter();
        others.find(|other| (other.protocol, other.number) == (protocol, number))?;
        let theirs = other.sni_hosts(protocol);
        port_clash(index, (protocol, number), subject.sni_hosts(protocol), theirs)
    })
}

/// Whether two Services may share addresses as long as their ports differ.
pub(super) fn same_key(subject: &Subject<'_>, other: &Subject<'_>) -> bool {
    let key =
        |subject: &Subject<'_>| subject.exposure.and_then(|exposure| exposure.sharing_key.clone());
    subject.key.namespace == other.key.namespace
        && key(subject).is_some()
        && key(subject) == key(other)
}

/// What two Services with the same port both want: all of its connections, or those for a name.
pub(super) fn port_clash(
    index: usize,
    (protocol, number): (Protocol, u16),
    hosts: &[String],
    others: &[String],
) -> Option<Obstacle> {
    if hosts.is_empty() || others.is_empty() {
        return Some(Obstacle::Port { index, protocol, number });
    }
    let host = hosts.iter().find(|host| others.contains(host))?.clone();
    Some(Obstacle::Host { index, number, host })
}

impl Obstacle {
    /// The field that it is about.
    pub(super) fn field(&self) -> String {
        match self {
            Self::Key => super::subject::annotation("sharing-key"),
            Self::Policy => "spec.externalTrafficPolicy".to_owned(),
            Self::Port { index, .. } => format!("spec.ports[{index}].port"),
            Self::Host { .. } => super::subject::annotation("sni-hosts"),
        }
    }
}

impl Obstacle {
    /// What lets two Services of one sharing key share.
    pub(super) fn way_out(&self) -> &'static str {
        match self {
            Self::Key => "give both the same tidegate.io/sharing-key and different ports",
            Self::Policy => "give both the same externalTrafficPolicy",
            Self::Port { .. } => "give them different ports",
            Self::Host { .. } => "give them different tidegate.io/sni-hosts",
        }
    }
}

impl fmt::Display for Obstacle {
    /// In which way the other Service stands in the way: `has TCP port 443 of it already`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("has it, and the two have no sharing key in common"),
            Self::Policy => f.write_str("has it with another externalTrafficPolicy"),
            Self::Port { protocol, number, .. } => {
                write!(f, "has {protocol} port {number} of it already")
            }
            Self::Host { number, host, .. } => {
                write!(f, "has {host} on TCP port {number} of it already")
            }
        }
    }
}
