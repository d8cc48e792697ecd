use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use model::{AlbKind, AlbSettings, ObjectKey, Settings};

use crate::{IngressMemo, Memo, ObjectSet, ingest_with, manifest};

/// Numbers that look random and are always the same ones.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        ((self.0 >> 33) % bound as u64) as usize
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

fn key(name: String) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn put(set: &mut ObjectSet, text: &str) {
    let parsed = manifest::parse("f.yaml", text);
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(set));
}

fn pairs() -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes())
    };
    let mut pairs = vec![pair("a.example.com"), pair("*.example.com")];
    // The one's key doesn't belong to the other's certificate.
    let broken = (pairs[0].0.clone(), pairs[1].1.clone());
    pairs.push(broken);
    pairs.push((b"nothing".to_vec(), Vec::new()));
    pairs
}

fn secret((chain, private): &(Vec<u8>, Vec<u8>)) -> Arc<Secret> {
    let data = [("tls.crt", chain), ("tls.key", private)];
    let data = data.map(|(name, bytes)| (name.to_owned(), ByteString(bytes.clone())));
    let type_ = Some("kubernetes.io/tls".to_owned());
    Arc::new(Secret { data: Some(data.into()), type_, ..Secret::default() })
}

fn ingress(random: &mut Random) -> String {
    let class = random.of(&["tidegate-public", "tidegate-public", "inside", "wrong"]);
    let annotation = random.of(&[
        "a: b",
        "tidegate.io/rewrite-target: /$1",
        "nginx.ingress.kubernetes.io/canary: \"true\"",
        "nginx.ingress.kubernetes.io/auth-url: x",
    ]);
    let host = random.of(&["a.example.com", "b.example.com", "*.example.com", "A!"]);
    let hosts = random.of(&["[a.example.com]", "[c.d]", "[]"]);
    let kind = random.of(&["Prefix", "ImplementationSpecific", "Wrong"]);
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: i{}, annotations: \
         {{{annotation}}}}}, spec: {{ingressClassName: {class}, tls: [{{hosts: {hosts}, secretName: \
         s{}}}, {{secretName: s{}}}], rules: [{{host: \"{host}\", http: {{paths: [{{path: /p, \
         pathType: {kind}, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]}}}}",
        random.below(6),
        random.below(4),
        random.below(4),
    )
}

fn change(set: &mut ObjectSet, random: &mut Random, pairs: &[(Vec<u8>, Vec<u8>)]) {
    match random.below(9) {
        0..=3 => put(set, &ingress(random)),
        4..=5 => {
            let pair = &pairs[random.below(pairs.len())];
            set.secrets.insert(key(format!("s{}", random.below(4))), secret(pair));
        }
        6 => drop(set.secrets.remove(&key(format!("s{}", random.below(4))))),
        7 => drop(set.ingresses.remove(&key(format!("i{}", random.below(6))))),
        _ => {
            let controller = random.of(&["tidegate.io/ingress-private", "other/one"]);
            put(
                set,
                &format!(
                    "{{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {{name: \
                     inside}}, spec: {{controller: {controller}}}}}"
                ),
            );
        }
    }
    if random.below(8) == 0 {
        set.origins.clear();
    }
}

fn alb(kind: AlbKind, class: &str) -> AlbSettings {
    AlbSettings {
        kind,
        ingress_class: class.to_owned(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    }
}

#[test]
fn the_outcome_is_the_same_whether_ingresses_are_remembered_or_not() {
    let pairs = pairs();
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut set = ObjectSet::default();
        // Of Secrets there is always a memory: one that is broken keeps its last good pair.
        let (mut memo, mut forgetful) = (Memo::default(), Memo::default());
        for _ in 0..60 {
            change(&mut set, &mut random, &pairs);
            let mut albs = vec![alb(AlbKind::Public, "tidegate-public")];
            albs.extend((random.below(3) > 0).then(|| alb(AlbKind::Private, "private")));
            let settings = Settings { albs, ..Settings::default() };
            forgetful.ingresses = IngressMemo::default();
            let without = ingest_with(&set, &settings, &mut forgetful);
            assert_eq!(ingest_with(&set, &settings, &mut memo), without, "seed {seed}");
        }
    }
}

#[test]
fn an_ingress_that_has_not_changed_is_not_read_again() {
    let mut set = ObjectSet::default();
    let mut random = Random(1);
    while set.ingresses.len() < 6 {
        put(&mut set, &ingress(&mut random));
    }
    let settings =
        Settings { albs: vec![alb(AlbKind::Public, "tidegate-public")], ..Settings::default() };
    let mut memo = Memo::default();
    let (first, _) = ingest_with(&set, &settings, &mut memo);
    let (second, _) = ingest_with(&set, &settings, &mut memo);
    assert!(!first.ingresses.is_empty());
    for (key, ingress) in &first.ingresses {
        assert!(Arc::ptr_eq(ingress, &second.ingresses[key]));
    }
}
