//! Ingresses: hosts, paths, backends and TLS, checked field by field.

use k8s_openapi::api::networking::v1 as api;
use model::snapshot::{
    BackendRef, HostMatch, Ingress, IngressTarget, PathRule, PortRef, Rule, TlsBlock,
};
use model::{AlbKind, Diagnostic, ObjectKey, ObjectRef};

use crate::annotations::{self, Annotations};
use crate::names;
use crate::report::{Report, shown};
use crate::secrets::{Certificates, Lookup};

mod paths;

/// Parses an Ingress of one of our classes; none if it is left out wholly.
pub(crate) fn ingress(
    key: &ObjectKey,
    object: &api::Ingress,
    alb: AlbKind,
    certificates: &mut Certificates<'_>,
    report: &mut Report<'_>,
) -> Option<Ingress> {
    let reference = ObjectRef::namespaced("Ingress", key);
    let location = report.location(&reference);
    let annotations = annotations::read(&reference, object.metadata.annotations.as_ref(), report);
    if let Some(canary) = &annotations.canary {
        report.push(
            Diagnostic::error(
                reference,
                annotations::field(canary),
                "canaries are not served; the Ingress is left out, and the main one serves all",
            )
            .value("true")
            .remedy(
                "remove the Ingress, or give EndpointSlices of the main one's Service weights by \
                 their annotation tidegate.io/weight",
            ),
        );
        return None;
    }
    let mut parser = Parser { key, reference, annotations: &annotations, report };
    let empty = api::IngressSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);
    let rules = parser.rules(spec.rules.as_deref().unwrap_or_default());
    let default_backend =
        spec.default_backend.as_ref().map(|backend| parser.target("spec.defaultBackend", backend));
    if default_backend.is_none() {
        parser.without_default_backend(spec.rules.as_deref().unwrap_or_default());
    }
    let tls = spec
        .tls
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, block)| parser.tls(index, block, &rules, certificates))
        .collect();
    Some(Ingress {
        alb,
        created: object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        location,
        rules,
        default_backend,
        tls,
        policy: annotations.policy,
        refused: annotations.refused,
    })
}

struct Parser<'a, 'b> {
    key: &'a ObjectKey,
    reference: ObjectRef,
    annotations: &'a Annotations,
    report: &'a mut Report<'b>,
}

impl Parser<'_, '_> {
    fn rules(&mut self, rules: &[api::IngressRule]) -> Vec<Rule> {
        rules.iter().enumerate().filter_map(|(index, rule)| self.rule(index, rule)).collect()
    }

    /// A rule whose host can't be understood has no place where it could stand, and is left out.
    fn rule(&mut self, index: usize, rule: &api::IngressRule) -> Option<Rule> {
        let field = format!("spec.rules[{index}]");
        let host = match rule.host.as_deref() {
            None | Some("") => HostMatch::Any,
            Some(text) => self.host(&format!("{field}.host"), text)?,
        };
        let paths = rule.http.iter().flat_map(|http| &http.paths).enumerate();
        let paths = paths
            .filter_map(|(index, path)| self.path(format!("{field}.http.paths[{index}]"), path))
            .collect();
        Some(Rule { field, host, paths })
    }

    /// Without a default backend there must be rules, and each needs paths.
    fn without_default_backend(&mut self, rules: &[api::IngressRule]) {
        if rules.is_empty() {
            let reason = "there are neither rules nor a default backend";
            self.error("spec", None, reason, "write one of them");
        }
        for (index, rule) in rules.iter().enumerate() {
            if rule.http.as_ref().is_none_or(|http| http.paths.is_empty()) {
                let field = format!("spec.rules[{index}]");
                let reason =
                    "the rule has no paths and there is no default backend, so it routes nothing";
                let remedy = "add http.paths to the rule, or spec.defaultBackend";
                self.warning(&field, rule.host.as_deref().unwrap_or_default(), reason, remedy);
            }
        }
    }

    fn host(&mut self, field: &str, text: &str) -> Option<HostMatch> {
        names::host(text)
            .inspect_err(|reason| {
                let remedy = "write a name such as shop.example.com or *.example.com, \
                              in lower case and without port";
                self.error(field, Some(text), &format!("{reason}; it is left out"), remedy);
            })
            .ok()
    }

    fn path(&mut self, field: String, path: &api::HTTPIngressPath) -> Option<PathRule> {
        let text = path.path.as_deref().unwrap_or_default();
        let parsed = paths::parse(text, &path.path_type, self.annotations).inspect_err(|fault| {
            let field = format!("{field}.{}", fault.field);
            let value = if fault.field == "path" { text } else { &path.path_type };
            let outcome = match fault.place {
                Some(_) => "its requests are answered with 503",
                None => "it is left out",
            };
            let reason = format!("{}; {outcome}", fault.reason);
            self.error(&field, Some(value), &reason, fault.remedy);
        });
        let (path_match, broken) = match parsed {
            Ok(path_match) => (path_match, None),
            Err(fault) => (fault.place?, Some(fault.reason)),
        };
        if let Some((reason, remedy)) = paths::doubt(&path_match, self.annotations) {
            let field = format!("{field}.path");
            self.warning(&field, text, reason, remedy);
        }
        let target = self.target(&format!("{field}.backend"), &path.backend);
        let target = broken.map_or(target, IngressTarget::Broken);
        Some(PathRule { field, path: path_match, target })
    }

    fn target(&mut self, field: &str, backend: &api::IngressBackend) -> IngressTarget {
        let mut broken = |field: String, value: Option<&str>, reason: &str, remedy: &str| {
            let told = format!("{reason}; its requests are answered with 503");
            self.error(&field, value, &told, remedy);
            IngressTarget::Broken(reason.to_owned())
        };
        if let Some(resource) = &backend.resource {
            let value = format!("{}/{}", resource.kind, resource.name);
            let reason = "only Services are served, no other resources";
            return broken(format!("{field}.resource"), Some(&value), reason, "name a Service");
        }
        let service = match &backend.service {
            Some(service) if !service.name.is_empty() => service,
            _ => {
                return broken(field.to_owned(), None, "no Service is named", "write service.name");
            }
        };
        let port = service.port.as_ref();
        let name = port.and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty());
        let number = port.and_then(|port| port.number).filter(|&number| number != 0);
        let field = format!("{field}.service.port");
        let port = match (name, number) {
            (Some(name), None) => match names::port_name(name) {
                Ok(()) => PortRef::Name(name.to_owned()),
                Err(reason) => {
                    let field = format!("{field}.name");
                    return broken(field, Some(name), reason, "write the name of a Service port");
                }
            },
            (None, Some(number)) => match names::port_number(number) {
                Some(number) => PortRef::Number(number),
                None => {
                    let value = number.to_string();
                    let remedy = "write a number from 1 to 65535";
                    let field = format!("{field}.number");
                    return broken(field, Some(&value), "not a port number", remedy);
                }
            },
            (None, None) => {
                return broken(field, None, "no port is named", "write port.name or port.number");
            }
            (Some(_), Some(_)) => {
                return broken(field, None, "a port has a name and a number", "write one of them");
            }
        };
        let service = ObjectKey::new(&self.key.namespace, &service.name);
        IngressTarget::Service(BackendRef { service, port })
    }

    fn tls(
        &mut self,
        index: usize,
        block: &api::IngressTLS,
        rules: &[Rule],
        certificates: &mut Certificates<'_>,
    ) -> TlsBlock {
        let field = format!("spec.tls[{index}]");
        let listed = block.hosts.as_deref().unwrap_or_default();
        let mut hosts: Vec<HostMatch> = listed
            .iter()
            .enumerate()
            .filter_map(|(index, host)| self.host(&format!("{field}.hosts[{index}]"), host))
            .collect();
        let secret = self.secret(&field, block, certificates);
        if let Some(pair) = secret.as_ref().and_then(|secret| certificates.get(secret)) {
            if listed.is_empty() {
                hosts = pair.names.iter().filter_map(|name| names::host(name).ok()).collect();
            }
            for host in hosts.iter().map(HostMatch::to_string) {
                if !pair.covers(&host) {
                    let reason = format!("the certificate is for {}", list(&pair.names));
                    let remedy = "put in a certificate for this host; clients will refuse this one";
                    self.warning(&format!("{field}.hosts"), &host, &reason, remedy);
                }
            }
        } else if listed.is_empty() {
            // Without its certificate nobody knows the names; the rules' hosts keep their TLS.
            let named = rules.iter().map(|rule| &rule.host);
            hosts = named.filter(|host| **host != HostMatch::Any).cloned().collect();
        }
        hosts.sort();
        hosts.dedup();
        TlsBlock { field, hosts, explicit: !listed.is_empty(), secret }
    }

    /// The block's Secret if it can be used. Without one the default certificate serves.
    fn secret(
        &mut self,
        field: &str,
        block: &api::IngressTLS,
        certificates: &mut Certificates<'_>,
    ) -> Option<ObjectKey> {
        let name = block.secret_name.as_deref().filter(|name| !name.is_empty())?;
        let secret = ObjectKey::new(&self.key.namespace, name);
        let field = format!("{field}.secretName");
        match certificates.look_up(&secret, self.report) {
            Lookup::Good => return Some(secret),
            Lookup::Broken => {
                let reason =
                    format!("Secret {secret} is broken; the default certificate is used instead");
                self.warning(&field, name, &reason, "correct the Secret");
            }
            Lookup::Missing => {
                let reason = format!(
                    "there is no Secret {secret} that could be read; the default certificate is \
                     used instead"
                );
                let remedy = "mend it if there is a finding about it, or create it in the \
                              Ingress' namespace, of type kubernetes.io/tls";
                self.error(&field, Some(name), &reason, remedy);
            }
        }
        None
    }

    fn error(&mut self, field: &str, value: Option<&str>, reason: &str, remedy: &str) {
        let diagnostic = Diagnostic::error(self.reference.clone(), field, reason).remedy(remedy);
        self.report.push(match value {
            Some(value) => diagnostic.value(shown(value)),
            None => diagnostic,
        });
    }

    fn warning(&mut self, field: &str, value: &str, reason: &str, remedy: &str) {
        self.report.push(
            Diagnostic::warning(self.reference.clone(), field, reason)
                .value(shown(value))
                .remedy(remedy),
        );
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no DNS name".to_owned() } else { shown(&names.join(", ")) }
}
