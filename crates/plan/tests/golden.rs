//! Manifests in, plan and diagnostics out, compared with what stands beside them.
//!
//! For each `golden/NAME.yaml` there are `NAME.plan.json` and `NAME.diagnostics.txt`; with
//! `UPDATE_GOLDEN=1` they are written anew. The manifests may hold:
//!
//! - `${cert NAME a.test,*.b.test}` and `${key NAME}`: a certificate for these names, made on
//!   the spot, and its key, as text for a YAML string in double quotes;
//! - comments `# http://host/path => OUTCOME` (or `# private https://… => …`), requests that are
//!   explained with the finished plan: `namespace/service:port`, or the status code.
//!
//! Of a route's policy the JSON only holds what differs from the default.

// Helpers of tests fail as tests do; clippy only exempts the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ingest::ObjectSet;
use ingest::manifest::Entry;
use model::{AlbKind, AlbSettings, ObjectKey, Settings};
use plan::l7::{self, L7Plan, Outcome, Query, RoutePolicy};
use serde_json::Value;

#[test]
fn every_manifest_gives_its_plan_and_diagnostics() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (plan, diagnostics) = case.planned(case.entries());
        for (extension, actual) in [("plan.json", &plan), ("diagnostics.txt", &diagnostics)] {
            let path = case.path.with_extension(extension);
            if update {
                fs::write(&path, actual).unwrap();
            } else if fs::read_to_string(&path).unwrap_or_default() != *actual {
                wrong.push(format!("{} should be:\n{actual}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew", wrong.join("\n"));
}

#[test]
fn every_request_in_the_comments_is_answered_as_it_says() {
    let mut asked = 0;
    for case in cases() {
        let (plan, _) = plan_of(&set(case.entries()), &case.settings());
        for (line, request, expected) in case.requests() {
            let explained = l7::explain(&plan, request);
            let place = format!("{}:{line}", case.path.display());
            assert_eq!(outcome(&explained.outcome), expected, "{place}\n{explained}");
            asked += 1;
        }
    }
    assert!(asked > 50, "only {asked} requests were found");
}

#[test]
fn order_of_the_objects_makes_no_difference() {
    for case in cases() {
        let entries = case.entries();
        let expected = case.planned(entries.clone());
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for _ in 0..10 {
            let mut shuffled = entries.clone();
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, random.below(at + 1));
            }
            assert_eq!(case.planned(shuffled), expected, "{}", case.path.display());
        }
    }
}

struct Case {
    path: PathBuf,
    text: String,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in &paths {
        // NAME.plan.json and NAME.diagnostics.txt of a NAME.yaml that has gone prove nothing.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        let manifest = path.with_file_name(name.split('.').next().unwrap()).with_extension("yaml");
        assert!(manifest.exists(), "{} is left over", path.display());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(paths.len() > 10, "only {} manifests were found", paths.len());
    let case = |path: PathBuf| Case { text: fs::read_to_string(&path).unwrap(), path };
    paths.into_iter().map(case).collect()
}

impl Case {
    fn name(&self) -> &str {
        self.path.file_stem().and_then(|name| name.to_str()).unwrap()
    }

    fn entries(&self) -> Vec<Entry> {
        let file = format!("{}.yaml", self.name());
        let parsed = ingest::manifest::parse(&file, &with_certificates(&self.text));
        assert_eq!(parsed.diagnostics, [], "{file} can't be read");
        parsed.objects
    }

    fn planned(&self, entries: Vec<Entry>) -> (String, String) {
        let (plan, diagnostics) = plan_of(&set(entries), &self.settings());
        let mut text = String::new();
        for diagnostic in diagnostics {
            writeln!(text, "{diagnostic}").unwrap();
        }
        (serde_json::to_string_pretty(&concise(&plan)).unwrap() + "\n", text)
    }

    fn settings(&self) -> Settings {
        let mut settings = [AlbKind::Public, AlbKind::Private].map(|kind| AlbSettings {
            kind,
            ingress_class: format!("tidegate-{kind}"),
            ssl_redirect: true,
            default_certificate: None,
            default_backend: None,
        });
        let [public, private] = &mut settings;
        if self.name() == "alb_defaults" {
            private.ssl_redirect = false;
            public.default_certificate = Some(ObjectKey::new("edge", "fallback"));
            private.default_certificate = Some(ObjectKey::new("edge", "missing"));
            public.default_backend = Some((ObjectKey::new("edge", "errors"), "http".into()));
            private.default_backend = Some((ObjectKey::new("edge", "missing"), "80".into()));
        }
        Settings { albs: settings.into(), ..Settings::default() }
    }

    fn requests(&self) -> impl Iterator<Item = (usize, Query, &str)> {
        let lines = (1..).zip(self.text.lines());
        lines.filter_map(|(line, text)| {
            let (request, expected) = text.trim().strip_prefix("# ")?.split_once(" => ")?;
            let (alb, url) = match request.strip_prefix("private ") {
                Some(url) => (AlbKind::Private, url),
                None => (AlbKind::Public, request),
            };
            let (url, client) = match url.split_once(" from ") {
                Some((url, client)) => (url, Some(client.parse().unwrap())),
                None => (url, None),
            };
            let (scheme, rest) = url.split_once("://")?;
            let (host, path) = rest.split_at(rest.find('/')?);
            let (host, path) = (host.to_owned(), path.to_owned());
            Some((line, Query { alb, https: scheme == "https", host, path, client }, expected))
        })
    }
}

fn set(entries: Vec<Entry>) -> ObjectSet {
    let mut set = ObjectSet::default();
    for entry in entries {
        entry.insert_into(&mut set);
    }
    set
}

fn plan_of(objects: &ObjectSet, settings: &Settings) -> (L7Plan, Vec<model::Diagnostic>) {
    let (snapshot, mut diagnostics) = ingest::ingest(objects, settings);
    let (plan, more) = l7::plan(&snapshot, &settings.albs);
    diagnostics.extend(more);
    diagnostics.sort();
    (plan, diagnostics)
}

fn concise(plan: &L7Plan) -> Value {
    let usual = serde_json::to_value(RoutePolicy::default()).unwrap();
    let mut value = serde_json::to_value(plan).unwrap();
    for alb in value["albs"].as_object_mut().unwrap().values_mut() {
        for route in alb["routes"].as_array_mut().unwrap() {
            let policy = route["policy"].as_object_mut().unwrap();
            policy.retain(|name, value| usual[name] != *value);
        }
    }
    value
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::RedirectToHttps => "308".into(),
        Outcome::Forbidden => "403".into(),
        Outcome::Redirect { status, location } => format!("{status} {location}"),
        Outcome::Unavailable { .. } => "503".into(),
        Outcome::BadRequest => "400".into(),
        Outcome::NotFound => "404".into(),
        Outcome::Forward { service, port, path, .. } => match path.as_str() {
            "/rewritten" => format!("{service}:{port} {path}"),
            _ => format!("{service}:{port}"),
        },
    }
}

/// Puts certificates and keys in for their placeholders.
fn with_certificates(text: &str) -> String {
    let mut out = String::new();
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (placeholder, after) = after.split_once('}').unwrap();
        let words: Vec<&str> = placeholder.split(' ').collect();
        let pem = match words[..] {
            ["cert", name, hosts] => {
                let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
                let made = rcgen::generate_simple_self_signed(hosts).unwrap();
                keys.insert(name.to_owned(), made.signing_key.serialize_pem());
                made.cert.pem()
            }
            ["key", name] => keys[name].clone(),
            _ => panic!("unknown placeholder {placeholder:?}"),
        };
        out.push_str(before);
        out.push_str(&pem.replace("\r\n", "\n").replace('\n', "\\n"));
        rest = after;
    }
    out + rest
}

/// xorshift64*, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit
    }
}
