use super::*;

const INGRESS: &str = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\n";

fn service(name: &str, rest: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n{rest}\n---\n")
}

fn names(store: &Store) -> Vec<String> {
    store.delivery().objects.origins.keys().map(ToString::to_string).collect()
}

fn messages(store: &Store) -> Vec<String> {
    store.delivery().diagnostics.iter().map(ToString::to_string).collect()
}

fn cluster_ip(store: &Store, name: &str) -> Option<String> {
    let key = model::ObjectKey::new("default", name);
    store.delivery().objects.services.get(&key)?.spec.as_ref()?.cluster_ip.clone()
}

#[test]
fn only_what_changes_something_is_news() {
    let mut store = Store::default();
    assert!(store.put("a.yaml", INGRESS));
    assert!(!store.put("a.yaml", INGRESS));
    assert!(!store.put("a.yaml", &format!("{INGRESS}# a comment\n")));
    assert!(store.put("a.yaml", "a: ["));
    assert!(!store.put("a.yaml", "a: ["));
    assert!(store.unreadable("a.yaml", "gone fishing", "wait"));
    assert!(!store.unreadable("a.yaml", "gone fishing", "wait"));
    assert!(store.remove("a.yaml"));
    assert!(!store.remove("a.yaml"));
    assert!(store.is_empty());
}

#[test]
fn a_torn_file_keeps_its_objects_until_it_is_mended() {
    let mut store = Store::default();
    store.put("a.yaml", INGRESS);
    store.put("a.yaml", "apiVersion: v1\nkind: [");
    assert_eq!(names(&store), ["Ingress default/web"]);
    let found = messages(&store);
    assert!(found[0].starts_with("error: File a.yaml: is not valid YAML"), "{found:?}");
    assert!(found[0].contains(KEPT), "{found:?}");
    store.put("a.yaml", &service("x", ""));
    assert_eq!(names(&store), ["Service default/x"]);
    assert_eq!(messages(&store), [] as [String; 0]);
}

#[test]
fn a_torn_file_without_a_past_has_nothing_to_keep() {
    let mut store = Store::default();
    store.put("a.yaml", "a: [");
    assert_eq!(names(&store), [] as [String; 0]);
    assert!(!messages(&store)[0].contains(KEPT));
}

#[test]
fn a_broken_object_keeps_its_own_last_good_version_while_its_neighbours_change() {
    let mut store = Store::default();
    let spec = |ip: &str| format!("spec: {{clusterIP: {ip}}}");
    store.put("a.yaml", &(service("x", &spec("10.0.0.1")) + &service("y", &spec("10.0.0.2"))));
    store.put("a.yaml", &(service("x", "spec: 1") + &service("y", &spec("10.0.0.3"))));
    assert_eq!(cluster_ip(&store, "x").as_deref(), Some("10.0.0.1"));
    assert_eq!(cluster_ip(&store, "y").as_deref(), Some("10.0.0.3"));
    let found = messages(&store);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("Service default/x: spec: invalid type"), "{found:?}");
    assert!(found[0].contains(KEPT), "{found:?}");
    // Left out of a file that can be read, it is gone.
    store.put("a.yaml", &service("y", ""));
    assert_eq!(names(&store), ["Service default/y"]);
}

#[test]
fn a_document_without_a_name_keeps_what_it_may_have_been() {
    let mut store = Store::default();
    store.put("a.yaml", &(service("x", "") + &service("y", "")));
    store.put("a.yaml", &(service("x", "") + "apiVersion: v1\nkind: Service\n"));
    assert_eq!(names(&store), ["Service default/x", "Service default/y"]);
    assert!(messages(&store)[0].contains(KEPT));
}

#[test]
fn an_emptied_file_keeps_its_objects_and_says_so() {
    let mut store = Store::default();
    store.put("a.yaml", INGRESS);
    store.put("a.yaml", " \n");
    assert_eq!(names(&store), ["Ingress default/web"]);
    assert!(messages(&store)[0].starts_with("warning: File a.yaml: is empty; remove the file"));
    // Comments are put there on purpose.
    store.put("a.yaml", "# nothing\n");
    assert_eq!(names(&store), [] as [String; 0]);
}

#[test]
fn an_unreadable_file_keeps_its_objects() {
    let mut store = Store::default();
    store.put("a.yaml", INGRESS);
    store.unreadable("a.yaml", "can't be read: no", "see to it");
    assert_eq!(names(&store), ["Ingress default/web"]);
    let expected = format!("error: File a.yaml: can't be read: no; see to it; {KEPT} (a.yaml)");
    assert_eq!(messages(&store), [expected]);
}

#[test]
fn of_an_object_in_two_files_the_first_by_name_counts() {
    let mut store = Store::default();
    store.put("b.yaml", INGRESS);
    store.put("a.yaml", &format!("# later, but first by name\n{INGRESS}"));
    let delivery = store.delivery();
    assert_eq!(delivery.objects.origins.values().next().unwrap().file, "a.yaml");
    let found = messages(&store);
    assert_eq!(
        found,
        ["error: Ingress default/web: stands in a.yaml:2 too, and that one counts; \
          remove or rename one of the two (b.yaml:1)"]
    );
    store.remove("a.yaml");
    assert_eq!(store.delivery().objects.origins.values().next().unwrap().file, "b.yaml");
    assert_eq!(messages(&store), [] as [String; 0]);
}

#[test]
fn ignored_kinds_are_counted_over_files() {
    let mut store = Store::default();
    store.put("a.yaml", "{apiVersion: v1, kind: ConfigMap}");
    store.put("b.yaml", "{apiVersion: v1, kind: ConfigMap}");
    assert_eq!(store.delivery().ignored, BTreeMap::from([("v1 ConfigMap".to_owned(), 2)]));
    assert_eq!(store.len(), 2);
}

#[test]
fn only_the_changed_object_of_a_file_is_read_again_even_after_a_torn_text() {
    let object = |store: &Store, name: &str| {
        let entries = store.files["a.yaml"].content.entries.values();
        let mut found = entries.filter(|entry| entry.reference.name == name);
        std::sync::Arc::clone(&found.next().unwrap().object)
    };
    let mut store = Store::default();
    store.put("a.yaml", &(service("x", "") + &service("y", "")));
    let (x, y) = (object(&store, "x"), object(&store, "y"));
    store.put("a.yaml", &(service("x", "") + "kind: ["));
    store.put("a.yaml", "");
    store.unreadable("a.yaml", "no", "see to it");
    store.put("a.yaml", &(service("x", "") + &service("y", "spec: {clusterIP: 10.0.0.1}")));
    assert!(std::sync::Arc::ptr_eq(&x, &object(&store, "x")));
    assert!(!std::sync::Arc::ptr_eq(&y, &object(&store, "y")));
    assert_eq!(cluster_ip(&store, "y").as_deref(), Some("10.0.0.1"));
}
