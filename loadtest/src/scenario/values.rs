//! Values as scenarios write them: times, sizes, shares, addresses, levels.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// The longest time that a scenario may name.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A length of time, as in `250us`, `20ms`, `10s`, `1.5m` or `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match text.get(number.len()..) {
            Some("us") => 1e-6,
            Some("ms") => 1e-3,
            Some("s") => 1.0,
            Some("m") => 60.0,
            Some("h") => 3600.0,
            _ => f64::NAN,
        };
        let seconds = number.parse::<f64>().map_or(f64::NAN, |number| number * factor);
        if seconds > 0.0 && seconds <= LONGEST.as_secs_f64() {
            return Ok(Self(Duration::from_secs_f64(seconds)));
        }
        Err(format!(
            "{text:?} is no length of time above 0, up to a week: write 250us, 20ms, 10s, 1.5m or 1h"
        ))
    }
}

/// A number of bytes, as in `1000`, `64KiB` or `1MiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    fn parse(text: &str) -> Option<u64> {
        let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match text.get(number.len()..)? {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.trim_end().parse::<u64>().ok()?.checked_mul(factor)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes as in 1000, 64KiB or 1MiB")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Size, E> {
                Ok(Size(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Size, E> {
                let size = Size::parse(value);
                size.map(Size).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

/// A share, as in `0.1%` or `0.001`; 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Part;
        impl Visitor<'_> for Part {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share from 0 to 1 as in 0.001 or 0.1%")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Share, E> {
                self.visit_f64(value as f64)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Share, E> {
                match (0.0..=1.0).contains(&value) {
                    true => Ok(Share(value)),
                    false => Err(E::invalid_value(de::Unexpected::Float(value), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Share, E> {
                let percent = value.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
                match percent {
                    Some(percent) => self.visit_f64(percent / 100.0),
                    None => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Part)
    }
}

/// A level that is held, as in `2000`, or changes evenly, as in `{from: 100, to: 2000}`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Level {
    /// At the beginning.
    pub(crate) from: f64,
    /// At the end.
    pub(crate) to: f64,
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Ramp {
            from: f64,
            to: f64,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Level;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number as in 2000, or a ramp as in {from: 100, to: 2000}")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Level, E> {
                self.visit_f64(value as f64)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Level, E> {
                Ok(Level { from: value, to: value })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Level, A::Error> {
                let ramp = Ramp::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Level { from: ramp.from, to: ramp.to })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A host, or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Address(pub(crate) String);

impl Address {
    /// The first address that it stands for.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, String> {
        let Self(text) = self;
        let addresses = text.to_socket_addrs().map_err(|error| {
            format!("{text:?} can't be resolved ({error}): write HOST:PORT, as in 127.0.0.1:8080")
        })?;
        let mut addresses = addresses;
        addresses.next().ok_or_else(|| format!("{text:?} has no address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let span = |text: &str| Span::try_from(text.to_owned()).map(|span| span.0);
        assert_eq!(span("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(span("1.5m"), Ok(Duration::from_secs(90)));
        for text in ["10", "0s", "-1s", "8d", "s", "inf s", "NaNs", "200h"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(Size::parse("64KiB"), Some(65_536));
        assert_eq!(Size::parse("7"), Some(7));
        assert_eq!(Size::parse("1 MiB"), Some(1 << 20));
        for text in ["", "KiB", "1.5MiB", "1MB", "99999999999GiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
