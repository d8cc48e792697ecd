//! What is done to the IP packets inside a tunnel.

// To be written (pure functions on slices; no panics on any input):
//   header.rs    Parsed { version, source, destination, protocol, ports, header length, fragment, dscp, ecn, total length }
//   checksum.rs  RFC 1071 sums, incremental updates (RFC 1624)
//   nat.rs       prefix NAT 1:1 of source or destination with checksums of TCP, UDP (0 stays 0), ICMP errors' inner headers
//   mss.rs       clamping in SYN
//   icmp.rs      "packet too big"/"fragmentation needed", "administratively prohibited", as answers to a packet
//   segment.rs   a TSO/USO packet (virtio_net_hdr) → headers and payload ranges of its segments, checksums complete
//   coalesce.rs  decrypted packets → TCP super-packets with a virtio_net_hdr (GRO), and checksum-complete singles
//   ecn.rs       outer TOS from the inner one, and back (RFC 6040, RFC 4301 5.1.2.1)
