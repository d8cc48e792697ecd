use cluster::write::{Author, FINALIZER, FinalizerChange, Kind, Patch, StatusChange};
use ingest::ObjectSet;
use ingest::crds::vpn_connection::ConditionStatus;
use ingest::manifest;
use ipnet::IpNet;
use model::{AlbSettings, L4Settings, ObjectRef, VpnSettings};
use plan::l4::{Allocations, Giving};
use serde_json::{Value, json};

use super::shared::Basis;
use super::*;
use crate::reconcile::Planner;

mod connections;
mod edges;
mod flow;
mod services;

/// One edge, and what it sees.
struct World {
    context: Context,
    facts: Facts,
    connections: BTreeMap<ObjectKey, Connection>,
    basis: Basis,
}

fn l4() -> L4Settings {
    L4Settings {
        node_name: "edge-a".to_owned(),
        public: vec!["eth0".to_owned()],
        private: vec!["eth1".to_owned()],
        node_ports: model::net::PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/edge".to_owned(),
        default_class: true,
        fail_safe: model::settings::FailSafe::default(),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl World {
    fn new(manifests: &str) -> Self {
        let public = AlbSettings {
            kind: AlbKind::Public,
            ingress_class: "tidegate-public".to_owned(),
            ssl_redirect: true,
            default_certificate: None,
            default_backend: None,
        };
        let settings = Settings {
            albs: vec![public],
            l4: Some(l4()),
            vpn: Some(VpnSettings {
                cluster_subnets: vec!["10.244.0.0/16".parse().unwrap()],
                ..VpnSettings::default()
            }),
            overlay: None,
        };
        let context = Context {
            name: "edge-a".to_owned(),
            namespace: "tidegate".to_owned(),
            settings,
            listen: BTreeMap::from([(AlbKind::Public, vec![ip("0.0.0.0")])]),
        };
        let holders = Holders { live: ["edge-a".to_owned()].into(), ..Holders::default() };
        let facts = Facts {
            holders: Some(Arc::new(holders)),
            joined: true,
            ready: true,
            host: Arc::new(vec![HostAddress {
                interface: "eth0".to_owned(),
                network: "203.0.113.5/24".parse::<IpNet>().unwrap(),
            }]),
            ..Facts::default()
        };
        let basis = Basis { allocations: Arc::default(), giving: Giving::New };
        let mut world = Self { context, facts, connections: BTreeMap::new(), basis };
        if !manifests.is_empty() {
            world.apply(manifests);
        }
        world
    }

    fn objects(&mut self) -> &mut ObjectSet {
        &mut Arc::make_mut(&mut self.facts.delivery).objects
    }

    /// Puts in objects, as `kubectl apply` would, and plans.
    fn apply(&mut self, manifests: &str) {
        let parsed = manifest::parse("all.yaml", manifests);
        assert_eq!(parsed.diagnostics, []);
        for entry in parsed.objects {
            entry.insert_into(self.objects());
        }
        self.objects().origins.clear();
        for (n, service) in self.objects().services.values_mut().enumerate() {
            Arc::make_mut(service).metadata.uid.get_or_insert_with(|| format!("uid-{n}"));
        }
        self.plan();
    }

    /// Plans as the leading edge does, until what is proposed is agreed on.
    fn plan(&mut self) {
        let mut planner = Planner::new(self.context.settings.clone(), Allocations::default());
        for _ in 0..3 {
            planner.share(self.basis.clone());
            let planned = planner.plan(&self.facts.delivery, &self.facts.host);
            self.facts.l4 = planned.l4.map(|(plan, _)| plan);
            self.facts.planned = planned.diagnostics;
            match planned.proposal {
                Some(proposal) => self.basis.allocations = proposal,
                None => return,
            }
        }
        panic!("the plan is not settled");
    }

    fn written(&self) -> Written {
        written(&self.context, &self.facts, &self.connections, now())
    }

    fn patch(&self, kind: Kind, name: &str) -> Option<Patch> {
        let patches = self.written().patches;
        patches.into_iter().find(|patch| patch.target.kind == kind && patch.target.name == name)
    }

    /// What is applied to a status.
    fn fields(&self, kind: Kind, name: &str) -> Value {
        match self.patch(kind, name).expect("it is written").status {
            StatusChange::Apply { fields, .. } | StatusChange::Lost { fields } => fields,
            other => panic!("{other:?}"),
        }
    }

    /// Everything is written, and seen.
    fn settle(&mut self) {
        for patch in self.written().patches {
            let key =
                ObjectKey::new(patch.target.namespace.unwrap_or_default(), &patch.target.name);
            let fields = match patch.status {
                StatusChange::Apply { fields, .. } | StatusChange::Lost { fields } => Some(fields),
                StatusChange::TakeBack => Some(Value::Null),
                StatusChange::Keep => None,
            };
            let name = key.name.clone();
            let objects = self.objects();
            macro_rules! set {
                ($object:expr) => {{
                    let object = $object;
                    if let Some(fields) = fields {
                        object.status = serde_json::from_value(fields).unwrap();
                    }
                    let finalizers = object.metadata.finalizers.get_or_insert_default();
                    finalizers.retain(|one| one != FINALIZER || patch.finalizer.is_none());
                    if patch.finalizer == Some(FinalizerChange::Add) {
                        finalizers.push(FINALIZER.to_owned());
                    }
                }};
            }
            match patch.target.kind {
                Kind::Ingress => set!(Arc::make_mut(objects.ingresses.get_mut(&key).unwrap())),
                Kind::Service => set!(Arc::make_mut(objects.services.get_mut(&key).unwrap())),
                Kind::AddressPool => set!(Arc::make_mut(objects.pools.get_mut(&name).unwrap())),
                Kind::VpnConnection => set!(Arc::make_mut(objects.vpn.get_mut(&key).unwrap())),
                Kind::EdgeGateway => {
                    let edge = objects.edges.entry(name.clone()).or_default();
                    let edge = Arc::make_mut(edge);
                    edge.metadata.name = Some(name);
                    edge.metadata.uid = Some("uid-edge".to_owned());
                    set!(edge);
                }
            }
        }
    }

    fn hold(&mut self, address: &str, edge: &str) {
        let holders = Arc::make_mut(self.facts.holders.as_mut().unwrap());
        holders.vips.insert(ip(address), edge.to_owned());
    }
}

const POOL: &str = "
apiVersion: tidegate.io/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [192.0.2.0/30], reserved: [192.0.2.0], alb: 192.0.2.1}
";

fn service(name: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop, creationTimestamp: \"2026-01-01T00:00:00Z\"}}
spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}
"
    )
}

const INGRESS: &str = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  ingressClassName: tidegate-public
  defaultBackend: {service: {name: web, port: {number: 80}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: theirs, namespace: shop}
spec:
  ingressClassName: nginx
  defaultBackend: {service: {name: web, port: {number: 80}}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
";

#[test]
fn what_is_seen_as_it_should_be_is_not_written_again() {
    let mut world = World::new(&format!("{POOL}{}{INGRESS}", service("web")));
    assert!(world.written().patches.len() >= 4);
    world.settle();
    assert_eq!(world.written().patches, []);
    assert_eq!(world.written(), world.written());
}

#[test]
fn ingresses_have_their_albs_address_and_those_of_others_are_left_alone() {
    let mut world = World::new(&format!("{POOL}{INGRESS}"));
    let fields = world.fields(Kind::Ingress, "web");
    assert_eq!(fields, json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}));
    assert_eq!(world.patch(Kind::Ingress, "theirs"), None);
    world.settle();
    // It goes over to the other controller: what is left of ours is taken back.
    let web = world.objects().ingresses.get_mut(&ObjectKey::new("shop", "web")).unwrap();
    let spec = Arc::make_mut(web).spec.as_mut().unwrap();
    spec.ingress_class_name = Some("nginx".to_owned());
    world.plan();
    assert_eq!(world.patch(Kind::Ingress, "web").unwrap().status, StatusChange::TakeBack);
    // What the other one writes then is its own.
    let web = world.objects().ingresses.get_mut(&ObjectKey::new("shop", "web")).unwrap();
    let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}});
    Arc::make_mut(web).status = serde_json::from_value(status).unwrap();
    assert_eq!(world.patch(Kind::Ingress, "web"), None);
}

#[test]
fn without_a_pool_ingresses_have_the_addresses_of_the_edges_that_are_ready() {
    let mut world = World::new(INGRESS);
    let ips = |world: &World| world.fields(Kind::Ingress, "web")["loadBalancer"].to_string();
    assert_eq!(ips(&world), r#"{"ingress":[{"ip":"203.0.113.5"}]}"#);
    let other = |ready: &str| {
        let status = json!({
            "publicAddresses": ["203.0.113.6"],
            "conditions": [{"type": "Ready", "status": ready}],
        });
        let metadata = json!({"name": "edge-b", "uid": "b"});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    };
    world.objects().edges.insert("edge-b".to_owned(), Arc::new(other("True")));
    // It doesn't live.
    assert_eq!(ips(&world), r#"{"ingress":[{"ip":"203.0.113.5"}]}"#);
    let holders = Arc::make_mut(world.facts.holders.as_mut().unwrap());
    holders.live.insert("edge-b".to_owned());
    assert_eq!(ips(&world), r#"{"ingress":[{"ip":"203.0.113.5"},{"ip":"203.0.113.6"}]}"#);
    world.objects().edges.insert("edge-b".to_owned(), Arc::new(other("False")));
    assert_eq!(ips(&world), r#"{"ingress":[{"ip":"203.0.113.5"}]}"#);
}

#[test]
fn pools_tell_how_full_they_are() {
    let mut world = World::new(&format!("{POOL}{}{}", service("a"), service("b")));
    let fields = world.fields(Kind::AddressPool, "public");
    assert_eq!((&fields["used"], &fields["free"]), (&json!(2), &json!("0")));
    let condition = |fields: &Value, kind: &str| {
        let all: Vec<ConditionStatus> =
            serde_json::from_value(fields["conditions"].clone()).unwrap();
        let one = all.into_iter().find(|one| one.kind == kind).unwrap();
        (one.status, one.reason.unwrap())
    };
    assert_eq!(condition(&fields, "Exhausted"), ("True".to_owned(), "NoneFree".to_owned()));
    assert_eq!(condition(&fields, "Accepted"), ("True".to_owned(), "Accepted".to_owned()));
    world.apply(&service("c"));
    let fields = world.fields(Kind::Service, "c");
    assert_eq!(fields["loadBalancer"], json!({}));
    let pending = ("False".to_owned(), "AddressPending".to_owned());
    assert_eq!(condition(&fields, "tidegate.io/AddressAssigned"), pending);
    let events = world.written().events;
    let event = events.iter().find(|event| event.object.name == "c").unwrap();
    assert!(event.warning && event.reason == "AddressPending", "{event:?}");
    assert!(event.note.contains("no address is free in AddressPool public"), "{event:?}");
    // As soon as one is free it has it.
    world.objects().services.remove(&ObjectKey::new("shop", "a"));
    world.plan();
    let fields = world.fields(Kind::Service, "c");
    let list = json!([{"ip": "192.0.2.2", "ipMode": "VIP"}]);
    assert_eq!(fields["loadBalancer"]["ingress"], list);
}

#[test]
fn findings_are_events_at_their_objects_and_what_is_nobodys_is_the_edges() {
    let mut world = World::new(POOL);
    let object = ObjectRef::cluster("GatewayConfig", "gateway");
    let finding = Diagnostic::warning(object, "vpn", "is off").remedy("turn it on");
    world.facts.own = Arc::new(vec![finding]);
    world.apply(
        "
apiVersion: v1
kind: Service
metadata:
  name: odd
  namespace: shop
  annotations: {tidegate.io/algorithm: clever}
spec: {type: LoadBalancer, ports: [{port: 80}]}
",
    );
    let events = world.written().events;
    let edge = events.iter().find(|event| event.object.kind == "EdgeGateway").unwrap();
    assert_eq!((edge.object.name.as_str(), edge.author), ("edge-a", Author::Own));
    assert_eq!(edge.note, "GatewayConfig gateway: vpn: is off; turn it on");
    let odd = events.iter().find(|event| event.reason.starts_with("Annotation")).unwrap();
    assert_eq!((odd.object.uid.as_deref(), odd.author), (Some("uid-0"), Author::Leader));
    assert!(odd.note.contains("tidegate.io/algorithm"), "{odd:?}");
}
