//! Values that stand in the configuration as text.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use model::ObjectKey;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

mod ports;

pub use ports::{OwnPort, Ports};

/// A length of time, written as `500ms`, `30s`, `5m`, `1h` or `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

impl Period {
    /// Longest that can be written: a week. More is a mistake, and sums can't overflow.
    pub const MAX: Self = Self(Duration::from_secs(7 * 24 * 3600));

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Whether there is no time at all in it.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_period(&text).filter(|period| *period <= Self::MAX).ok_or_else(|| {
            format!(
                "{text:?} is no time up to 168h; write it as \"30s\", \"500ms\", \"5m\" or \"1h\""
            )
        })
    }
}

fn parse_period(text: &str) -> Option<Period> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) =
            after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(millis)?;
        total = total.checked_add(Duration::from_millis(part))?;
        rest = after;
    }
    Some(Period(total))
}

/// The largest unit that gives a whole number: what [`Period`] reads back.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", millis / unit),
            None if millis == 0 => f.write_str("0s"),
            None => write!(f, "{millis}ms"),
        }
    }
}

impl serde::Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;

        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time, such as \"30s\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Period, E> {
                Period::try_from(text.to_owned()).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Period, E> {
                Err(E::custom(format_args!(
                    "{number} has no unit; write \"{number}s\" for seconds"
                )))
            }
        }

        deserializer.deserialize_any(PeriodVisitor)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time, such as 500ms, 30s, 5m, 1h or 1m30s.",
            "type": "string",
            "pattern": "^([0-9]+(ms|s|m|h))+$",
        })
    }
}

/// An object's name, written as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(pub ObjectKey);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        object_key(&text)
            .map(Self)
            .ok_or_else(|| format!("{text:?} names no object; write \"namespace/name\""))
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An object, as namespace/name.",
            "type": "string",
            "pattern": "^[^/:]+/[^/:]+$",
        })
    }
}

/// A Service and one of its ports by name or number, written as `namespace/name:port`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServicePort {
    /// The Service.
    pub service: ObjectKey,
    /// The port's name or number.
    pub port: String,
}

impl TryFrom<String> for ServicePort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.split_once(':')
            .filter(|(_, port)| !port.is_empty() && !port.contains(['/', ':']))
            .and_then(|(name, port)| {
                Some(Self { service: object_key(name)?, port: port.to_owned() })
            })
            .ok_or_else(|| {
                format!("{text:?} names no Service's port; write \"namespace/name:port\"")
            })
    }
}

impl JsonSchema for ServicePort {
    fn schema_name() -> Cow<'static, str> {
        "ServicePort".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A Service and its port's name or number, as namespace/name:port.",
            "type": "string",
            "pattern": "^[^/:]+/[^/:]+:[^/:]+$",
        })
    }
}

fn object_key(text: &str) -> Option<ObjectKey> {
    let (namespace, name) = text.split_once('/')?;
    let valid = |part: &str| !part.is_empty() && !part.contains(['/', ':', ' ']);
    (valid(namespace) && valid(name)).then(|| ObjectKey::new(namespace, name))
}

/// A network, written as `10.0.0.0/8`, or as an address for that one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(pub IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse::<IpNet>().ok();
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        network
            .map(|network| network.trunc())
            .or_else(address)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no network; write it as \"10.0.0.0/8\""))
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A network such as 10.0.0.0/8 or fd00::/8, or one address.",
            "type": "string",
        })
    }
}

/// Where the access log goes: `-` for standard output, `off`, or a file's path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogPath {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// A file.
    File(PathBuf),
}

impl TryFrom<String> for LogPath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.as_str() {
            "" => Err("must not be empty; write \"-\", \"off\" or a file's path"),
            "-" => Ok(Self::Stdout),
            "off" => Ok(Self::Off),
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl JsonSchema for LogPath {
    fn schema_name() -> Cow<'static, str> {
        "LogPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "- for standard output, off, or a file's path.",
            "type": "string",
            "minLength": 1,
        })
    }
}

/// How many threads serve: `auto` or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each processor that the process may use.
    #[default]
    Auto,
    /// So many.
    Count(NonZeroUsize),
}

impl Workers {
    /// Most that can be asked for.
    pub const MAX: usize = 1024;

    /// How many that makes here.
    pub fn count(self) -> usize {
        match self {
            Self::Auto => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            Self::Count(count) => count.get(),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WorkersVisitor;

        impl Visitor<'_> for WorkersVisitor {
            type Value = Workers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"auto\" or a number from 1 to {}", Workers::MAX)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Workers, E> {
                match text {
                    "auto" => Ok(Workers::Auto),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Workers, E> {
                let valid = usize::try_from(count).ok().filter(|count| *count <= Workers::MAX);
                valid
                    .and_then(NonZeroUsize::new)
                    .map(Workers::Count)
                    .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(count), &self))
            }
        }

        deserializer.deserialize_any(WorkersVisitor)
    }
}

impl JsonSchema for Workers {
    fn schema_name() -> Cow<'static, str> {
        "Workers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How many threads serve.",
            "anyOf": [
                {"const": "auto"},
                {"type": "integer", "minimum": 1, "maximum": Workers::MAX},
            ],
        })
    }
}

/// Reads addresses to listen on, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// The format's, for what is no such value.
pub fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Address(IpAddr);

    impl TryFrom<String> for Address {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            text.parse().map(Self).map_err(|_| {
                format!("{text:?} is no address; write one such as \"127.0.0.1\" or \"::1\"")
            })
        }
    }

    let addresses = Vec::<Address>::deserialize(deserializer)?;
    Ok(addresses.into_iter().map(|Address(address)| address).collect())
}

/// Reads an address with a port, or null for none, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// The format's, for what is no such value.
pub fn socket<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Socket(SocketAddr);

    impl TryFrom<String> for Socket {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            text.parse().map(Self).map_err(|_| {
                let address = text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                let example = SocketAddr::new(address, 9901);
                format!("{text:?} is no address with a port; write one such as \"{example}\"")
            })
        }
    }

    let socket = Option::<Socket>::deserialize(deserializer)?;
    Ok(socket.map(|Socket(socket)| socket))
}

/// Reads a number within bounds, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// The format's, for what is no such value.
pub fn within<'de, D, T, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = u64::deserialize(deserializer)?;
    let inside = (MIN..=MAX).contains(&number).then(|| T::try_from(number).ok()).flatten();
    inside.ok_or_else(|| D::Error::custom(format_args!("{number} is not from {MIN} to {MAX}")))
}

/// The same, where it may be missing or null.
///
/// # Errors
/// The format's, for what is no such value.
pub fn within_if_any<'de, D, T, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    struct Within<T, const MIN: u64, const MAX: u64>(T);

    impl<'de, T: TryFrom<u64>, const MIN: u64, const MAX: u64> Deserialize<'de>
        for Within<T, MIN, MAX>
    {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            within::<D, T, MIN, MAX>(deserializer).map(Self)
        }
    }

    let number = Option::<Within<T, MIN, MAX>>::deserialize(deserializer)?;
    Ok(number.map(|Within(number)| number))
}
