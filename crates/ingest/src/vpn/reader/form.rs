//! Faults in a specification's form, in the words of who writes it.

use serde_json::Value;

use crate::crds::vpn_connection::SpecFault;
use crate::spelling;

/// The fields of each part, by the name that the part has in [`SpecFault::reason`] or its field.
const FIELDS: [(&str, &str, &[&str]); 10] = [
    ("AuthSpec", "auth", &["psk", "certificate"]),
    ("PskSpec", "psk", &["secretName", "key"]),
    ("CertificateSpec", "certificate", &["secretName", "caSecretName"]),
    ("PpkSpec", "ppk", &["secretName", "key", "id", "required"]),
    ("LocalSpec", "local", &["address", "addressPool", "id", "subnets"]),
    ("RemoteSpec", "remote", &["gateway", "id", "subnets"]),
    ("ChildSpec", "children", &["name", "local", "remote", "esp"]),
    ("DpdSpec", "dpd", &["delay", "timeout", "action"]),
    ("LifetimesSpec", "lifetimes", &["ike", "child", "bytes", "packets"]),
    (
        "VpnConnectionSpec",
        "spec",
        &[
            "auto",
            "ikeVersion",
            "keyexchange",
            "ike",
            "esp",
            "allowLegacy",
            "auth",
            "ppk",
            "local",
            "remote",
            "children",
            "localSubnetNAT",
            "remoteSubnetNAT",
            "enableSingleSourceIP",
            "singleSourceIP",
            "localNonClusterSubnets",
            "zone",
            "dpd",
            "lifetimes",
            "closeAction",
            "encapsulation",
            "fragmentation",
            "mobike",
            "childless",
            "reauthentication",
            "replayWindow",
        ],
    ),
];

/// Fields that hold a time.
const TIMES: [&str; 4] =
    ["spec.dpd.delay", "spec.dpd.timeout", "spec.lifetimes.ike", "spec.lifetimes.child"];

/// What is wrong, and what to write instead.
pub(super) fn explain(fault: &SpecFault, spec: &Value) -> (String, String) {
    let (field, reason) = (fault.field.as_str(), fault.reason.as_str());
    if fault.is_unknown {
        return (reason.to_owned(), unknown(field));
    }
    if reason.starts_with("missing field") {
        return (reason.to_owned(), "write it; names' upper and lower case matter".to_owned());
    }
    if reason.starts_with("unknown variant") {
        return (reason.to_owned(), "write one of those".to_owned());
    }
    let Some((_, expected)) = reason.rsplit_once("expected ") else {
        return (reason.to_owned(), String::new());
    };
    let value = at(field, spec);
    let is = match value {
        Some(Value::Null) => "is empty",
        Some(Value::Bool(_)) => "is true or false",
        Some(Value::Number(_)) => "is a number",
        Some(Value::String(_)) => "is text",
        Some(Value::Array(_)) => "is a list",
        Some(Value::Object(_)) => "holds fields",
        None => "is of another type",
    };
    if let Some((_, _, fields)) =
        FIELDS.iter().find(|(name, _, _)| expected == format!("struct {name}"))
    {
        let reason = format!("{is}, and not fields of its own");
        return (reason, format!("write {} beneath it", fields.join(", ")));
    }
    let (wanted, remedy) = match expected {
        "a string" if TIMES.contains(&field) => (
            "a time",
            match value {
                Some(Value::Number(number)) => format!("write a unit, too: \"{number}s\""),
                _ => "write a time such as 30s, 5m or 3h".to_owned(),
            },
        ),
        "a string" => (
            "text",
            match value {
                Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                    format!("put it in quotes: \"{value}\"")
                }
                Some(Value::Array(_)) => "write one text, without brackets".to_owned(),
                _ => "write text".to_owned(),
            },
        ),
        "a sequence" => (
            "a list",
            match value {
                Some(Value::String(text)) if text.len() <= 64 && !text.contains(',') => {
                    format!("write it in brackets: [{text:?}]")
                }
                _ => "write a list, such as [one, other]".to_owned(),
            },
        ),
        "a boolean" => ("true or false", "write true or false, without quotes".to_owned()),
        "i64" | "u32" | "u64" => {
            ("a whole number in range", "write a whole number, without quotes or a unit".to_owned())
        }
        _ => return (reason.to_owned(), String::new()),
    };
    (format!("{is}, and must be {wanted}"), remedy)
}

fn unknown(field: &str) -> String {
    const REMEDY: &str = "correct it; names' upper and lower case matter";
    let Some((parent, name)) = field.rsplit_once('.') else { return REMEDY.to_owned() };
    let parent = parent.rsplit_once('.').map_or(parent, |(_, last)| last);
    let parent = parent.split_once('[').map_or(parent, |(list, _)| list);
    let known = FIELDS.iter().find(|(_, part, _)| *part == parent);
    let near = known.and_then(|(_, _, fields)| spelling::nearest(name, fields.iter().copied()));
    match near {
        Some(near) => format!("write {near} if that is meant; upper and lower case matter"),
        None => REMEDY.to_owned(),
    }
}

/// What stands in a field, such as `spec.children[0].name`.
fn at<'a>(field: &str, spec: &'a Value) -> Option<&'a Value> {
    field.split(['.', '[']).skip(1).try_fold(spec, |value, part| match part.strip_suffix(']') {
        Some(index) => value.get(index.parse::<usize>().ok()?),
        None => value.get(part),
    })
}
