//! The chart's keys, so that one that is misspelt or can't be carried over isn't lost in silence.

use serde_json::Value;

use super::{Import, WITHOUT_MEANING};

/// Keys that are read, besides those of [`WITHOUT_MEANING`] and [`SECTIONS`].
const READ: [&str; 9] = [
    "enableSingleSourceIP",
    "localNonClusterSubnet",
    "localSubnetNAT",
    "remoteSubnetNAT",
    "loadBalancerIP",
    "connectUsingLoadBalancerIP",
    "zoneLoadBalancer",
    "zoneSelector",
    "zoneSpecificRoutes",
];

/// Keys that hold others, all of which are read.
const SECTIONS: [(&str, &[&str]); 4] = [
    (
        "ipsec",
        &[
            "keyexchange",
            "auto",
            "ike",
            "esp",
            "ikelifetime",
            "lifetime",
            "closeaction",
            "dpdaction",
            "keyingtries",
            "margintime",
            "additionalOptions",
        ],
    ),
    ("local", &["subnet", "zoneSubnet", "id"]),
    ("remote", &["gateway", "subnet", "id", "privateIPtoPing"]),
    ("preshared", &["secret"]),
];

/// Keys about the chart's own pod, whatever they hold.
const OF_THE_POD: [&str; 8] = [
    "image",
    "imagePullSecrets",
    "enableRBAC",
    "priorityClassName",
    "resources",
    "nameOverride",
    "fullnameOverride",
    "global",
];

impl Import<'_> {
    /// Says which keys aren't the chart's, and which hold what can't be read.
    pub(super) fn keys(&mut self) {
        let Value::Object(values) = self.values else {
            if !self.values.is_null() {
                self.fault("the values are no map of keys; nothing of them is read".to_owned());
            }
            return;
        };
        for (key, value) in values {
            if let Some((_, known)) = SECTIONS.iter().find(|(name, _)| name == key) {
                self.section(key, value, known);
            } else if READ.contains(&key.as_str()) {
                self.readable(key, value);
            } else if OF_THE_POD.contains(&key.as_str()) {
                self.note(format!("{key}: has no counterpart: there is no pod"));
            } else if key != "monitoring" && WITHOUT_MEANING.iter().all(|(name, _)| name != key) {
                let top = READ.iter().chain(SECTIONS.iter().map(|(name, _)| name));
                let known: Vec<&str> =
                    top.chain(WITHOUT_MEANING.iter().map(|(name, _)| name)).copied().collect();
                self.unknown(key, key, &known);
            }
        }
    }

    fn section(&mut self, section: &str, value: &Value, known: &[&str]) {
        match value {
            Value::Null => {}
            Value::Object(map) => {
                for (key, value) in map {
                    let path = format!("{section}.{key}");
                    if known.contains(&key.as_str()) {
                        self.readable(&path, value);
                    } else {
                        self.unknown(&path, key, known);
                    }
                }
            }
            _ => self.fault(format!("{section}: holds no keys; write {}", known.join(", "))),
        }
    }

    /// A text, or a list of them.
    fn readable(&mut self, path: &str, value: &Value) {
        let fits = match value {
            Value::Object(_) => false,
            Value::Array(list) => list.iter().all(Value::is_string),
            _ => true,
        };
        if !fits {
            self.fault(format!("{path}: is neither text nor a list of texts; it is left out"));
        }
    }

    fn unknown(&mut self, path: &str, key: &str, known: &[&str]) {
        let meant = match ingest::spelling::nearest(key, known.iter().copied()) {
            Some(near) => format!("write {near} if that is meant, or remove it"),
            None => "remove it, or carry it over by hand".to_owned(),
        };
        self.fault(format!("{path}: is not a key of the chart and is left out; {meant}"));
    }
}
