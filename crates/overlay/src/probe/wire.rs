//! Messages as octets: numbers in network order, lists with their length before them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::ObjectKey;

use super::{Answer, Body, Holds, LARGEST, Message, Nonce, Probe, ProbeError};

/// Octets of the longest name: RFC 1123's 253.
pub const MAX_NAME: usize = 253;

const PROBE: u8 = 1;
const ANSWER: u8 = 2;
const ALIVE_ASKED: u8 = 3;
const ALIVE: u8 = 4;
const PROMISE_ASKED: u8 = 5;
const PROMISE: u8 = 6;
const BEHIND: u8 = 7;

/// A message's octets.
pub(super) fn encode(message: &Message) -> Result<Vec<u8>, ProbeError> {
    let mut out = Vec::new();
    out.push(match &message.body {
        Body::Probe(_) => PROBE,
        Body::Answer(_) => ANSWER,
        Body::AliveAsked(_) => ALIVE_ASKED,
        Body::Alive(_) => ALIVE,
        Body::PromiseAsked(_) => PROMISE_ASKED,
        Body::Promise(_) => PROMISE,
        Body::Behind(_) => BEHIND,
    });
    out.extend_from_slice(&message.sequence.to_be_bytes());
    match &message.answers {
        None => out.push(0),
        Some(nonce) => {
            out.push(1);
            out.extend_from_slice(&nonce.0);
        }
    }
    match &message.body {
        Body::Probe(probe) => {
            push_name(&mut out, &probe.node)?;
            out.extend_from_slice(&probe.generation.to_be_bytes());
            out.push(probe.use_key.into());
            out.extend_from_slice(&probe.knows.to_be_bytes());
        }
        Body::Answer(answer) => {
            push_name(&mut out, &answer.edge)?;
            out.extend_from_slice(&answer.incarnation.to_be_bytes());
            out.push(answer.drain.into());
            out.extend_from_slice(&answer.hash.to_be_bytes());
            out.push(answer.holds.is_some().into());
            if let Some(holds) = &answer.holds {
                let names = holds.vpn.keys().flat_map(|key| [&key.namespace, &key.name]);
                if names.into_iter().any(|name| name.len() > MAX_NAME) {
                    return Err(ProbeError::TooLong);
                }
                push_holds(&mut out, holds);
            }
        }
        Body::AliveAsked(number) | Body::Alive(number) | Body::Behind(number) => {
            out.extend_from_slice(&number.to_be_bytes());
        }
        Body::PromiseAsked(octets) | Body::Promise(octets) => out.extend_from_slice(octets),
    }
    if out.len() > LARGEST { Err(ProbeError::TooLong) } else { Ok(out) }
}

/// What an edge holds. Names beyond their limit, and lists of more than 65,535, are cut off.
pub(super) fn push_holds(out: &mut Vec<u8>, holds: &Holds) {
    let count = u16::try_from(holds.vpn.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for (key, epoch) in holds.vpn.iter().take(count.into()) {
        for name in [&key.namespace, &key.name] {
            let octets = name.as_bytes();
            let octets = octets.get(..MAX_NAME).unwrap_or(octets);
            out.push(u8::try_from(octets.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(octets);
        }
        out.extend_from_slice(&epoch.to_be_bytes());
    }
    let count = u16::try_from(holds.vips.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for vip in holds.vips.iter().take(count.into()) {
        match vip {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) -> Result<(), ProbeError> {
    if name.len() > MAX_NAME {
        return Err(ProbeError::TooLong);
    }
    out.push(u8::try_from(name.len()).map_err(|_| ProbeError::TooLong)?);
    out.extend_from_slice(name.as_bytes());
    Ok(())
}

/// Reads a message; there is one spelling of each, and nothing may follow.
pub(super) fn decode(octets: &[u8]) -> Result<Message, ProbeError> {
    if octets.len() > LARGEST {
        return Err(ProbeError::Malformed);
    }
    let mut input = Input(octets);
    let kind = input.octet()?;
    let sequence = input.number()?;
    let answers = if input.flag()? { Some(Nonce(input.take()?)) } else { None };
    let body = match kind {
        PROBE => Body::Probe(Probe {
            node: input.name()?,
            generation: input.number()?,
            use_key: input.flag()?,
            knows: input.number()?,
        }),
        ANSWER => {
            let (edge, incarnation) = (input.name()?, input.number()?);
            let (drain, hash) = (input.flag()?, input.number()?);
            let holds = if input.flag()? { Some(input.holds()?) } else { None };
            Body::Answer(Answer { edge, incarnation, drain, hash, holds })
        }
        ALIVE_ASKED => Body::AliveAsked(input.number()?),
        ALIVE => Body::Alive(input.number()?),
        PROMISE_ASKED => Body::PromiseAsked(input.rest()),
        PROMISE => Body::Promise(input.rest()),
        BEHIND => Body::Behind(input.number()?),
        _ => return Err(ProbeError::Malformed),
    };
    // What answers says what, and nothing else does.
    if !input.0.is_empty() || body.is_answer() != answers.is_some() {
        return Err(ProbeError::Malformed);
    }
    Ok(Message { sequence, answers, body })
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProbeError> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(ProbeError::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn octet(&mut self) -> Result<u8, ProbeError> {
        self.take::<1>().map(|[octet]| octet)
    }

    fn count(&mut self) -> Result<u16, ProbeError> {
        self.take().map(u16::from_be_bytes)
    }

    fn number(&mut self) -> Result<u64, ProbeError> {
        self.take().map(u64::from_be_bytes)
    }

    fn flag(&mut self) -> Result<bool, ProbeError> {
        match self.octet()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ProbeError::Malformed),
        }
    }

    fn name(&mut self) -> Result<String, ProbeError> {
        let length = usize::from(self.octet()?);
        let (name, rest) = self.0.split_at_checked(length).ok_or(ProbeError::Malformed)?;
        self.0 = rest;
        if length > MAX_NAME {
            return Err(ProbeError::Malformed);
        }
        std::str::from_utf8(name).map(str::to_owned).map_err(|_| ProbeError::Malformed)
    }

    fn holds(&mut self) -> Result<Holds, ProbeError> {
        let mut vpn = BTreeMap::new();
        for _ in 0..self.count()? {
            let key = ObjectKey::new(self.name()?, self.name()?);
            // In order, so that each is there once.
            if vpn.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(ProbeError::Malformed);
            }
            vpn.insert(key, self.number()?);
        }
        let mut vips = Vec::new();
        for _ in 0..self.count()? {
            vips.push(match self.octet()? {
                4 => Ipv4Addr::from(self.take::<4>()?).into(),
                6 => Ipv6Addr::from(self.take::<16>()?).into(),
                _ => return Err(ProbeError::Malformed),
            });
        }
        Ok(Holds { vpn, vips })
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }
}
