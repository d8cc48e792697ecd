use model::{ObjectKey, Severity};

use super::found::{is_label, is_subdomain};
use super::*;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";

/// Parses without a memo, with a new one and with that one again, and all are the same.
fn parse(file: &str, text: &str) -> Parsed {
    let parsed = super::parse(file, text);
    let mut memo = Memo::default();
    assert_eq!(parse_with(file, text, &mut memo), parsed, "{text}");
    assert_eq!(parse_with(file, text, &mut memo), parsed, "{text}");
    parsed
}

fn names(parsed: &Parsed) -> Vec<String> {
    parsed.objects.iter().map(|entry| entry.reference.to_string()).collect()
}

fn messages(parsed: &Parsed) -> Vec<String> {
    parsed.diagnostics.iter().map(ToString::to_string).collect()
}

/// The one finding of a text in which nothing is right.
fn refusal(text: &str) -> (Parsed, String) {
    let parsed = parse("f.yaml", text);
    assert_eq!(parsed.objects, [], "{text}");
    let mut messages = messages(&parsed);
    assert_eq!(messages.len(), 1, "{messages:?}");
    (parsed, messages.remove(0))
}

#[test]
fn every_kind_is_read_from_documents_lists_and_typed_lists() {
    let text = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: List
items:
- {apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: c}}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s}, addressType: IPv4, endpoints: []}
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: v1, kind: Node, metadata: {name: node-1.example.com}}
- {apiVersion: tidegate.io/v1alpha1, kind: AddressPool, metadata: {name: p}, spec: {addresses: [192.0.2.1]}}
---
apiVersion: v1
kind: SecretList
items:
- metadata: {name: one}
- {apiVersion: v1, kind: Secret, metadata: {name: two}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
";
    let parsed = parse("all.yaml", text);
    assert_eq!(messages(&parsed), [] as [String; 0]);
    assert_eq!(
        names(&parsed),
        [
            "Ingress shop/web",
            "IngressClass c",
            "EndpointSlice default/s",
            "Namespace shop",
            "Node node-1.example.com",
            "AddressPool p",
            "Secret default/one",
            "Secret default/two",
            "Service default/web"
        ]
    );
    let lines: Vec<_> = parsed.objects.iter().map(|entry| entry.location.line).collect();
    assert_eq!(lines, [1, 8, 9, 10, 11, 12, 17, 18, 20]);

    let mut set = ObjectSet::default();
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut set));
    assert_eq!((set.ingresses.len(), set.secrets.len(), set.origins.len()), (1, 2, 9));
    assert_eq!((set.nodes.len(), set.pools["p"].spec.addresses.len()), (1, 1));
    let service = &set.services[&ObjectKey::new("default", "web")];
    assert_eq!(service.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(set.namespaces["shop"].metadata.namespace, None);
}

#[test]
fn json_is_read() {
    let text = r#"{"apiVersion": "v1", "kind": "ServiceList",
        "items": [{"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}]}"#;
    assert_eq!(names(&parse("a.json", text)), ["Service default/a"]);
}

#[test]
fn a_wrong_type_names_object_field_file_and_line() {
    let (parsed, message) = refusal(
        "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
spec:
  rules:
  - http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: web
            port:
              number: \"x\"
",
    );
    assert_eq!(
        message,
        "error: Ingress default/web: spec.rules[0].http.paths[0].backend.service.port.number: \
         invalid type: string \"x\", expected i32 (f.yaml:15)"
    );
    assert!(!parsed.torn);
    assert_eq!(parsed.broken.len(), 1);
}

#[test]
fn a_list_items_field_is_named_from_the_object_on() {
    let (_, message) = refusal(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  \
         metadata: {name: a}\n  spec:\n    ports: 80\n",
    );
    assert!(message.starts_with("error: Service default/a: spec.ports: invalid type"), "{message}");
    assert!(message.ends_with("(f.yaml:8)"), "{message}");
}

#[test]
fn a_number_as_annotation_says_to_quote_it() {
    let (_, message) = refusal(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    x.io/n: 1\n",
    );
    assert_eq!(
        message,
        "error: Service default/a: metadata.annotations[\"x.io/n\"]: invalid type: integer `1`, \
         expected a string; put it in quotes: \"1\" (f.yaml:6)"
    );
}

#[test]
fn a_misspelt_field_is_a_warning_and_the_object_stays() {
    let parsed = parse(
        "f.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - prot: 80\n    \
         port: 80\n",
    );
    assert_eq!(names(&parsed), ["Service default/a"]);
    assert_eq!(parsed.diagnostics[0].severity, Severity::Warning);
    let message = parsed.diagnostics[0].to_string();
    assert!(message.contains("spec.ports[0].prot: is not a field of Service"), "{message}");
    assert!(message.ends_with("(f.yaml:6)"), "{message}");
}

#[test]
fn a_broken_object_leaves_its_neighbours() {
    let text = format!(
        "{SERVICE}---\napiVersion: v1\nkind: Service\nmetadata: {{name: b}}\nspec: 1\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: c}}\n"
    );
    let parsed = parse("f.yaml", &text);
    assert_eq!(names(&parsed), ["Service default/a", "Service default/c"]);
    let b = ObjectRef::namespaced("Service", &ObjectKey::new("default", "b"));
    assert_eq!(parsed.broken, BTreeSet::from([b]));
    assert!(!parsed.torn);
}

#[test]
fn a_duplicate_key_breaks_its_object_only() {
    let text = format!(
        "{SERVICE}---\napiVersion: v1\nkind: Service\nmetadata: {{name: b}}\nspec:\n  type: A\n  \
         type: B\n"
    );
    let parsed = parse("f.yaml", &text);
    assert_eq!(names(&parsed), ["Service default/a"]);
    assert!(!parsed.torn);
    let message = parsed.diagnostics[0].to_string();
    assert!(message.starts_with("error: Service default/b: spec.type: stands here twice"));
    assert!(message.ends_with("(f.yaml:10)"), "{message}");
}

#[test]
fn a_second_name_may_hide_an_object() {
    let (parsed, _) = refusal("apiVersion: v1\nkind: Service\nmetadata: {name: a, name: b}\n");
    assert!(parsed.torn);
    let (parsed, _) = refusal("apiVersion: v1\nkind: List\nitems: []\nitems: [1]\n");
    assert!(parsed.torn);
}

#[test]
fn an_object_that_stands_twice_counts_once() {
    let parsed = parse("f.yaml", &format!("{SERVICE}---\n{SERVICE}spec: 1\n"));
    assert_eq!(names(&parsed), ["Service default/a"]);
    assert!(parsed.broken.is_empty());
    let message = parsed.diagnostics[0].to_string();
    assert!(message.contains("stands in this file twice; the one in line 1"), "{message}");
    assert!(message.ends_with("(f.yaml:5)"), "{message}");
}

#[test]
fn other_kinds_are_counted_and_left_alone() {
    let text = "\
{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, x: [1]}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: b}}
---
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: c}}
---
{apiVersion: tidegate.io/v1alpha1, kind: GatewayConfig}
";
    let parsed = parse("f.yaml", text);
    assert_eq!(messages(&parsed), [] as [String; 0]);
    let ignored: Vec<_> = parsed.ignored.iter().map(|(kind, n)| (kind.as_str(), *n)).collect();
    let expected = [
        ("apps/v1 Deployment", 2),
        ("serving.knative.dev/v1 Service", 1),
        ("tidegate.io/v1alpha1 GatewayConfig", 1),
    ];
    assert_eq!(ignored, expected);
}

#[test]
fn a_kind_that_our_own_group_does_not_have_is_an_error() {
    for (kind, known) in [
        ("VPNConnection", "write VpnConnection or AddressPool or EdgeGateway; upper"),
        ("VpnConnections", "write VpnConnection or AddressPool"),
        ("Addresspool", "write AddressPool or VpnConnection"),
        ("Something", "write AddressPool or VpnConnection"),
    ] {
        let text = format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: hq}}\nspec: 1\n"
        );
        let (parsed, message) = refusal(&text);
        let reason = format!("kind: {kind:?} is no kind of tidegate.io/v1alpha1 (object \"hq\")");
        assert!(message.contains(&reason) && message.contains(known), "{message}");
        assert!(message.contains("(f.yaml:2)") && parsed.torn, "{message}");
    }
    let list = "apiVersion: v1\nkind: List\nitems:\n\
                - {apiVersion: tidegate.io/v1, kind: VPNConnection, metadata: {name: a}}\n";
    assert!(refusal(list).1.contains("is no kind of tidegate.io/v1"));
    let other = "apiVersion: example.com/v1\nkind: VPNConnection\nmetadata: {name: a}\n";
    assert_eq!(messages(&parse("f.yaml", other)), [] as [String; 0]);
}

#[test]
fn an_old_version_is_refused_with_the_right_one() {
    for (kind, version, right) in [
        ("Ingress", "extensions/v1beta1", "networking.k8s.io/v1"),
        ("Ingress", "networking.k8s.io/v1beta1", "networking.k8s.io/v1"),
        ("IngressClass", "v1", "networking.k8s.io/v1"),
        ("EndpointSlice", "discovery.k8s.io/v1beta1", "discovery.k8s.io/v1"),
        ("Service", "core/v1", "v1"),
    ] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n");
        let (parsed, message) = refusal(&text);
        assert!(message.contains(&format!("write {right} and")), "{message}");
        assert_eq!(parsed.broken.len(), 1);
    }
}

#[test]
fn what_cannot_be_identified_makes_the_file_torn() {
    for (text, expected) in [
        ("just text", "File f.yaml: is not a Kubernetes object"),
        ("kind: Service\nmetadata: {name: a}", "apiVersion: is missing"),
        ("apiVersion: v1\nkind: 1", "kind: must be text"),
        ("apiVersion: v1\nkind: Service", "metadata.name: is missing; every Service"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: 1}", "\"1\" is no valid name"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: A_b}", "\"A_b\" is no valid name"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: a.b}",
            "metadata.namespace: \"a.b\" is no valid name",
        ),
        ("apiVersion: v1\nkind: List\nitems: x", "items: must be a list"),
        ("apiVersion: v1\nkind: List\nitems: [~]", "is not a Kubernetes object"),
        ("a: [", "is not valid YAML"),
    ] {
        let (parsed, message) = refusal(text);
        assert!(parsed.torn, "{text}");
        assert!(message.contains(expected), "{text}: {message}");
        assert!(message.contains("(f.yaml:"), "{message}");
    }
}

#[test]
fn string_data_is_admitted_over_data() {
    let text = "\
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {a: eA==, b: eQ==}
stringData: {b: z, c: no}
";
    let parsed = parse("f.yaml", text);
    let Object::Secret(secret) = &*parsed.objects[0].object else { panic!("{parsed:?}") };
    let data: Vec<_> = secret.data.iter().flatten().map(|(_, value)| value.0.as_slice()).collect();
    assert_eq!(data, [b"x".as_slice(), b"z", b"no"]);
    assert_eq!(secret.string_data, None);
}

#[test]
fn what_a_broken_secret_holds_is_never_shown() {
    for rest in [
        "data: hunter2",
        "data: {a: hunter2!}",
        "data: {a: 4711}",
        "data: {a: [hunter2]}",
        "stringData: {a: 4711}",
        "stringData: {a: true}",
        "stringData: {a: 1e999}",
        "stringData: [hunter2]",
        "stringData: {a: hunter2, a: 4711}",
        "stringData: {a: hunter2}\nhunter: {hunter2: 4711, a: [hunter2",
    ] {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{rest}\n");
        let (_, message) = refusal(&text);
        for secret in ["hunter2", "4711", "true", "1e999", "33"] {
            assert!(!message.contains(secret), "{rest}: {message}");
        }
        assert!(message.contains("(f.yaml:"), "{message}");
    }
}

#[test]
fn names_are_checked_as_the_api_server_checks_them() {
    assert!(is_label("a-1") && is_label(&"a".repeat(63)) && is_label("0"));
    for bad in ["", "-a", "a-", "A", "a.b", "ä", &"a".repeat(64)] {
        assert!(!is_label(bad), "{bad}");
    }
    assert!(is_subdomain("a.b-c.0") && is_subdomain(&"a".repeat(253)));
    for bad in ["", ".", "a..b", "a.", "a/b", &"a".repeat(254)] {
        assert!(!is_subdomain(bad), "{bad}");
    }
}
