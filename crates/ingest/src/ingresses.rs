//! Ingresses: hosts, paths, backends and TLS, checked field by field.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1 as api;
use model::snapshot::tls::covers;
use model::snapshot::{
    BackendRef, HostMatch, Ingress, IngressTarget, PathRule, PortRef, Rule, TlsBlock,
};
use model::{AlbKind, Diagnostic, Location, ObjectKey, ObjectRef};

use crate::annotations::{self, Annotations};
use crate::classes::Classes;
use crate::report::{NOWHERE, Report, shown};
use crate::secrets::{Certificates, Lookup};
use crate::{ObjectSet, names};

mod paths;

/// Ingresses that were read before: one that is the same in memory isn't read again. Of whatever
/// is not, nothing is remembered.
#[derive(Debug, Default)]
pub struct IngressMemo(BTreeMap<ObjectKey, Known>);

/// An Ingress that was read, and all that this depends on.
#[derive(Debug)]
struct Known {
    object: Arc<api::Ingress>,
    alb: AlbKind,
    location: Option<Location>,
    asked: Vec<Asked>,
    ingress: Option<Arc<Ingress>>,
    /// What is wrong with it; not what is wrong with its Secrets.
    findings: Vec<Diagnostic>,
}

/// A Secret that an Ingress names, and what matters of it.
#[derive(Debug)]
struct Asked {
    secret: ObjectKey,
    found: Lookup,
    names: Option<Arc<Vec<String>>>,
}

impl Asked {
    fn of(
        secret: &ObjectKey,
        certificates: &mut Certificates<'_>,
        report: &mut Report<'_>,
    ) -> Self {
        let found = certificates.look_up(secret, report);
        let names = certificates.get(secret).map(|pair| Arc::clone(&pair.names));
        Self { secret: secret.clone(), found, names }
    }

    fn holds(&self, certificates: &mut Certificates<'_>, report: &mut Report<'_>) -> bool {
        let found = certificates.look_up(&self.secret, report);
        let names = certificates.get(&self.secret).map(|pair| &pair.names);
        found == self.found && names == self.names.as_ref()
    }
}

/// All Ingresses of our classes, without those that are left out wholly.
pub(crate) fn ingresses(
    objects: &ObjectSet,
    classes: &Classes,
    memo: &mut IngressMemo,
    certificates: &mut Certificates<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<ObjectKey, Arc<Ingress>> {
    let IngressMemo(known) = memo;
    known.retain(|key, _| objects.ingresses.contains_key(key));
    let mut ingresses = BTreeMap::new();
    for (key, object) in &objects.ingresses {
        let Some(alb) = classes.alb_of(key, object, report) else {
            known.remove(key);
            continue;
        };
        let location = report.location(&ObjectRef::namespaced("Ingress", key));
        let same = known.get(key).filter(|known| {
            Arc::ptr_eq(&known.object, object)
                && known.alb == alb
                && known.location == location
                && known.asked.iter().all(|asked| asked.holds(certificates, report))
        });
        if let Some(same) = same {
            same.findings.iter().cloned().for_each(|finding| report.push(finding));
            ingresses.extend(same.ingress.clone().map(|ingress| (key.clone(), ingress)));
            continue;
        }
        let mut findings = Report::new(&NOWHERE);
        let mut asked = Vec::new();
        let mut look_up = |secret: &ObjectKey| {
            let one = Asked::of(secret, certificates, report);
            let (found, names) = (one.found, one.names.clone());
            asked.push(one);
            (found, names)
        };
        let ingress = ingress(key, object, (alb, location.clone()), &mut look_up, &mut findings);
        let ingress = ingress.map(Arc::new);
        let findings = findings.finish();
        findings.iter().cloned().for_each(|finding| report.push(finding));
        ingresses.extend(ingress.clone().map(|ingress| (key.clone(), ingress)));
        let object = Arc::clone(object);
        known.insert(key.clone(), Known { object, alb, location, asked, ingress, findings });
    }
    ingresses
}

/// How a Secret could be had, and the names of its certificate if there is one to be used.
type Found = (Lookup, Option<Arc<Vec<String>>>);

/// Parses an Ingress of one of our classes; none if it is left out wholly.
fn ingress(
    key: &ObjectKey,
    object: &api::Ingress,
    (alb, location): (AlbKind, Option<Location>),
    look_up: &mut dyn FnMut(&ObjectKey) -> Found,
    report: &mut Report<'_>,
) -> Option<Ingress> {
    let reference = ObjectRef::namespaced("Ingress", key);
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
        .map(|(index, block)| parser.tls(index, block, &rules, look_up))
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
        look_up: &mut dyn FnMut(&ObjectKey) -> Found,
    ) -> TlsBlock {
        let field = format!("spec.tls[{index}]");
        let listed = block.hosts.as_deref().unwrap_or_default();
        let mut hosts: Vec<HostMatch> = listed
            .iter()
            .enumerate()
            .filter_map(|(index, host)| self.host(&format!("{field}.hosts[{index}]"), host))
            .collect();
        let found = self.secret(&field, block, look_up);
        if let Some((_, names)) = &found {
            if listed.is_empty() {
                hosts = names.iter().filter_map(|name| names::host(name).ok()).collect();
            }
            for host in hosts.iter().map(HostMatch::to_string) {
                if !covers(names, &host) {
                    let reason = format!("the certificate is for {}", list(names));
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
        let secret = found.map(|(secret, _)| secret);
        TlsBlock { field, hosts, explicit: !listed.is_empty(), secret }
    }

    /// The block's Secret if it can be used, and the names in it. Without one the default
    /// certificate serves.
    fn secret(
        &mut self,
        field: &str,
        block: &api::IngressTLS,
        look_up: &mut dyn FnMut(&ObjectKey) -> Found,
    ) -> Option<(ObjectKey, Arc<Vec<String>>)> {
        let name = block.secret_name.as_deref().filter(|name| !name.is_empty())?;
        let secret = ObjectKey::new(&self.key.namespace, name);
        let field = format!("{field}.secretName");
        let (found, names) = look_up(&secret);
        match found {
            Lookup::Good => return names.map(|names| (secret, names)),
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

#[cfg(test)]
mod tests;
