//! Which ALB an Ingress belongs to.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use model::{AlbKind, AlbSettings, Diagnostic, ObjectKey, ObjectRef};

use crate::ObjectSet;
use crate::report::Report;

/// `spec.controller` of an IngressClass for the public ALB.
pub const CONTROLLER_PUBLIC: &str = "tidegate.io/ingress-public";
/// `spec.controller` of an IngressClass for the private ALB.
pub const CONTROLLER_PRIVATE: &str = "tidegate.io/ingress-private";

const OLD_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// Our classes, by name.
#[derive(Debug)]
pub(crate) struct Classes {
    ours: BTreeMap<String, AlbKind>,
    /// What an Ingress without a class belongs to.
    default: Option<AlbKind>,
}

impl Classes {
    /// A class is ours by its controller, or because the configuration names it; then it need not
    /// exist as an object, and its controller may be another's (so that an ALB can take over the
    /// Ingresses of a controller that has gone).
    pub(crate) fn new(objects: &ObjectSet, albs: &[AlbSettings], report: &mut Report<'_>) -> Self {
        let mut ours = BTreeMap::new();
        for (name, class) in &objects.ingress_classes {
            let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
            let kind = match controller {
                Some(CONTROLLER_PUBLIC) => AlbKind::Public,
                Some(CONTROLLER_PRIVATE) => AlbKind::Private,
                _ => continue,
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
            }
        }
        ours.extend(albs.iter().map(|alb| (alb.ingress_class.clone(), alb.kind)));
        let default = default_alb(objects, &ours, report);
        Self { ours, default }
    }

    /// The ALB of an Ingress; none for one of another class, which is left alone.
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
        let Some(name) = field.or(annotation) else { return self.default };
        let kind = self.ours.get(name).copied()?;
        if let (Some(field), Some(annotation)) = (field, annotation)
            && field != annotation
        {
            report.push(
                Diagnostic::warning(
                    ObjectRef::namespaced("Ingress", key),
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
) -> Option<AlbKind> {
    let mut marked: Vec<(&str, &IngressClass)> = objects
        .ingress_classes
        .iter()
        .filter(|(_, class)| is_default(class))
        .map(|(name, class)| (name.as_str(), class))
        .collect();
    marked.sort_by_key(|(name, class)| {
        let created = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (Reverse(created), *name)
    });
    let (winner, _) = *marked.first()?;
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
    ours.get(winner).copied()
}

fn is_default(class: &IngressClass) -> bool {
    class
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DEFAULT_ANNOTATION))
        .is_some_and(|value| value == "true")
}
