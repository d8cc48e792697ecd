//! Names, checked once where they come in.

use std::fmt;
use std::net::IpAddr;

use crate::error::Error;

/// A name that a leaf certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectName {
    /// A DNS name in lower case, perhaps with `*` as its first label.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl SubjectName {
    /// Reads `www.example.test`, `*.example.test`, `192.0.2.1` or `2001:db8::1`.
    ///
    /// # Errors
    /// [`Error::Subject`] for anything else.
    pub fn parse(value: &str) -> Result<Self, Error> {
        if let Ok(address) = value.parse() {
            return Ok(Self::Ip(address));
        }
        let refuse = |reason| Error::Subject { value: value.to_owned(), reason };
        let name = value.strip_prefix("*.").unwrap_or(value);
        if value.len() > 253 {
            return Err(refuse("longer than 253 characters"));
        }
        if let Some(reason) = name.split('.').find_map(|label| label_fault(label, true)) {
            return Err(refuse(reason));
        }
        Ok(Self::Dns(value.to_ascii_lowercase()))
    }

    /// The name as part of a file's name: `*` becomes `_wildcard`, `:` becomes `-`.
    pub(crate) fn file_stem(&self) -> String {
        self.to_string().replace('*', "_wildcard").replace(':', "-")
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Where a Secret lies in Kubernetes. Displayed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    namespace: String,
    name: String,
}

impl SecretName {
    /// Reads `NAMESPACE/NAME`: an RFC 1123 label and an RFC 1123 subdomain.
    ///
    /// # Errors
    /// [`Error::Secret`] for anything else.
    pub fn parse(value: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Secret { value: value.to_owned(), reason };
        let Some((namespace, name)) = value.split_once('/') else {
            return Err(refuse("has no slash"));
        };
        if let Some(reason) = label_fault(namespace, false) {
            return Err(refuse(reason));
        }
        if name.len() > 253 {
            return Err(refuse("longer than 253 characters"));
        }
        if let Some(reason) = name.split('.').find_map(|label| label_fault(label, false)) {
            return Err(refuse(reason));
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is wrong with a label, if anything (RFC 1123 section 2.1).
fn label_fault(label: &str, upper_case: bool) -> Option<&'static str> {
    let allowed = |c: char| {
        c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || c == '-'
            || (upper_case && c.is_ascii_uppercase())
    };
    if label.is_empty() {
        Some("has an empty label")
    } else if label.len() > 63 {
        Some("has a label longer than 63 characters")
    } else if !label.chars().all(allowed) {
        Some("has a character that may not stand there")
    } else if label.starts_with('-') || label.ends_with('-') {
        Some("has a label that begins or ends with a hyphen")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_are_lower_cased_and_addresses_recognised() {
        assert_eq!(
            SubjectName::parse("*.Example.TEST").unwrap(),
            SubjectName::Dns("*.example.test".into())
        );
        assert_eq!(SubjectName::parse("::1").unwrap(), SubjectName::Ip("::1".parse().unwrap()));
    }

    #[test]
    fn names_that_no_certificate_can_carry_are_refused_with_the_reason() {
        for (value, reason) in [
            ("", "empty label"),
            ("a..b", "empty label"),
            ("*", "may not stand there"),
            ("a.*.b", "may not stand there"),
            ("a b", "may not stand there"),
            ("../x", "empty label"),
            ("-a.b", "hyphen"),
        ] {
            let message = SubjectName::parse(value).unwrap_err().to_string();
            assert!(message.contains(reason), "{value:?}: {message}");
        }
    }

    #[test]
    fn secret_names_need_a_namespace_and_lower_case() {
        let name = SecretName::parse("demo/demo.tls").unwrap();
        assert_eq!((name.namespace(), name.name()), ("demo", "demo.tls"));
        for value in ["demo", "demo/", "/demo", "demo/Demo", "de.mo/x", "demo/a/b", "demo/a\nb"] {
            assert!(SecretName::parse(value).is_err(), "{value:?}");
        }
    }
}
