//! Ports, as the configuration writes them.

use std::borrow::Cow;
use std::fmt;

use model::{PortRange, Protocol};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Ports from the first to the last, written as `30000-32767`, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports(pub PortRange);

impl Ports {
    /// Kubernetes' own default.
    pub const DEFAULT_NODE_PORTS: Self = Self(PortRange { first: 30000, last: 32767 });
}

impl TryFrom<&str> for Ports {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|port| digits && *port != 0)
        };
        let (Some(first), Some(last)) = (port(first.trim()), port(last.trim())) else {
            return Err(format!(
                "{text:?} is no range of ports from 1 to 65535; write it as \"30000-32767\""
            ));
        };
        if first > last {
            return Err(format!(
                "{text:?} begins after its end; write the lower port first, as \"{last}-{first}\""
            ));
        }
        Ok(Self(PortRange { first, last }))
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortsVisitor;

        impl Visitor<'_> for PortsVisitor {
            type Value = Ports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a range of ports, such as \"30000-32767\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Ports, E> {
                Ports::try_from(text).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, port: u64) -> Result<Ports, E> {
                self.visit_str(&port.to_string())
            }
        }

        deserializer.deserialize_any(PortsVisitor)
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Ports from the first to the last, such as 30000-32767, or one port.",
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"},
                {"type": "integer", "minimum": 1, "maximum": 65535},
            ],
        })
    }
}

/// A protocol and port, written as `tcp:22`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OwnPort(pub Protocol, pub u16);

impl TryFrom<String> for OwnPort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (protocol, port) = text.split_once(':')?;
            let protocol = Protocol::ALL
                .into_iter()
                .find(|known| known.lower().eq_ignore_ascii_case(protocol))?;
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0)?;
            Some(Self(protocol, port))
        };
        parse().ok_or_else(|| {
            format!("{text:?} is no protocol with a port; write tcp, udp or sctp, as \"tcp:22\"")
        })
    }
}

impl JsonSchema for OwnPort {
    fn schema_name() -> Cow<'static, str> {
        "OwnPort".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A protocol and a port, such as tcp:22 or udp:500.",
            "type": "string",
            "pattern": "^(tcp|udp|sctp|TCP|UDP|SCTP):[0-9]+$",
        })
    }
}
