//! Manifests' text to a snapshot, for tests.

use model::settings::FailSafe;
use model::snapshot::Service;
use model::{
    AlbKind, AlbSettings, Diagnostic, L4Settings, ObjectKey, PortRange, Settings, Snapshot,
};

use crate::{ObjectSet, ingest, manifest};

/// What became of a manifest.
pub(crate) struct Fixture {
    pub(crate) snapshot: Snapshot,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Fixture {
    pub(crate) fn messages(&self) -> Vec<String> {
        self.diagnostics.iter().map(ToString::to_string).collect()
    }

    /// The one finding.
    #[track_caller]
    pub(crate) fn only(&self) -> String {
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:#?}");
        messages.remove(0)
    }

    /// A Service of the namespace `default`.
    #[track_caller]
    pub(crate) fn service(&self, name: &str) -> &Service {
        &self.snapshot.services[&ObjectKey::new("default", name)]
    }
}

/// With the L4 plane of an edge named `edge-1`.
pub(crate) fn l4(text: &str) -> Fixture {
    with(text, Settings { albs: Vec::new(), l4: Some(l4_settings()), ..Settings::default() })
}

/// With the public ALB alone.
pub(crate) fn alb(text: &str) -> Fixture {
    let alb = AlbSettings {
        kind: AlbKind::Public,
        ingress_class: "tidegate-public".to_owned(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    };
    with(text, Settings { albs: vec![alb], ..Settings::default() })
}

pub(crate) fn l4_settings() -> L4Settings {
    L4Settings {
        node_name: "edge-1".to_owned(),
        public: vec!["eth0".to_owned()],
        private: vec!["eth1".to_owned()],
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/edge".to_owned(),
        default_class: true,
        fail_safe: FailSafe::default(),
    }
}

pub(crate) fn with(text: &str, settings: Settings) -> Fixture {
    let parsed = manifest::parse("f.yaml", text);
    let mut objects = ObjectSet::default();
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut objects));
    let (snapshot, found) = ingest(&objects, &settings);
    let diagnostics = parsed.diagnostics.into_iter().chain(found).collect();
    Fixture { snapshot, diagnostics }
}
