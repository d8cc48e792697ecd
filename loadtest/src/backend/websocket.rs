//! Echoing WebSocket messages (RFC 6455), frame by frame as they come.

use std::io;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Counts;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The answer to a proper request for an upgrade.
pub(super) fn accept(name: &str, key: &str) -> Vec<u8> {
    let mut proof = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    proof.update(key.as_bytes());
    proof.update(GUID);
    let proof = STANDARD.encode(proof.finish());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nServer: loadtest\r\nX-Backend: {name}\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {proof}\r\n\r\n"
    )
    .into_bytes()
}

/// One connection's state.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// A frame's head whose end has not come.
    head: Vec<u8>,
    frame: Option<Frame>,
}

#[derive(Debug)]
struct Frame {
    left: u64,
    mask: [u8; 4],
    /// Whether its payload goes back.
    echoed: bool,
    closes: bool,
}

impl Echo {
    /// Takes bytes and leaves their echo; whether the connection is over then. Nonsense is an
    /// error.
    pub(super) fn take(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> io::Result<bool> {
        loop {
            let Some(frame) = &mut self.frame else {
                let Some((byte, rest)) = input.split_first() else { return Ok(false) };
                input = rest;
                self.head.push(*byte);
                self.frame = begin(&self.head, out, counts)?;
                if self.frame.is_some() {
                    self.head.clear();
                }
                continue;
            };
            let size = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len());
            let (payload, rest) = input.split_at(size);
            input = rest;
            if frame.echoed {
                let masked = payload.iter().zip(frame.mask.iter().cycle());
                out.extend(masked.map(|(byte, mask)| byte ^ mask));
                frame.mask.rotate_left(size % 4);
            }
            frame.left -= size as u64;
            if frame.left > 0 {
                return Ok(false);
            }
            if frame.closes {
                return Ok(true);
            }
            self.frame = None;
        }
    }
}

/// Reads a frame's head, and leaves the head of what goes back; nothing if it is not complete.
fn begin(head: &[u8], out: &mut Vec<u8>, counts: &mut Counts) -> io::Result<Option<Frame>> {
    let &[first, second, ref rest @ ..] = head else { return Ok(None) };
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length, mask)) = rest.split_at_checked(extended) else { return Ok(None) };
    let Ok(mask) = <[u8; 4]>::try_from(mask) else { return Ok(None) };
    let left = match extended {
        0 => u64::from(second & 0x7f),
        _ => length.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
    };
    let opcode = first & 15;
    let is_control = opcode & 8 != 0;
    if second & 0x80 == 0 || first & 0x70 != 0 || (is_control && left > 125) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if !is_control {
        counts.websocket_messages += u64::from(first >> 7);
        counts.websocket_bytes += left;
    }
    let echoed = opcode != PONG;
    if echoed {
        out.push(if opcode == PING { 0x80 | PONG } else { first });
        out.push(second & 0x7f);
        out.extend_from_slice(length);
    }
    Ok(Some(Frame { left, mask, echoed, closes: opcode == CLOSE }))
}
