//! Which ALB an Ingress belongs to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use model::{AlbKind, AlbSettings, Diagnostic, ObjectKey, ObjectRef};

use crate::ObjectSet;
use crate::report::{Report, shown};

/// `spec.controller` of an IngressClass for the public ALB.
pub const CONTROLLER_PUBLIC: &str = "tidegate.io/ingress-public";
/// `spec.controller` of an IngressClass for the private ALB.
pub const CONTROLLER_PRIVATE: &str = "tidegate.io/ingress-private";

const CLASS_FIELD: &str = "spec.ingressClassName";
const OLD_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// Our classes, by name.
#[derive(Debug)]
pub(crate) struct Classes {
    ours: BTreeMap<String, AlbKind>,
    /// Of other controllers, and of an ALB that isn't enabled here. Their Ingresses are none of
    /// our business.
    foreign: BTreeSet<String>,
    /// What an Ingress without a class belongs to.
    default: DefaultClass,
}

/// The default class.
#[derive(Clone, Copy, Debug)]
enum DefaultClass {
    /// No class is marked so.
    None,
    /// One of another controller, or of an ALB that isn't enabled.
    Other,
    Alb(AlbKind),
}

impl Classes {
    /// A class is ours by its controller, or because the configuration names it; then it need not
    /// exist as an object, and its controller may be another's (so that an ALB can take over the
    /// Ingresses of a controller that has gone).
    pub(crate) fn new(objects: &ObjectSet, albs: &[AlbSettings], report: &mut Report<'_>) -> Self {
        let mut ours = BTreeMap::new();
        let mut foreign = BTreeSet::new();
        for (name, class) in &objects.ingress_classes {
            let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
            let kind = match controller {
                Some(CONTROLLER_PUBLIC) => AlbKind::Public,
                Some(CONTROLLER_PRIVATE) => AlbKind::Private,
                _ => {
                    foreign.insert(name.clone());
                    continue;
                }
            };
            let configured = albs.iter().find(|alb| alb.ingress_class == *name);
            if let Some(alb) = configured.filter(|alb| alb.kind != kind) {
                report.push(
                    Diagnostic::warning(
                        ObjectRef::cluster("IngressClass", name),
                        "spec.controller",
                        format!("the configuration gives this class to the {} ALB", alb.kind),
                    )
                    .value(controller.unwrap_or_default())
                    .remedy("give the class another name, or write the other ALB's controller"),
                );
            }
            if albs.iter().any(|alb| alb.kind == kind) {
                ours.insert(name.clone(), kind);
            } else {
                // Of an ALB that another gateway may have enabled.
                foreign.insert(name.clone());
            }
        }
        ours.extend(albs.iter().map(|alb| (alb.ingress_class.clone(), alb.kind)));
        let default = default_alb(objects, &ours, report);
        Self { ours, foreign, default }
    }

    /// The ALB of an Ingress; none for one of another class. That is left alone without a word if
    /// the class is another controller's, and else with a warning: most likely it is misspelt.
    pub(crate) fn alb_of(
        &self,
        key: &ObjectKey,
        ingress: &Ingress,
        report: &mut Report<'_>,
    ) -> Option<AlbKind> {
        let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        let annotation = ingress
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(OLD_ANNOTATION))
            .map(String::as_str);
        let reference = || ObjectRef::namespaced("Ingress", key);
        let known = || self.ours.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let Some(name) = field.or(annotation) else {
            return match self.default {
                DefaultClass::Alb(alb) => Some(alb),
                DefaultClass::Other => None,
                DefaultClass::None => {
                    let reason = "not served: it names no class and no class is the default";
                    let remedy = format!("write one of the classes: {}", known());
                    report
                        .push(Diagnostic::warning(reference(), CLASS_FIELD, reason).remedy(remedy));
                    None
                }
            };
        };
        let Some(kind) = self.ours.get(name).copied() else {
            if !self.foreign.contains(name) {
                let at = if field.is_some() {
                    CLASS_FIELD.to_owned()
                } else {
                    format!("metadata.annotations[{OLD_ANNOTATION:?}]")
                };
                let reason = format!("not served: class {name} belongs to no ALB that is enabled");
                report.push(
                    Diagnostic::warning(reference(), at, reason)
                        .value(shown(name))
                        .remedy(format!("write one of the classes: {}", known())),
                );
            }
            return None;
        };
        if let (Some(field), Some(annotation)) = (field, annotation)
            && field != annotation
        {
            report.push(
                Diagnostic::warning(
                    reference(),
                    format!("metadata.annotations[{OLD_ANNOTATION:?}]"),
                    format!("spec.ingressClassName is {field:?}, which counts"),
                )
                .value(annotation)
                .remedy("remove the annotation"),
            );
        }
        Some(kind)
    }
}

/// The ALB of the default class. Of several the youngest counts, then the first by name, as
/// Kubernetes' own admission does it.
fn default_alb(
    objects: &ObjectSet,
    ours: &BTreeMap<String, AlbKind>,
    report: &mut Report<'_>,
) -> DefaultClass {
    let mut marked: Vec<(&str, &IngressClass)> = objects
        .ingress_classes
        .iter()
        .filter(|(_, class)| is_default(class))
        .map(|(name, class)| (name.as_str(), class.as_ref()))
        .collect();
    marked.sort_by_key(|(name, class)| {
        let created = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (Reverse(created), *name)
    });
    let Some(&(winner, _)) = marked.first() else { return DefaultClass::None };
    if marked.len() > 1 {
        for (name, _) in marked.iter().filter(|(name, _)| ours.contains_key(*name)) {
            report.push(
                Diagnostic::warning(
                    ObjectRef::cluster("IngressClass", *name),
                    format!("metadata.annotations[{DEFAULT_ANNOTATION:?}]"),
                    format!("several classes are marked default; {winner} counts"),
                )
                .value("true")
                .remedy("mark one class only"),
            );
        }
    }
    ours.get(winner).map_or(DefaultClass::Other, |alb| DefaultClass::Alb(*alb))
}

fn is_default(class: &IngressClass) -> bool {
    class
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DEFAULT_ANNOTATION))
        .is_some_and(|value| value == "true")
}

/// The Ingresses that are an ALB's, and whose. Those of other classes aren't among them.
pub fn ingresses_of_albs(
    objects: &ObjectSet,
    albs: &[AlbSettings],
) -> BTreeMap<ObjectKey, AlbKind> {
    let origins = BTreeMap::new();
    let mut report = Report::new(&origins);
    let classes = Classes::new(objects, albs, &mut report);
    let of = |(key, ingress): (&ObjectKey, &std::sync::Arc<Ingress>)| {
        Some((key.clone(), classes.alb_of(key, ingress, &mut report)?))
    };
    objects.ingresses.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::{IngressClassSpec, IngressSpec};

    use super::*;

    /// The ALB of an Ingress of this class, and the findings about it, where only the public ALB
    /// is enabled.
    fn of_class(name: Option<&str>, classes: &[(&str, &str)]) -> (Option<AlbKind>, Vec<String>) {
        let class = |(name, controller): &(&str, &str)| {
            let spec = IngressClassSpec {
                controller: Some((*controller).to_owned()),
                ..IngressClassSpec::default()
            };
            (
                (*name).to_owned(),
                IngressClass { spec: Some(spec), ..IngressClass::default() }.into(),
            )
        };
        let objects = ObjectSet {
            ingress_classes: classes.iter().map(class).collect(),
            ..ObjectSet::default()
        };
        let settings = [AlbSettings {
            kind: AlbKind::Public,
            ingress_class: "tidegate-public".to_owned(),
            ssl_redirect: true,
            default_certificate: None,
            default_backend: None,
        }];
        let origins = BTreeMap::new();
        let mut report = Report::new(&origins);
        let classes = Classes::new(&objects, &settings, &mut report);
        let spec =
            IngressSpec { ingress_class_name: name.map(str::to_owned), ..IngressSpec::default() };
        let ingress = Ingress { spec: Some(spec), ..Ingress::default() };
        let alb = classes.alb_of(&ObjectKey::new("shop", "web"), &ingress, &mut report);
        (alb, report.finish().into_iter().map(|finding| finding.to_string()).collect())
    }

    #[test]
    fn only_a_class_that_nobody_has_is_told_of() {
        let classes = [("inside", CONTROLLER_PRIVATE), ("nginx", "k8s.io/ingress-nginx")];
        assert_eq!(of_class(Some("tidegate-public"), &classes), (Some(AlbKind::Public), vec![]));
        // Another controller's, and the ALB's that isn't enabled here.
        assert_eq!(of_class(Some("nginx"), &classes), (None, vec![]));
        assert_eq!(of_class(Some("inside"), &classes), (None, vec![]));

        let (alb, findings) = of_class(Some("tidegate-publc"), &classes);
        assert_eq!((alb, findings.len()), (None, 1));
        assert!(findings[0].contains("belongs to no ALB that is enabled"), "{findings:?}");
        assert!(findings[0].contains("one of the classes: tidegate-public"), "{findings:?}");
    }

    #[test]
    fn ingress_without_a_class_is_told_of_where_none_is_the_default() {
        let (alb, findings) = of_class(None, &[]);
        assert_eq!((alb, findings.len()), (None, 1));
        assert!(findings[0].contains("names no class and no class is the default"));
    }
}
