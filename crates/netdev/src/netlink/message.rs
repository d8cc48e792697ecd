//! Netlink messages and their attributes, as bytes (`linux/netlink.h`).

const HEADER: usize = 16;
/// What a message takes beside its payload, at most.
pub(crate) const ROOM: usize = HEADER + 4;
const ATTRIBUTE_HEADER: usize = 4;
const NLA_F_NESTED: u16 = 0x8000;
/// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// One message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// The request that it answers.
    pub(crate) sequence: u32,
    /// The socket that caused it.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind a family's own header of that length.
    pub(crate) fn attributes(&self, header: usize) -> Attributes<'a> {
        Attributes(self.payload.get(header..).unwrap_or_default())
    }
}

/// The messages of a datagram; what is cut off is left out.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let message = Message {
            kind: u16_at(self.0, 4)?,
            flags: u16_at(self.0, 6)?,
            sequence: u32_at(self.0, 8)?,
            port: u32_at(self.0, 12)?,
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

/// Attributes: type and value.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & NLA_TYPE_MASK;
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Appends a message.
pub(crate) fn push(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    let length = HEADER + payload.len();
    bytes.extend_from_slice(&(length as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(payload);
    pad(bytes);
}

/// Appends an attribute.
pub(crate) fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (ATTRIBUTE_HEADER + value.len()) as u16;
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    pad(bytes);
}

/// Appends an attribute that holds attributes.
pub(crate) fn push_nested(bytes: &mut Vec<u8>, kind: u16, attributes: &[u8]) {
    push_attribute(bytes, kind | NLA_F_NESTED, attributes);
}

/// A number of the machine's byte order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number of the machine's byte order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number of the network's byte order.
pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

/// A number of the network's byte order.
pub(crate) fn be16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.first_chunk()?))
}

/// A name that a zero byte ends.
pub(crate) fn name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An IPv4 or IPv6 address, by its length.
pub(crate) fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
        _ => None,
    }
}

/// An address as bytes of the network's order.
pub(crate) fn octets(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn aligned(length: usize) -> usize {
    length.div_ceil(4) * 4
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(aligned(bytes.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_read_back() {
        let mut inner = Vec::new();
        push_attribute(&mut inner, 3, b"abc");
        let mut payload = vec![2, 0, 0, 0];
        push_attribute(&mut payload, 1, b"x");
        push_nested(&mut payload, 2, &inner);
        let mut bytes = Vec::new();
        push(&mut bytes, 20, 5, 7, &payload);
        push(&mut bytes, 21, 0, 8, &[]);
        let messages: Vec<_> = Messages::new(&bytes).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].sequence), (20, 7));
        let attributes: Vec<_> = messages[0].attributes(4).collect();
        assert_eq!(attributes[0], (1, b"x".as_slice()));
        assert_eq!(attributes[1].0, 2);
        let nested: Vec<_> = Attributes::new(attributes[1].1).collect();
        assert_eq!(nested, [(3, b"abc".as_slice())]);
        assert_eq!(messages[1].kind, 21);
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut payload = vec![0; 4];
        push_attribute(&mut payload, 1, b"four");
        let mut bytes = Vec::new();
        push(&mut bytes, 1, 0, 1, &payload);
        for cut in 0..bytes.len() {
            for message in Messages::new(&bytes[..cut]) {
                let _ = message.attributes(4).count();
            }
        }
        // Lengths that lie: zero, too small, too large.
        for length in [0_u16, 3, 0xffff] {
            let mut lying = bytes.clone();
            lying[20..22].copy_from_slice(&length.to_ne_bytes());
            let message = Messages::new(&lying).next().unwrap();
            assert_eq!(message.attributes(4).count(), 0, "{length}");
        }
        for length in [0_u32, 15, u32::MAX] {
            let mut lying = bytes.clone();
            lying[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Messages::new(&lying).count(), 0, "{length}");
        }
    }
}
