//! The Internet checksum (RFC 1071), and its update where only a field changes (RFC 1624).

/// A sum under way. Parts are added in any order, but each at an even offset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds octets. An odd last one counts as if a zero followed.
    #[inline]
    pub fn with(self, data: &[u8]) -> Self {
        // Words in the machine's own order: the sum comes out the same, with its octets swapped
        // (RFC 1071, 2B). Lanes without carries are what the compiler makes vector code of.
        let mut lanes = [0_u64; LANES];
        let (chunks, rest) = data.as_chunks::<{ 4 * LANES }>();
        for chunk in chunks {
            let (words, _) = chunk.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let mut sum = lanes.iter().sum::<u64>();
        let (words, rest) = rest.as_chunks::<4>();
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        match *rest {
            [a] => sum += u64::from(u16::from_ne_bytes([a, 0])),
            [a, b] => sum += u64::from(u16::from_ne_bytes([a, b])),
            [a, b, c] => sum += u64::from(u32::from_ne_bytes([a, b, c, 0])),
            _ => {}
        }
        self.join(Self(sum))
    }

    /// Adds a 16-bit field.
    #[inline]
    pub fn with_u16(self, value: u16) -> Self {
        Self(self.0 + u64::from(value.to_be()))
    }

    /// Adds a 32-bit field.
    #[inline]
    pub fn with_u32(self, value: u32) -> Self {
        Self(self.0 + u64::from(value.to_be()))
    }

    /// Adds another sum.
    #[inline]
    pub fn join(self, other: Self) -> Self {
        // Folded to 33 bits, so that no number of parts overflows.
        let half = |sum: u64| (sum >> 32) + (sum & 0xffff_ffff);
        Self(half(self.0) + half(other.0))
    }

    /// The sum itself, as it stands in the field of a packet whose checksum is left to others.
    #[inline]
    pub fn partial(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        u16::from_be(sum as u16)
    }

    /// The checksum.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.partial()
    }
}

const LANES: usize = 16;

/// Of the pseudo header of TCP, UDP and ICMPv6 (RFC 9293, 3.1; RFC 8200, 8.1): both addresses as
/// they stand in the header, the protocol, the length of the transport header and payload.
#[inline]
pub fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> Sum {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    Sum::default().with(addresses).with_u32(length).with_u16(u16::from(protocol))
}

/// The checksum after octets (at an even offset, of even number) have changed.
#[inline]
pub fn updated(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    // HC' = ~(~HC + ~m + m')
    Sum::default()
        .with_u16(!checksum)
        .with_u16(!Sum::default().with(old).partial())
        .with(new)
        .finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071, 1, word by word.
    fn plain(data: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in data.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |octet| u32::from(*octet));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let sum = Sum::default().with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), 0xddf2);
        assert_eq!(sum.finish(), !0xddf2);
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_plain_way(
            data in prop::collection::vec(any::<u8>(), 0..3000), cut in 0_usize..1500
        ) {
            let (one, two) = data.split_at((cut * 2).min(data.len() / 2 * 2));
            prop_assert_eq!(Sum::default().with(&data).finish(), plain(&data));
            prop_assert_eq!(Sum::default().with(two).with(one).finish(), plain(&data));
        }

        #[test]
        fn an_update_is_as_good_as_a_new_sum(
            mut data in prop::collection::vec(any::<u8>(), 16..100), new: [u8; 8]
        ) {
            let before = plain(&data);
            let update = updated(before, &data[4..12], &new);
            data[4..12].copy_from_slice(&new);
            let valid = Sum::default().with(&data).with_u16(update).partial();
            prop_assert!(valid == 0xffff || data.iter().all(|octet| *octet == 0));
        }
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        let data = vec![0xff; 70_000];
        let mut sum = Sum::default();
        for _ in 0..1000 {
            sum = sum.with(&data);
        }
        assert_eq!(sum.partial(), 0xffff);
    }
}
