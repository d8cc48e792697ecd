//! What stands in the API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::ClusterLab;
use testkit::cluster_lab::{NODES, PODS};
use testkit::manifest::{Exposed, Ingress, Slice, pool};

use super::world::{HTTP, LINES};

/// The VIP of the ALB.
pub(crate) const ALB: &str = "198.51.100.18";
/// The VIPs of the Services `line` and `other`.
pub(crate) const VIPS: [&str; 2] = ["198.51.100.19", "198.51.100.20"];
/// The NodePort of `line`.
pub(crate) const NODE_PORT: u16 = 30080;
/// The cluster's address of `inner`.
pub(crate) const CLUSTER_IP: &str = "10.96.0.10";
/// The preshared key.
pub(crate) const KEY: &str = "a key for tests, long enough";
/// Pods, as node and number.
pub(crate) fn pods() -> impl Iterator<Item = (u8, u8)> {
    (1..=NODES).flat_map(|node| (0..PODS).map(move |pod| (node, pod)))
}

/// The EndpointSlice of a Service with all pods, but those of a node that is cut off.
pub(crate) fn slice(service: &str, target: u16, without: Option<u8>) -> String {
    let ports = Slice::of(service).tcp(80, target).port("UDP", 80, target);
    let one = |slice: Slice, (node, pod): (u8, u8)| {
        let ready = without != Some(node);
        let keys = format!("conditions: {{ready: {ready}}}, nodeName: node-{node}");
        slice.endpoint(ClusterLab::pod_address(node, pod), &keys)
    };
    pods().fold(ports, one).yaml()
}

/// What a Service has besides its ports.
fn exposed(service: Exposed) -> Exposed {
    service.port("UDP", 80, None)
}

/// All of it.
pub(crate) fn all() -> String {
    let mut text = format!("{}---\n", ClusterLab::nodes_yaml());
    for name in ["tidegate", "shop", "office"] {
        text += &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n");
    }
    text += "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: \
             tidegate-public}\nspec: {controller: tidegate.io/ingress-public}\n---\n";
    text += &pool(
        "public",
        &["198.51.100.16/29"],
        "reserved: [198.51.100.16, 198.51.100.17, 198.51.100.23]\nalb: 198.51.100.18",
    );
    let line = Exposed::load_balancer("line").at(VIPS[0]).tcp_node_port(80, NODE_PORT);
    text += &exposed(line).spec("clusterIP: 10.96.0.11").yaml();
    let other = Exposed::load_balancer("other").at(VIPS[1]).tcp(80);
    text += &exposed(other).spec("clusterIP: 10.96.0.12").yaml();
    let inner = Exposed::new("inner", "ClusterIP").tcp(80);
    text += &exposed(inner).spec(&format!("clusterIP: {CLUSTER_IP}")).yaml();
    let web = Exposed::new("web", "ClusterIP").tcp(80);
    text += &exposed(web).spec("clusterIP: 10.96.0.13").yaml();
    for name in ["line", "other", "inner"] {
        text += &slice(name, LINES, None);
    }
    text += &slice("web", HTTP, None);
    text += &Ingress::new("web").host("shop.example.com").prefix("/", "web").yaml();
    text + &connection()
}

fn connection() -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {{name: hq, namespace: office}}
spec:
  auto: start
  ike: [aes128gcm16-prfsha256-x25519]
  esp: [aes128gcm16]
  auth: {{psk: {{secretName: hq-psk, key: psk}}}}
  local: {{addressPool: public, id: edge.test, subnets: [10.244.0.0/16, 10.96.0.0/16]}}
  remote: {{gateway: 203.0.113.50, id: hq.test, subnets: [10.20.0.0/24]}}
  dpd: {{delay: 1s, timeout: 3s, action: restart}}
---
apiVersion: v1
kind: Secret
metadata: {{name: hq-psk, namespace: office}}
data: {{psk: {}}}
",
        STANDARD.encode(KEY)
    )
}
