//! Services anew where nothing but EndpointSlices has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use model::snapshot::Service;
use model::{L4Settings, ObjectKey, SharedMap};

use super::slices::{Slice, is_here, service_of};
use super::{Known, Reader, ServiceMemo};
use crate::ObjectSet;
use crate::report::{NOWHERE, Report};
use crate::secrets::Certificates;

/// EndpointSlices as they were before.
type Before = SharedMap<ObjectKey, Arc<EndpointSlice>>;

/// The slices of Services.
type Touched = BTreeMap<ObjectKey, Vec<Arc<Slice>>>;

impl ServiceMemo {
    /// The Services that are others now that the EndpointSlices aren't those of before. `services`
    /// are the last ones. None where more than endpoints may follow from the slices; then
    /// everything has to be read.
    pub(crate) fn with_other_slices(
        &mut self,
        (objects, before): (&ObjectSet, &Before),
        services: &BTreeMap<ObjectKey, Arc<Service>>,
        l4: Option<&L4Settings>,
        certificates: &mut Certificates<'_>,
    ) -> Option<Vec<(ObjectKey, Arc<Service>)>> {
        let mut found = Vec::new();
        for (key, slices) in self.touched((objects, before), l4)? {
            let of = objects.namespaces.get(&key.namespace);
            let known = self.known.get_mut(&key)?;
            // Where another one has its NodePort, its own is not the whole truth.
            services.get(&key).filter(|service| **service == known.service)?;
            known.take_in(&key, slices, (of, l4), certificates)?;
            found.push((key, Arc::clone(&known.service)));
        }
        Some(found)
    }

    /// The Services of which a slice has changed, with all their slices.
    fn touched<'a>(
        &mut self,
        (objects, before): (&'a ObjectSet, &'a Before),
        l4: Option<&L4Settings>,
    ) -> Option<Touched> {
        let here = l4.map(|l4| l4.node_name.as_str());
        // Without its Node it takes all slices to tell whether this machine is one.
        let is_node = here.is_none_or(|here| objects.nodes.contains_key(here));
        let exists = |service: &(&str, &str)| {
            objects.services.contains_key(&ObjectKey::new(service.0, service.1))
        };
        let mut touched = Touched::new();
        for (key, was, is) in objects.endpoint_slices.changes_from(before) {
            let mut endpoints = was.into_iter().chain(is).flat_map(|slice| &slice.endpoints);
            if !is_node && endpoints.any(|one| is_here(one, here)) {
                return None;
            }
            let of = |slice: &'a Arc<EndpointSlice>| service_of(key, slice).filter(exists);
            let (was_of, is_of) = (was.and_then(of), is.and_then(of));
            let known = match was_of {
                Some(_) => Some(self.slices.get(key, was?)?.findings.clone()),
                None => None,
            };
            let found = match is_of {
                Some(_) => self.slices.read(key, is?, here).findings.as_slice(),
                None => {
                    self.slices.forget(key);
                    &[]
                }
            };
            if known.unwrap_or_default() != found {
                return None;
            }
            for (of, is) in [(was_of, false), (is_of, true)] {
                let Some((namespace, name)) = of else { continue };
                let service = ObjectKey::new(namespace, name);
                self.slices.is_of(key, &service, is);
                touched.entry(service).or_default();
            }
        }
        for (service, slices) in &mut touched {
            for key in self.slices.of(service).to_vec() {
                let object = objects.endpoint_slices.get(&key)?;
                slices.extend(self.slices.read(&key, object, here).slice.clone());
            }
        }
        Some(touched)
    }
}

impl Known {
    /// Reads the Service again with other slices. None where more than its endpoints is different
    /// then.
    fn take_in(
        &mut self,
        key: &ObjectKey,
        slices: Vec<Arc<Slice>>,
        (namespace, l4): (Option<&Arc<Namespace>>, Option<&L4Settings>),
        certificates: &mut Certificates<'_>,
    ) -> Option<()> {
        // One without any slice may have to be warned of.
        if self.slices.is_empty() || slices.is_empty() {
            return None;
        }
        let mut report = Report::new(&NOWHERE);
        let location = self.location.as_ref();
        let reader = Reader { key, location, namespace, l4, slices: &slices, report: &mut report };
        let service = reader.service(&self.object, self.on_a_node, certificates);
        if report.finish() != self.findings || !self.service.is_but_for_endpoints(&service) {
            return None;
        }
        self.service = Arc::new(service);
        self.slices = slices;
        Some(())
    }
}
