//! Decrypted packets put together into fewer, larger ones for a TUN with offloads.

use super::checksum::{Sum, pseudo};
use super::vnet::{self, VnetHeader};
use super::{protocol, replace};

/// Collects the packets of a batch, and gives out what is to be written to a TUN with
/// `IFF_VNET_HDR`: TCP segments that follow each other as one super-packet, likewise UDP
/// datagrams, all others as they came. Packets of a flow stay in order. Buffers are kept and used
/// again.
#[derive(Debug)]
pub struct Coalescer {
    /// Octets of the `virtio_net_hdr`.
    prefix: usize,
    /// Whether UDP datagrams are put together.
    udp: bool,
    slots: Vec<Slot>,
    /// How many of the slots hold something.
    used: usize,
    /// Flows whose last slot can still grow.
    open: Vec<Open>,
}

/// One write.
#[derive(Debug, Default)]
struct Slot {
    /// Room for the `virtio_net_hdr`, and a packet.
    buffer: Vec<u8>,
    /// What it was put together from, if it was.
    merged: Option<Merged>,
}

#[derive(Clone, Copy, Debug)]
struct Merged {
    layout: Layout,
    size: usize,
    push: bool,
}

/// A flow whose last slot can still grow.
#[derive(Debug)]
struct Open {
    flow: Flow,
    slot: usize,
    layout: Layout,
    /// Payload of the first packet.
    size: usize,
    /// Of TCP, the number that comes next.
    sequence: u32,
    /// The IPv4 identification that comes next.
    id: u16,
    /// Octets of the packet so far.
    total: usize,
    count: usize,
    /// Whether the first packet's checksums were looked at.
    verified: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    ports: u32,
    protocol: u8,
    is_v4: bool,
    addresses: [u64; 4],
}

/// Where things are in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    is_v4: bool,
    is_tcp: bool,
    /// Where the transport header begins.
    transport: usize,
    /// Where the payload begins.
    payload: usize,
}

/// A TCP or UDP packet.
struct Candidate {
    flow: Flow,
    layout: Layout,
    sequence: u32,
    id: u16,
    total: usize,
    push: bool,
    /// Whether it may be put together with others at all.
    mergeable: bool,
}

enum Class {
    /// TCP or UDP, not a fragment.
    Flow(Candidate),
    /// It may belong to any flow.
    Fragment,
    Other,
}

const LARGEST: usize = 65_535;
/// The kernel's limit for datagrams in one packet, in its older versions.
const MOST_DATAGRAMS: usize = 64;
const MOST_OPEN: usize = 32;
/// Slots that keep a large buffer, and slots that are kept at all.
const LARGE_KEPT: usize = 16;
const KEPT: usize = 256;
/// What a slot keeps beyond them.
const SMALL: usize = 2048;

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;

impl Coalescer {
    /// For a TUN whose header is [`vnet::SIZE`] or [`vnet::SIZE_WITH_BUFFERS`]. `udp` needs a
    /// kernel of 6.2 or newer.
    pub fn new(header: usize, udp: bool) -> Self {
        let prefix = header.clamp(vnet::SIZE, vnet::SIZE_WITH_BUFFERS);
        Self { prefix, udp, slots: Vec::new(), used: 0, open: Vec::new() }
    }

    /// Adds a packet.
    pub fn push(&mut self, packet: &[u8]) {
        let candidate = match classify(packet) {
            Class::Flow(candidate) => candidate,
            class => {
                if matches!(class, Class::Fragment) {
                    self.open.clear();
                }
                self.take_slot(packet);
                return;
            }
        };
        let packet = packet.get(..candidate.total).unwrap_or(packet);
        let found = self.open.iter().rposition(|open| open.flow == candidate.flow);
        if let Some(found) = found {
            match self.merge(found, &candidate, packet) {
                Outcome::Grows => return,
                Outcome::Ends => {
                    self.open.swap_remove(found);
                    return;
                }
                Outcome::No => {
                    self.open.swap_remove(found);
                }
            }
        }
        let slot = self.take_slot(packet);
        if !candidate.mergeable || candidate.push || !(candidate.layout.is_tcp || self.udp) {
            return;
        }
        if self.open.len() >= MOST_OPEN {
            self.open.swap_remove(0);
        }
        self.open.push(Open {
            flow: candidate.flow,
            slot,
            layout: candidate.layout,
            size: candidate.total - candidate.layout.payload,
            sequence: candidate.next_sequence(),
            id: candidate.id.wrapping_add(1),
            total: candidate.total,
            count: 1,
            verified: false,
        });
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Gives out all that is held, each with its header before it, in order of each first packet.
    pub fn flush(&mut self, mut write: impl FnMut(&[u8])) {
        self.open.clear();
        for (index, slot) in self.slots.iter_mut().take(self.used).enumerate() {
            if let Some(merged) = slot.merged.take() {
                finish(&mut slot.buffer, self.prefix, merged);
            }
            write(&slot.buffer);
            slot.buffer.clear();
            if index >= LARGE_KEPT && slot.buffer.capacity() > SMALL {
                slot.buffer.shrink_to(SMALL);
            }
        }
        self.used = 0;
        self.slots.truncate(KEPT);
    }

    /// Puts a packet into a slot of its own.
    fn take_slot(&mut self, packet: &[u8]) -> usize {
        let index = self.used;
        if self.slots.len() == index {
            self.slots.push(Slot::default());
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.merged = None;
            slot.buffer.clear();
            slot.buffer.resize(self.prefix, 0);
            slot.buffer.extend_from_slice(packet);
        }
        self.used += 1;
        index
    }

    fn merge(&mut self, open: usize, candidate: &Candidate, packet: &[u8]) -> Outcome {
        let Some(open) = self.open.get_mut(open) else { return Outcome::No };
        let Some(slot) = self.slots.get_mut(open.slot) else { return Outcome::No };
        let Some(first) = slot.buffer.get(self.prefix..) else { return Outcome::No };
        let layout = open.layout;
        let Some(payload) = packet.get(layout.payload..) else { return Outcome::No };
        let follows = candidate.mergeable
            && candidate.layout == layout
            && payload.len() <= open.size
            && open.total + payload.len() <= LARGEST
            && (if layout.is_tcp {
                candidate.sequence == open.sequence
            } else {
                open.count < MOST_DATAGRAMS
            })
            && same_headers(first, packet, layout, candidate.id == open.id);
        if !follows || !is_good(packet, layout) {
            return Outcome::No;
        }
        if !open.verified {
            if !is_good(first, layout) {
                return Outcome::No;
            }
            open.verified = true;
        }
        slot.buffer.extend_from_slice(payload);
        slot.merged = Some(Merged { layout, size: open.size, push: candidate.push });
        open.sequence = candidate.next_sequence();
        open.id = candidate.id.wrapping_add(1);
        open.total += payload.len();
        open.count += 1;
        if candidate.push || payload.len() < open.size { Outcome::Ends } else { Outcome::Grows }
    }
}

enum Outcome {
    /// It was added, and the next may be.
    Grows,
    /// It was added, and was the last.
    Ends,
    /// It was not added.
    No,
}

impl Candidate {
    fn next_sequence(&self) -> u32 {
        let payload = self.total - self.layout.payload;
        self.sequence.wrapping_add(payload as u32)
    }
}

#[inline]
fn classify(packet: &[u8]) -> Class {
    match packet.first() {
        Some(0x45) => classify_v4(packet).unwrap_or(Class::Other),
        Some(first) if first >> 4 == 4 => Class::Fragment,
        Some(first) if first >> 4 == 6 => classify_v6(packet).unwrap_or(Class::Other),
        _ => Class::Other,
    }
}

#[inline]
fn classify_v4(packet: &[u8]) -> Option<Class> {
    let header = packet.first_chunk::<20>()?;
    let [_, _, l0, l1, i0, i1, f0, f1, _, protocol, _, _, addresses @ ..] = *header;
    if u16::from_be_bytes([f0, f1]) & 0x3fff != 0 {
        return Some(Class::Fragment);
    }
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    let addresses = [u64::from_ne_bytes(addresses), 0, 0, 0];
    transport(packet, total, 20, protocol, u16::from_be_bytes([i0, i1]), addresses)
}

#[inline]
fn classify_v6(packet: &[u8]) -> Option<Class> {
    let header = packet.first_chunk::<40>()?;
    let [_, _, _, _, l0, l1, protocol, _, addresses @ ..] = header;
    if *protocol == protocol::FRAGMENT || *protocol == protocol::HOP_BY_HOP {
        return Some(Class::Fragment);
    }
    let total = 40 + usize::from(u16::from_be_bytes([*l0, *l1]));
    let (words, _) = addresses.as_chunks::<8>();
    let mut addresses = [0; 4];
    for (to, from) in addresses.iter_mut().zip(words) {
        *to = u64::from_ne_bytes(*from);
    }
    transport(packet, total, 40, *protocol, 0, addresses)
}

#[inline]
fn transport(
    packet: &[u8],
    total: usize,
    transport: usize,
    protocol: u8,
    id: u16,
    addresses: [u64; 4],
) -> Option<Class> {
    let segment = packet.get(transport..total)?;
    let is_v4 = transport == 20;
    let (payload, sequence, push, mergeable) = match protocol {
        protocol::TCP => {
            let header = segment.first_chunk::<20>()?;
            let [_, _, _, _, s0, s1, s2, s3, _, _, _, _, offset, flags, ..] = *header;
            let payload = transport + usize::from(offset >> 4) * 4;
            let mergeable =
                flags & !(PSH | ECE) == ACK && payload >= transport + 20 && payload < total;
            (payload, u32::from_be_bytes([s0, s1, s2, s3]), flags & PSH != 0, mergeable)
        }
        protocol::UDP => {
            let [_, _, _, _, l0, l1, c0, c1] = *segment.first_chunk::<8>()?;
            let mergeable = usize::from(u16::from_be_bytes([l0, l1])) == segment.len()
                && [c0, c1] != [0, 0]
                && segment.len() > 8;
            (transport + 8, 0, false, mergeable)
        }
        _ => return Some(Class::Other),
    };
    let ports = u32::from_ne_bytes(*segment.first_chunk::<4>()?);
    let is_tcp = protocol == protocol::TCP;
    Some(Class::Flow(Candidate {
        flow: Flow { ports, protocol, is_v4, addresses },
        layout: Layout { is_v4, is_tcp, transport, payload: payload.min(total) },
        sequence,
        id,
        total,
        push,
        mergeable,
    }))
}

/// Whether two packets differ only in lengths, checksums, sequence number and PSH. `id_follows` is
/// asked for where IPv4 packets may be cut up on their way: their identification counts there.
fn same_headers(one: &[u8], other: &[u8], layout: Layout, id_follows: bool) -> bool {
    let same = |from: usize, to: usize| one.get(from..to) == other.get(from..to);
    let network = if layout.is_v4 {
        let may_be_cut = one.get(6).is_none_or(|flags| flags & 0x40 == 0);
        same(1, 2) && same(6, 9) && (id_follows || !may_be_cut)
    } else {
        same(0, 4) && same(7, 8)
    };
    if !layout.is_tcp {
        return network;
    }
    let flags = |packet: &[u8]| packet.get(layout.transport + 13).map(|flags| flags & !PSH);
    network
        && same(layout.transport + 8, layout.transport + 13)
        && flags(one) == flags(other)
        && same(layout.transport + 14, layout.transport + 16)
        && same(layout.transport + 18, layout.payload)
}

/// Whether a packet's checksums are good.
fn is_good(packet: &[u8], layout: Layout) -> bool {
    let (Some(header), Some(segment)) =
        (packet.get(..layout.transport), packet.get(layout.transport..))
    else {
        return false;
    };
    if layout.is_v4 && Sum::default().with(header).partial() != 0xffff {
        return false;
    }
    pseudo_of(header, layout, segment.len()).with(segment).partial() == 0xffff
}

fn pseudo_of(header: &[u8], layout: Layout, length: usize) -> Sum {
    let addresses = header.get(if layout.is_v4 { 12..20 } else { 8..40 }).unwrap_or_default();
    pseudo(addresses, if layout.is_tcp { protocol::TCP } else { protocol::UDP }, length)
}

/// Writes the headers of a super-packet.
fn finish(buffer: &mut [u8], prefix: usize, merged: Merged) {
    let Merged { layout, size, push } = merged;
    let Some((header, packet)) = buffer.split_at_mut_checked(prefix) else { return };
    let offset = if layout.is_tcp { 16 } else { 6 };
    let vnet = VnetHeader {
        flags: vnet::NEEDS_CHECKSUM,
        gso_type: match layout {
            Layout { is_tcp: false, .. } => vnet::UDP_L4,
            Layout { is_v4: true, .. } => vnet::TCP_V4,
            Layout { is_v4: false, .. } => vnet::TCP_V6,
        },
        header_length: layout.payload as u16,
        gso_size: size as u16,
        checksum_start: layout.transport as u16,
        checksum_offset: offset as u16,
    };
    header.iter_mut().zip(vnet.to_bytes()).for_each(|(to, from)| *to = from);
    // `merge` lets no packet grow beyond what these fields hold.
    let total = packet.len();
    let length = (total - layout.transport) as u16;
    let sum = pseudo_of(packet, layout, usize::from(length)).partial();
    replace(packet, layout.transport + offset, sum.to_be_bytes());
    if !layout.is_tcp {
        replace(packet, layout.transport + 4, length.to_be_bytes());
    } else if push && let Some(flags) = packet.get_mut(layout.transport + 13) {
        *flags |= PSH;
    }
    if layout.is_v4 {
        replace(packet, 2, (total as u16).to_be_bytes());
        replace(packet, 10, [0; 2]);
        let sum = Sum::default().with(packet.get(..layout.transport).unwrap_or_default()).finish();
        replace(packet, 10, sum.to_be_bytes());
    } else {
        replace(packet, 4, length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
