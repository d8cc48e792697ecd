//! `struct virtio_net_hdr`, which stands before each packet of a TUN with `IFF_VNET_HDR`.

use super::Malformed;

/// What is left to offloads. In the machine's own byte order, as a TUN has it by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`NEEDS_CHECKSUM`] and others.
    pub flags: u8,
    /// What to segment as: [`NONE`], [`TCP_V4`], [`TCP_V6`] or [`UDP_L4`], perhaps with [`ECN`].
    pub gso_type: u8,
    /// Octets of all headers. Only a hint.
    pub header_length: u16,
    /// Payload of each segment.
    pub gso_size: u16,
    /// Where the transport header begins.
    pub checksum_start: u16,
    /// Where in it the checksum stands.
    pub checksum_offset: u16,
}

/// The size of the usual header.
pub const SIZE: usize = 10;
/// The size with `num_buffers` at its end.
pub const SIZE_WITH_BUFFERS: usize = 12;

/// Flag: the checksum field holds the pseudo header's sum, the rest is to be added.
pub const NEEDS_CHECKSUM: u8 = 1;

/// GSO type: one packet as it is.
pub const NONE: u8 = 0;
/// GSO type: TCP over IPv4.
pub const TCP_V4: u8 = 1;
/// GSO type: TCP over IPv6.
pub const TCP_V6: u8 = 4;
/// GSO type: UDP datagrams of one size.
pub const UDP_L4: u8 = 5;
/// Bit in the GSO type: TCP with ECN.
pub const ECN: u8 = 0x80;

impl VnetHeader {
    /// Splits what was read from a TUN into header and packet. `size` is [`SIZE`] or
    /// [`SIZE_WITH_BUFFERS`].
    ///
    /// # Errors
    /// It is shorter than the header.
    #[inline]
    pub fn split(read: &mut [u8], size: usize) -> Result<(Self, &mut [u8]), Malformed> {
        let (header, packet) = read.split_at_mut_checked(size).ok_or(Malformed)?;
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] =
            *header.first_chunk::<SIZE>().ok_or(Malformed)?;
        let header = Self {
            flags,
            gso_type,
            header_length: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            checksum_start: u16::from_ne_bytes([s0, s1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        };
        Ok((header, packet))
    }

    /// As it stands before a packet. Of a header with `num_buffers`, those are one.
    #[inline]
    pub fn to_bytes(&self) -> [u8; SIZE_WITH_BUFFERS] {
        let [h0, h1] = self.header_length.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        let [b0, b1] = 1_u16.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1, b0, b1]
    }
}
