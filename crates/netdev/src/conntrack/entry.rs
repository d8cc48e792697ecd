//! One entry, as read from the kernel's message.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::seconds;
use crate::netlink::message::{
    Attributes, Message, be16, be32, ip, octets, push_attribute, push_nested,
};

/// `struct nfgenmsg`.
pub(super) const HEADER: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_TIMEOUT: u16 = 7;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;

// `linux/netfilter/nf_conntrack_common.h`
const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_ASSURED: u32 = 1 << 2;
const IPS_SRC_NAT: u32 = 1 << 4;
const IPS_DST_NAT: u32 = 1 << 5;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// Of protocols with ports.
    pub ports: Option<(u16, u16)>,
    /// Of ICMP and ICMPv6: identifier, type, code.
    pub icmp: Option<(u16, u8, u8)>,
}

impl Tuple {
    /// Source address and port.
    pub fn source_socket(&self) -> Option<SocketAddr> {
        self.ports.map(|(port, _)| SocketAddr::new(self.source, port))
    }

    /// Destination address and port.
    pub fn destination_socket(&self) -> Option<SocketAddr> {
        self.ports.map(|(_, port)| SocketAddr::new(self.destination, port))
    }
}

/// One connection that is tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its IANA protocol number.
    pub protocol: u8,
    /// As the first packet came in.
    pub original: Tuple,
    /// As replies come in: from the endpoint where it is translated.
    pub reply: Tuple,
    /// `IPS_*` bits of `linux/netfilter/nf_conntrack_common.h`.
    pub status: u32,
    /// The connection mark.
    pub mark: u32,
    /// What is left of its time; none where it has ended.
    pub timeout: Option<Duration>,
    /// Its zone.
    pub zone: u16,
    id: Option<u32>,
}

impl Entry {
    /// The destination is translated.
    pub fn is_translated(&self) -> bool {
        self.status & IPS_DST_NAT != 0
    }

    /// The source is translated.
    pub fn is_masqueraded(&self) -> bool {
        self.status & IPS_SRC_NAT != 0
    }

    /// There was a reply.
    pub fn is_answered(&self) -> bool {
        self.status & IPS_SEEN_REPLY != 0
    }

    /// It is not given up first when the table is full.
    pub fn is_assured(&self) -> bool {
        self.status & IPS_ASSURED != 0
    }

    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        let (mut original, mut reply) = (None, None);
        let (mut status, mut mark, mut timeout, mut zone, mut id) = (0, 0, None, 0, None);
        for (kind, value) in message.attributes(HEADER) {
            match kind {
                CTA_TUPLE_ORIG => original = tuple(value),
                CTA_TUPLE_REPLY => reply = tuple(value),
                CTA_STATUS => status = be32(value)?,
                CTA_MARK => mark = be32(value)?,
                CTA_TIMEOUT => timeout = be32(value).map(seconds),
                CTA_ZONE => zone = be16(value)?,
                CTA_ID => id = be32(value),
                _ => {}
            }
        }
        let ((protocol, original), (_, reply)) = (original?, reply?);
        Some(Self { protocol, original, reply, status, mark, timeout, zone, id })
    }

    /// What a request must say to mean this entry, and no later one of the same tuple.
    pub(super) fn key(&self) -> Vec<u8> {
        let (mut address, mut proto) = (Vec::new(), Vec::new());
        let v4 = self.original.source.is_ipv4();
        let (source, destination) =
            if v4 { (CTA_IP_V4_SRC, CTA_IP_V4_DST) } else { (CTA_IP_V6_SRC, CTA_IP_V6_DST) };
        push_attribute(&mut address, source, &octets(self.original.source));
        push_attribute(&mut address, destination, &octets(self.original.destination));
        push_attribute(&mut proto, CTA_PROTO_NUM, &[self.protocol]);
        if let Some((source, destination)) = self.original.ports {
            push_attribute(&mut proto, CTA_PROTO_SRC_PORT, &source.to_be_bytes());
            push_attribute(&mut proto, CTA_PROTO_DST_PORT, &destination.to_be_bytes());
        }
        if let Some((id, kind, code)) = self.original.icmp {
            let base = if v4 { CTA_PROTO_ICMP_ID } else { CTA_PROTO_ICMPV6_ID };
            push_attribute(&mut proto, base, &id.to_be_bytes());
            push_attribute(&mut proto, base + 1, &[kind]);
            push_attribute(&mut proto, base + 2, &[code]);
        }
        let mut tuple = Vec::new();
        push_nested(&mut tuple, CTA_TUPLE_IP, &address);
        push_nested(&mut tuple, CTA_TUPLE_PROTO, &proto);
        // struct nfgenmsg: family, version 0, resource 0.
        let mut payload = vec![if v4 { 2 } else { 10 }, 0, 0, 0];
        push_nested(&mut payload, CTA_TUPLE_ORIG, &tuple);
        if self.zone != 0 {
            push_attribute(&mut payload, CTA_ZONE, &self.zone.to_be_bytes());
        }
        if let Some(id) = self.id {
            push_attribute(&mut payload, CTA_ID, &id.to_be_bytes());
        }
        payload
    }
}

/// Protocol and tuple.
fn tuple(bytes: &[u8]) -> Option<(u8, Tuple)> {
    let (mut source, mut destination, mut protocol) = (None, None, 0);
    let (mut source_port, mut destination_port) = (None, None);
    let (mut id, mut kind_code) = (None, (0, 0));
    for (kind, value) in Attributes::new(bytes) {
        match kind {
            CTA_TUPLE_IP => {
                for (kind, value) in Attributes::new(value) {
                    match kind {
                        CTA_IP_V4_SRC | CTA_IP_V6_SRC => source = ip(value),
                        CTA_IP_V4_DST | CTA_IP_V6_DST => destination = ip(value),
                        _ => {}
                    }
                }
            }
            CTA_TUPLE_PROTO => {
                for (kind, value) in Attributes::new(value) {
                    match kind {
                        CTA_PROTO_NUM => protocol = *value.first()?,
                        CTA_PROTO_SRC_PORT => source_port = be16(value),
                        CTA_PROTO_DST_PORT => destination_port = be16(value),
                        CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => id = be16(value),
                        CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => {
                            kind_code.0 = *value.first()?;
                        }
                        CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => {
                            kind_code.1 = *value.first()?;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let tuple = Tuple {
        source: source?,
        destination: destination?,
        ports: source_port.zip(destination_port),
        icmp: id.map(|id| (id, kind_code.0, kind_code.1)),
    };
    Some((protocol, tuple))
}
