//! An other end made by hand, that does what no engine does.

use std::net::SocketAddr;
use std::time::Instant;

use ipsec::crypto::auth::{METHOD_SHARED_KEY, psk_auth, signed_octets};
use ipsec::crypto::kex::{self, KeyExchange};
use ipsec::crypto::keys::IkeKeys;
use ipsec::crypto::rng::SeededRng;
use ipsec::ike::Engine;
use ipsec::ike::identity::Identity;
use ipsec::ike::message::{
    Datagram, Exchange, Header, Message, Payload, accept, choose, encode_payloads, offer, read,
    read_payloads, sk_header,
};
use ipsec::sa::Path;
use model::suite::{Group, Proposal, Purpose};

use crate::pair::{proposals, selectors};

/// What forgers offer.
pub(crate) const SUITE: &str = "aes256gcm16-prfsha384-x25519";

/// It knows the keys of an IKE SA with an engine, and has proven nothing by that.
pub(crate) struct Forger {
    /// As the engine sees it.
    pub(crate) path: Path,
    pub(crate) initiator: bool,
    pub(crate) spis: (u64, u64),
    pub(crate) nonces: (Vec<u8>, Vec<u8>),
    pub(crate) keys: IkeKeys,
    pub(crate) suite: Proposal,
    /// Both IKE_SA_INIT messages.
    request: Vec<u8>,
    response: Vec<u8>,
    /// Of its own next request.
    pub(crate) next: u32,
    pub(crate) now: Instant,
}

/// All that an engine wants to send.
pub(crate) fn sent(engine: &mut Engine) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| engine.poll_transmit()).map(|one| one.payload).collect()
}

pub(crate) fn clear(octets: &[u8]) -> Message {
    let Ok(Datagram::Clear(message)) = read(octets) else { panic!("not in the clear") };
    message
}

fn parts(payloads: &[Payload]) -> (&[u8], &[u8]) {
    let public = payloads.iter().find_map(|payload| match payload {
        Payload::KeyExchange { data, .. } => Some(data.as_slice()),
        _ => None,
    });
    let nonce = payloads.iter().find_map(|payload| match payload {
        Payload::Nonce(nonce) => Some(nonce.as_slice()),
        _ => None,
    });
    (public.unwrap(), nonce.unwrap())
}

fn path(local: SocketAddr, remote: SocketAddr) -> Path {
    Path { local, remote }
}

impl Forger {
    /// Answers the IKE_SA_INIT request that an engine has just sent, in place of its other end.
    pub(crate) fn responds(engine: &mut Engine, now: Instant) -> Self {
        let one = engine.poll_transmit().unwrap();
        let request = clear(&one.payload);
        let offered = request.payloads.iter().find_map(|payload| match payload {
            Payload::Sa(wire) => Some(wire.as_slice()),
            _ => None,
        });
        let (public, ni) = parts(&request.payloads);
        let ours = proposals(SUITE, Purpose::Ike);
        let chosen = choose(&ours, Purpose::Ike, offered.unwrap(), None).unwrap();
        let (own, shared) = kex::respond(Group::X25519, public).unwrap();
        let (spi_i, spi_r) = (request.header.initiator_spi, 0x1111_2222_3333_4444);
        let nr = vec![7; 32];
        let keys = IkeKeys::derive(&chosen.suite, &shared, ni, &nr, spi_i, spi_r).unwrap();
        let header = Header {
            responder_spi: spi_r,
            from_initiator: false,
            response: true,
            ..request.header
        };
        let payloads = vec![
            Payload::Sa(vec![chosen.answer(&[])]),
            Payload::KeyExchange { group: 31, data: own },
            Payload::Nonce(nr.clone()),
        ];
        let response = Message { header, payloads }.encode();
        engine.handle_datagram(now, one.path, &response);
        Self {
            path: one.path,
            initiator: false,
            spis: (spi_i, spi_r),
            nonces: (ni.to_vec(), nr),
            keys,
            suite: chosen.suite,
            request: one.payload,
            response,
            next: 0,
            now,
        }
    }

    /// Begins an IKE SA with an engine.
    pub(crate) fn begins(
        engine: &mut Engine,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        spi_i: u64,
        more: &[Payload],
    ) -> Self {
        let path = path(local, remote);
        let (exchange, public) = KeyExchange::begin(Group::X25519).unwrap();
        let ni = vec![9; 32];
        let ours = proposals(SUITE, Purpose::Ike);
        let header = Header {
            initiator_spi: spi_i,
            responder_spi: 0,
            exchange: Exchange::SaInit,
            from_initiator: true,
            response: false,
            message_id: 0,
        };
        let mut payloads = vec![
            Payload::Sa(offer(&ours, Purpose::Ike, &[])),
            Payload::KeyExchange { group: 31, data: public },
            Payload::Nonce(ni.clone()),
        ];
        payloads.extend_from_slice(more);
        let request = Message { header, payloads }.encode();
        sent(engine);
        engine.handle_datagram(now, path, &request);
        let response = sent(engine).remove(0);
        let answer = clear(&response);
        let (public, nr) = parts(&answer.payloads);
        let shared = exchange.finish(public).unwrap();
        let spi_r = answer.header.responder_spi;
        let chosen = answer.payloads.iter().find_map(|payload| match payload {
            Payload::Sa(wire) => accept(&ours, Purpose::Ike, wire.first()?),
            _ => None,
        });
        let suite = chosen.unwrap();
        let keys = IkeKeys::derive(&suite, &shared, &ni, nr, spi_i, spi_r).unwrap();
        Self {
            path,
            initiator: true,
            spis: (spi_i, spi_r),
            nonces: (ni, nr.to_vec()),
            keys,
            suite,
            request,
            response,
            next: 1,
            now,
        }
    }

    /// AUTH with this key, for this identity.
    pub(crate) fn auth(&self, key: &[u8], id: &Identity) -> Payload {
        let prf = self.suite.prf[0];
        let (message, nonce, secret) = match self.initiator {
            true => (&self.request, &self.nonces.1, &self.keys.sk_pi),
            false => (&self.response, &self.nonces.0, &self.keys.sk_pr),
        };
        let octets = signed_octets(message, nonce, prf, secret, id, &[]);
        Payload::Auth(METHOD_SHARED_KEY, psk_auth(prf, key, &octets))
    }

    /// SA, TSi and TSr of a child SA, by the initiator's networks.
    pub(crate) fn child(&self, spi: u32, local: &str, remote: &str) -> Vec<Payload> {
        let ours = proposals("aes256gcm16", Purpose::Esp);
        vec![
            Payload::Sa(offer(&ours, Purpose::Esp, &spi.to_be_bytes())),
            Payload::TsInitiator(selectors(local)),
            Payload::TsResponder(selectors(remote)),
        ]
    }

    /// The payloads of a message of the engine.
    pub(crate) fn open(&self, octets: &[u8]) -> Vec<Payload> {
        let Ok(Datagram::Encrypted { inner, associated, sealed, .. }) = read(octets) else {
            panic!("not sealed");
        };
        let cipher = if self.initiator { &self.keys.responder } else { &self.keys.initiator };
        let plain = cipher.open(associated, sealed).unwrap();
        read_payloads(inner, &plain).unwrap()
    }

    fn seal(&self, header: &Header, payloads: &[Payload]) -> Vec<u8> {
        let cipher = if self.initiator { &self.keys.initiator } else { &self.keys.responder };
        let (inner, plain) = encode_payloads(payloads);
        let length = plain.len() + cipher.overhead(plain.len());
        let mut octets = sk_header(header, inner, length);
        let sealed = cipher.seal(&mut SeededRng::new(5), &octets, &plain);
        octets.extend_from_slice(&sealed);
        octets
    }

    fn header(&self, exchange: Exchange, response: bool, message_id: u32) -> Header {
        Header {
            initiator_spi: self.spis.0,
            responder_spi: self.spis.1,
            exchange,
            from_initiator: self.initiator,
            response,
            message_id,
        }
    }

    /// Sends a request; what the engine answers.
    pub(crate) fn asks(
        &mut self,
        engine: &mut Engine,
        exchange: Exchange,
        payloads: &[Payload],
    ) -> Vec<Payload> {
        let header = self.header(exchange, false, self.next);
        sent(engine);
        let octets = self.seal(&header, payloads);
        engine.handle_datagram(self.now, self.path, &octets);
        self.next += 1;
        let answers = sent(engine);
        let own = answers.iter().find(|one| {
            read(one).is_ok_and(|one| {
                let header = one.header();
                header.response && (header.initiator_spi, header.responder_spi) == self.spis
            })
        });
        own.map(|one| self.open(one)).unwrap_or_default()
    }

    /// Answers the engine's request.
    pub(crate) fn answers(
        &self,
        engine: &mut Engine,
        exchange: Exchange,
        message_id: u32,
        payloads: &[Payload],
    ) {
        let header = self.header(exchange, true, message_id);
        engine.handle_datagram(self.now, self.path, &self.seal(&header, payloads));
    }
}
