//! ESP (RFC 4303): sealing and opening, sequence numbers, replay window.

// To be written:
// pub struct Outbound  (Sync; sequence number is an atomic)
//   Outbound::new(suite: EspSuite, keys: &EspKeys, spi: Spi, rng: &mut dyn crypto::rng::Rng) -> Result<Self, CryptoError>
//   .reserve(&self, packets: u32) -> Result<u64 /* first sequence number */, Exhausted>
//   .sealed_len(&self, inner: usize) -> usize                (exact, without IP and UDP headers)
//   .largest_inner(&self, datagram: usize) -> usize          (payload octets of UDP/IP that fit → inner packet)
//   .seal(&self, sequence: u64, next_header: u8, parts: &[&[u8]], out: &mut Vec<u8>)   appends SPI…ICV; one copy, encrypts in place
// pub struct Inbound
//   Inbound::new(suite, keys, spi, replay_window: u32)
//   .open<'a>(&self, replay: &mut Replay, packet: &'a mut [u8]) -> Result<Opened<'a> { inner: &'a mut [u8], next_header: u8 }, EspError>
//        order: replay pre-check, ESN reconstruction, authentication, window update, padding check.
//        next_header 59 is a TFC dummy: Opened::Dummy. TFC padding after the inner packet is cut by its IP length (packet::header).
// pub struct Replay(window)      64-bit words, ≥ 1,024 packets, 0 = off
