//! Kubernetes' protobuf, as far as kubectl sends it whatever it is offered: objects that its
//! typed commands create (`create secret`, `create namespace`, `auth can-i`). It is turned to
//! JSON by tables of the fields (the numbers of `generated.proto` in k8s.io/api).

use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// What such a body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// How a field is to be read.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Bytes,
    Bool,
    Integer,
    Message(&'static [Field]),
    Texts,
    Messages(&'static [Field]),
    TextMap,
    BytesMap,
}

/// A field's number, its name in JSON, its type.
type Field = (u64, &'static str, Type);

const METADATA: &[Field] = &[
    (1, "name", Type::Text),
    (2, "generateName", Type::Text),
    (3, "namespace", Type::Text),
    (5, "uid", Type::Text),
    (6, "resourceVersion", Type::Text),
    (11, "labels", Type::TextMap),
    (12, "annotations", Type::TextMap),
    (14, "finalizers", Type::Texts),
];

const RESOURCE_ATTRIBUTES: &[Field] = &[
    (1, "namespace", Type::Text),
    (2, "verb", Type::Text),
    (3, "group", Type::Text),
    (4, "version", Type::Text),
    (5, "resource", Type::Text),
    (6, "subresource", Type::Text),
    (7, "name", Type::Text),
];

const REFERENCE: &[Field] = &[(1, "kind", Type::Text), (3, "name", Type::Text)];

fn fields_of(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "ConfigMap" => &[
            (1, "metadata", Type::Message(METADATA)),
            (2, "data", Type::TextMap),
            (3, "binaryData", Type::BytesMap),
            (4, "immutable", Type::Bool),
        ],
        "Secret" => &[
            (1, "metadata", Type::Message(METADATA)),
            (2, "data", Type::BytesMap),
            (3, "type", Type::Text),
            (4, "stringData", Type::TextMap),
            (5, "immutable", Type::Bool),
        ],
        "Namespace" => &[(1, "metadata", Type::Message(METADATA))],
        "ServiceAccount" => {
            &[(1, "metadata", Type::Message(METADATA)), (2, "secrets", Type::Messages(REFERENCE))]
        }
        "DeleteOptions" => &[
            (1, "gracePeriodSeconds", Type::Integer),
            (
                2,
                "preconditions",
                Type::Message(&[(1, "uid", Type::Text), (2, "resourceVersion", Type::Text)]),
            ),
            (4, "propagationPolicy", Type::Text),
            (5, "dryRun", Type::Texts),
        ],
        "SelfSubjectAccessReview" => &[
            (1, "metadata", Type::Message(METADATA)),
            (
                2,
                "spec",
                Type::Message(&[
                    (1, "resourceAttributes", Type::Message(RESOURCE_ATTRIBUTES)),
                    (
                        2,
                        "nonResourceAttributes",
                        Type::Message(&[(1, "path", Type::Text), (2, "verb", Type::Text)]),
                    ),
                ]),
            ),
        ],
        "SelfSubjectRulesReview" => &[
            (1, "metadata", Type::Message(METADATA)),
            (2, "spec", Type::Message(&[(1, "namespace", Type::Text)])),
        ],
        _ => return None,
    })
}

/// The object of a body in protobuf; none: it is in something else.
pub(crate) fn decode(body: &[u8]) -> Option<Result<Value, Refusal>> {
    Some(envelope(body.strip_prefix(MAGIC)?))
}

fn envelope(body: &[u8]) -> Result<Value, Refusal> {
    const TYPE: &[Field] = &[(1, "apiVersion", Type::Text), (2, "kind", Type::Text)];
    let broken = || Refusal::bad_request("the body's protobuf is broken");
    let (mut kind, mut raw) = (Value::Null, &b""[..]);
    for entry in Reader(body) {
        match entry.ok_or_else(broken)? {
            (1, Raw::Bytes(bytes)) => kind = message(bytes, TYPE).ok_or_else(broken)?,
            (2, Raw::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = kind["kind"].as_str().unwrap_or_default();
    let Some(fields) = fields_of(name) else {
        let message = format!(
            "{name} is not understood in protobuf - accepted media types include: application/json"
        );
        return Err(Refusal::new(415, "UnsupportedMediaType", message));
    };
    let mut object = message(raw, fields).ok_or_else(broken)?;
    object["apiVersion"] = kind["apiVersion"].clone();
    object["kind"] = kind["kind"].clone();
    Ok(object)
}

/// A field as it comes.
enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Reads fields; none where they are broken.
struct Reader<'a>(&'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = Option<(u64, Raw<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Option<(u64, Raw<'a>)> {
        let tag = self.number()?;
        let raw = match tag & 7 {
            0 => Raw::Number(self.number()?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Raw::Bytes(bytes)
            }
            5 => self.skip(4)?,
            _ => return None,
        };
        Some((tag >> 3, raw))
    }

    fn skip(&mut self, length: usize) -> Option<Raw<'a>> {
        self.0 = self.0.get(length..)?;
        Some(Raw::Fixed)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

fn message(bytes: &[u8], fields: &[Field]) -> Option<Value> {
    let mut object = Map::new();
    for entry in Reader(bytes) {
        let (number, raw) = entry?;
        let Some(&(_, name, kind)) = fields.iter().find(|field| field.0 == number) else {
            continue;
        };
        match (kind, raw) {
            (Type::Bool, Raw::Number(number)) => {
                object.insert(name.to_owned(), (number != 0).into());
            }
            (Type::Integer, Raw::Number(number)) => {
                drop(object.insert(name.to_owned(), number.into()))
            }
            (Type::TextMap | Type::BytesMap, Raw::Bytes(bytes)) => {
                let value = if matches!(kind, Type::TextMap) { Type::Text } else { Type::Bytes };
                let pair = [(1, "key", Type::Text), (2, "value", value)];
                let mut pair = pair_of(bytes, &pair)?;
                let key = pair["key"].as_str().unwrap_or_default().to_owned();
                let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                map[key] = match pair["value"].take() {
                    Value::Null => "".into(),
                    value => value,
                };
            }
            (Type::Texts, Raw::Bytes(bytes)) => push(&mut object, name, one(Type::Text, bytes)?),
            (Type::Messages(fields), Raw::Bytes(bytes)) => {
                push(&mut object, name, message(bytes, fields)?);
            }
            (kind, Raw::Bytes(bytes)) => {
                let value = one(kind, bytes)?;
                // Go writes what is empty too.
                if value != "" {
                    object.insert(name.to_owned(), value);
                }
            }
            _ => return None,
        }
    }
    Some(Value::Object(object))
}

fn pair_of(bytes: &[u8], fields: &[Field; 2]) -> Option<Value> {
    let mut pair = message(bytes, fields)?;
    if pair["key"].is_null() {
        pair["key"] = "".into();
    }
    Some(pair)
}

fn push(object: &mut Map<String, Value>, name: &str, value: Value) {
    let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(value);
    }
}

fn one(kind: Type, bytes: &[u8]) -> Option<Value> {
    match kind {
        Type::Text => Some(std::str::from_utf8(bytes).ok()?.into()),
        Type::Bytes => serde_json::to_value(ByteString(bytes.to_vec())).ok(),
        Type::Message(fields) => message(bytes, fields),
        _ => None,
    }
}
