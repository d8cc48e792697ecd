use super::*;
use crate::l7::{RoutePolicy, Target};

fn route(host: &str, path: PathMatch) -> Route {
    let host = match host {
        "" => HostMatch::Any,
        _ => match host.strip_prefix("*.") {
            Some(suffix) => HostMatch::Wildcard(suffix.to_owned()),
            None => HostMatch::Exact(host.to_owned()),
        },
    };
    Route {
        host,
        path,
        ingress: None,
        field: String::new(),
        target: Target::Unavailable { reason: String::new() },
        policy: RoutePolicy::default(),
    }
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.to_owned())
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.to_owned())
}

fn regex(path: &str) -> PathMatch {
    PathMatch::Regex(path.to_owned())
}

/// Which of `paths`, all on one host, takes `path`.
fn winner(paths: &[PathMatch], path: &str) -> Option<usize> {
    let routes: Vec<Route> = paths.iter().map(|path| route("a.test", path.clone())).collect();
    Router::new(&routes).find("a.test", path)
}

/// The examples of Kubernetes' Ingress page ("Path types", "Examples"), row by row.
#[test]
fn path_examples_of_the_kubernetes_documentation() {
    let rows: &[(&[PathMatch], &str, Option<usize>)] = &[
        (&[prefix("/")], "/anything/at/all", Some(0)),
        (&[exact("/foo")], "/foo", Some(0)),
        (&[exact("/foo")], "/bar", None),
        (&[exact("/foo")], "/foo/", None),
        (&[exact("/foo/")], "/foo", None),
        (&[prefix("/foo")], "/foo", Some(0)),
        (&[prefix("/foo")], "/foo/", Some(0)),
        (&[prefix("/foo/")], "/foo", Some(0)),
        (&[prefix("/foo/")], "/foo/", Some(0)),
        (&[prefix("/aaa/bb")], "/aaa/bbb", None),
        (&[prefix("/aaa/bbb")], "/aaa/bbb", Some(0)),
        (&[prefix("/aaa/bbb/")], "/aaa/bbb", Some(0)),
        (&[prefix("/aaa/bbb")], "/aaa/bbb/", Some(0)),
        (&[prefix("/aaa/bbb")], "/aaa/bbb/ccc", Some(0)),
        (&[prefix("/aaa/bbb")], "/aaa/bbbxyz", None),
        (&[prefix("/"), prefix("/aaa")], "/aaa/ccc", Some(1)),
        (&[prefix("/"), prefix("/aaa"), prefix("/aaa/bbb")], "/aaa/bbb", Some(2)),
        (&[prefix("/"), prefix("/aaa"), prefix("/aaa/bbb")], "/ccc", Some(0)),
        (&[prefix("/aaa"), PathMatch::Default], "/ccc", Some(1)),
        (&[prefix("/foo"), exact("/foo")], "/foo", Some(1)),
    ];
    for (paths, path, expected) in rows {
        assert_eq!(winner(paths, path), *expected, "{paths:?} for {path}");
    }
}

/// The table of the same page's "Hostname wildcards".
#[test]
fn wildcard_hosts_stand_for_exactly_one_label() {
    let router = Router::new(&[route("*.foo.com", prefix("/"))]);
    assert_eq!(router.find("bar.foo.com", "/"), Some(0));
    assert_eq!(router.find("baz.bar.foo.com", "/"), None);
    assert_eq!(router.find("foo.com", "/"), None);
    assert_eq!(router.find(".foo.com", "/"), None);
}

#[test]
fn exact_path_beats_longer_prefix() {
    assert_eq!(winner(&[prefix("/a/b"), exact("/a/b/")], "/a/b/"), Some(1));
    assert_eq!(winner(&[regex("/a/b.*"), exact("/a/b")], "/a/b"), Some(1));
}

#[test]
fn paths_are_case_sensitive_except_in_regular_expressions() {
    assert_eq!(winner(&[prefix("/Foo"), exact("/Foo")], "/foo"), None);
    assert_eq!(winner(&[regex("/Foo")], "/foo"), Some(0));
}

#[test]
fn longer_text_wins_between_prefix_and_regex_and_prefix_wins_a_tie() {
    assert_eq!(winner(&[regex("/.*"), prefix("/api")], "/api/x"), Some(1));
    assert_eq!(winner(&[regex("/api/v[0-9]+"), prefix("/api")], "/api/v1"), Some(0));
    assert_eq!(winner(&[regex("/api/v[0-9]+"), prefix("/api")], "/api/w"), Some(1));
    assert_eq!(winner(&[regex("/ap."), prefix("/api")], "/api"), Some(1));
    assert_eq!(winner(&[regex("/a.*"), regex("/a/b.*")], "/a/b/c"), Some(1));
    assert_eq!(winner(&[regex("/a.c"), regex("/ab.")], "/abc"), Some(0));
}

#[test]
fn regular_expressions_are_anchored_at_the_beginning_only() {
    assert_eq!(winner(&[regex("/a|/b")], "/x/b"), None);
    assert_eq!(winner(&[regex("/a|/b")], "/bxyz"), Some(0));
    assert_eq!(winner(&[regex("/a$")], "/ab"), None);
}

#[test]
fn regular_expressions_that_do_not_compile_or_are_too_large_take_nothing() {
    assert_eq!(winner(&[regex("/("), prefix("/")], "/("), Some(1));
    assert_eq!(winner(&[regex(r"/\w{500}{500}"), prefix("/")], "/a"), Some(1));
}

#[test]
fn better_host_wins_and_falls_through_when_none_of_its_paths_match() {
    let router = Router::new(&[
        route("a.foo.com", prefix("/a")),
        route("*.foo.com", prefix("/b")),
        route("", prefix("/")),
    ]);
    assert_eq!(router.find("a.foo.com", "/a"), Some(0));
    assert_eq!(router.find("a.foo.com", "/b"), Some(1));
    assert_eq!(router.find("a.foo.com", "/c"), Some(2));
    assert_eq!(router.find("b.foo.com", "/a"), Some(2));
    assert_eq!(router.find("", "/a"), Some(2));
}

#[test]
fn default_backends_come_after_the_paths_of_every_host_and_the_most_specific_first() {
    let routes = [
        route("a.foo.com", PathMatch::Default),
        route("*.foo.com", prefix("/w")),
        route("*.foo.com", PathMatch::Default),
        route("", prefix("/any")),
        route("", PathMatch::Default),
    ];
    let router = Router::new(&routes);
    assert_eq!(router.find("a.foo.com", "/any"), Some(3));
    assert_eq!(router.find("a.foo.com", "/w"), Some(1));
    assert_eq!(router.find("a.foo.com", "/else"), Some(0));
    assert_eq!(router.find("b.foo.com", "/else"), Some(2));
    assert_eq!(router.find("other.com", "/else"), Some(4));
}

#[test]
fn only_default_backends_take_a_target_without_a_path() {
    let router = Router::new(&[route("", prefix("/")), route("", PathMatch::Default)]);
    assert_eq!(router.find("a.test", "*"), Some(1));
    assert_eq!(Router::new(&[route("", prefix("/"))]).find("a.test", ""), None);
}

#[test]
fn empty_elements_are_elements() {
    assert_eq!(winner(&[prefix("/a"), prefix("/a/b")], "/a//b"), Some(0));
    assert_eq!(winner(&[prefix("/a")], "//a"), None);
    assert_eq!(winner(&[prefix("/")], "//"), Some(0));
}

#[test]
fn many_siblings_are_found_like_few() {
    let paths: Vec<PathMatch> = (0..100).map(|n| prefix(&format!("/p{n}/x"))).collect();
    for (n, _) in paths.iter().enumerate() {
        assert_eq!(winner(&paths, &format!("/p{n}/x/y")), Some(n));
        assert_eq!(winner(&paths, &format!("/p{n}")), None);
    }
}

#[test]
fn rewrite_puts_the_groups_into_the_template() {
    let rewritten = |path: PathMatch, template: &str, request: &str| {
        let mut route = route("", path);
        route.policy.rewrite = Some(template.to_owned());
        Router::new(&[route]).rewrite(0, request)
    };
    let fixture = || regex("/something(/|$)(.*)");
    assert_eq!(rewritten(fixture(), "/$2", "/something").as_deref(), Some("/"));
    assert_eq!(rewritten(fixture(), "/$2", "/something/").as_deref(), Some("/"));
    assert_eq!(rewritten(fixture(), "/$2", "/something/new").as_deref(), Some("/new"));
    assert_eq!(rewritten(fixture(), "$2", "/something/new").as_deref(), Some("/new"));
    assert_eq!(rewritten(fixture(), "/x$10", "/something/new").as_deref(), Some("/x/0"));
    assert_eq!(rewritten(prefix("/a"), "/b", "/a/c").as_deref(), Some("/b"));
    assert_eq!(rewritten(prefix("/a"), "/b$1", "/a/c").as_deref(), Some("/b"));
    assert_eq!(Router::new(&[route("", prefix("/a"))]).rewrite(0, "/a"), None);
}

#[test]
fn hosts_with_many_or_very_long_prefixes_are_matched_alike() {
    let long = format!("/{}", "x".repeat(70_000));
    for many in [3, 32, 33, 100] {
        let mut paths: Vec<PathMatch> = (0..many).map(|n| prefix(&format!("/p/{n}"))).collect();
        paths.push(prefix("/"));
        paths.push(exact("/p/1/e"));
        assert_eq!(winner(&paths, "/p/2/x"), Some(2));
        assert_eq!(winner(&paths, "/p/2x"), Some(many));
        assert_eq!(winner(&paths, "/p/1/e"), Some(many + 1));
        paths.push(prefix(&long));
        assert_eq!(winner(&paths, &format!("{long}/y")), Some(many + 2));
        assert_eq!(winner(&paths, "/p/2/x"), Some(2));
    }
}
