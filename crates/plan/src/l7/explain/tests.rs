use std::sync::Arc;

use super::*;
use crate::l7::{Backend, BackendId, Endpoint, RoutePolicy, Target};

const HOSTS: &[&str] = &["a.foo.com", "b.foo.com", "foo.com", "x.a.foo.com", "", ".foo.com"];
const PATHS: &[&str] =
    &["/", "/a", "/a/", "/a/b", "/A/b", "/a//b", "/a/bc", "/abc", "/a/b/c/d", "*", "/%61", "//"];

fn hosts() -> Vec<HostMatch> {
    vec![
        HostMatch::Exact("a.foo.com".into()),
        HostMatch::Exact("foo.com".into()),
        HostMatch::Wildcard("foo.com".into()),
        HostMatch::Wildcard("a.foo.com".into()),
        HostMatch::Any,
    ]
}

fn paths() -> Vec<PathMatch> {
    let exact = ["/", "/a", "/a/", "/a/b"].map(|path| PathMatch::Exact(path.into()));
    let prefix = ["/", "/a", "/a/b", "/a/b/c"].map(|path| PathMatch::Prefix(path.into()));
    let regex = ["/.*", "/a/b", "/a/.*", "/a(/|$)(.*)"].map(|path| PathMatch::Regex(path.into()));
    exact.into_iter().chain(prefix).chain(regex).chain([PathMatch::Default]).collect()
}

fn route(host: HostMatch, path: PathMatch) -> Route {
    Route {
        host,
        path,
        ingress: Some(ObjectKey::new("shop", "web")),
        field: "spec.rules[0].http.paths[0]".into(),
        target: Target::Backend(BackendId(0)),
        policy: RoutePolicy::default(),
    }
}

fn plan(routes: Vec<Route>) -> L7Plan {
    let endpoint = Endpoint {
        address: "10.0.0.1:8080".parse().unwrap(),
        weight: 3,
        terminating: false,
        local: true,
    };
    let alb = AlbPlan { routes, ..AlbPlan::default() };
    L7Plan { albs: [(AlbKind::Public, alb.into())].into(), backends: vec![backend(vec![endpoint])] }
}

fn backend(endpoints: Vec<Endpoint>) -> Arc<Backend> {
    Arc::new(Backend {
        service: ObjectKey::new("shop", "cart"),
        port: "http".into(),
        endpoints: Endpoints::Static(endpoints),
    })
}

fn query(host: &str, path: &str) -> Query {
    let (host, path) = (host.to_owned(), path.to_owned());
    Query { alb: AlbKind::Public, https: false, host, path, client: None }
}

/// Draws subsets of all hosts × paths from a fixed seed and compares the index with the rules as
/// they are written down in `rank`.
#[test]
fn router_agrees_with_the_rules_applied_route_by_route() {
    let all: Vec<Route> = hosts()
        .into_iter()
        .flat_map(|host| paths().into_iter().map(move |path| route(host.clone(), path)))
        .collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut matched = 0;
    for round in 0..36 {
        let mut routes: Vec<Route> = all
            .iter()
            .filter(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed % 6 <= round % 6
            })
            .cloned()
            .collect();
        routes.sort_by(|a, b| (&a.host, &a.path).cmp(&(&b.host, &b.path)));
        let router = Router::new(&routes);
        for host in HOSTS {
            for path in PATHS {
                let expected = routes
                    .iter()
                    .enumerate()
                    .filter_map(|(at, route)| Some((rank(route, host, path)?, at)))
                    .min()
                    .map(|(_, at)| at);
                assert_eq!(router.find(host, path), expected, "{host:?} {path} in {routes:#?}");
                matched += usize::from(expected.is_some());
            }
        }
    }
    assert!(matched > 1000, "only {matched} requests matched anything");
}

#[test]
fn text_names_route_reason_rivals_and_endpoints() {
    let routes = vec![
        route(HostMatch::Exact("a.foo.com".into()), PathMatch::Prefix("/a".into())),
        route(HostMatch::Wildcard("foo.com".into()), PathMatch::Prefix("/a".into())),
        route(HostMatch::Any, PathMatch::Default),
    ];
    let text = explain(&plan(routes), query("a.foo.com", "/a/b")).to_string();
    assert_eq!(
        text,
        "http://a.foo.com/a/b at the public ALB
  route:       Prefix /a on host a.foo.com (Ingress shop/web, spec.rules[0].http.paths[0])
  because:     the host is named; the longest match for the path
  beaten:      Prefix /a on host *.foo.com (Ingress shop/web, spec.rules[0].http.paths[0]): \
a more specific host takes the path
  beaten:      Default on host * (Ingress shop/web, spec.rules[0].http.paths[0]): \
a default backend only takes what no other rule takes
  answer:      from Service shop/cart port http, asked for /a/b of host a.foo.com
  endpoints:   10.0.0.1:8080 (weight 3)
"
    );
}

#[test]
fn no_route_is_a_404_and_an_empty_backend_a_503() {
    let explained = explain(&plan(Vec::new()), query("a.foo.com", "/"));
    assert_eq!(explained.outcome, Outcome::NotFound);
    assert_eq!(explained.route, None);

    let mut plan = plan(vec![route(HostMatch::Any, PathMatch::Default)]);
    plan.backends[0] = backend(Vec::new());
    let explained = explain(&plan, query("a.foo.com", "/"));
    let reason = "Service shop/cart has no endpoints".to_owned();
    assert_eq!(explained.outcome, Outcome::Unavailable { reason });
}

#[test]
fn rewritten_path_and_host_are_what_the_upstream_sees() {
    let mut route = route(HostMatch::Any, PathMatch::Regex("/x(/|$)(.*)".into()));
    route.policy.rewrite = Some("/$2".into());
    route.policy.upstream_host = Some("inner.test".into());
    let explained = explain(&plan(vec![route]), query("a.foo.com", "/x/y"));
    let Outcome::Forward { path, host, .. } = explained.outcome else {
        panic!("not forwarded: {explained:?}");
    };
    assert_eq!((path.as_str(), host.as_str()), ("/y", "inner.test"));
}

#[test]
fn access_lists_need_a_client_to_forbid() {
    let mut route = route(HostMatch::Any, PathMatch::Prefix("/".into()));
    route.policy.allow = vec!["10.0.0.0/8".parse().unwrap()];
    let plan = plan(vec![route]);
    let mut query = query("a.foo.com", "/");
    assert!(matches!(explain(&plan, query.clone()).outcome, Outcome::Forward { .. }));
    query.client = Some("192.0.2.1".parse().unwrap());
    assert_eq!(explain(&plan, query).outcome, Outcome::Forbidden);
}

#[test]
fn url_becomes_the_request_that_a_client_makes() {
    let parse = |url| Query::for_url(AlbKind::Public, url, None);
    let query = parse("https://A.Foo.com.:8443/x/y?z=1").unwrap();
    assert_eq!(
        (query.https, query.host.as_str(), query.path.as_str()),
        (true, "a.foo.com", "/x/y")
    );
    assert_eq!(parse("http://a.test").unwrap().path, "/");
    assert!(parse("wss://a.test/").unwrap().https);
    assert!(!parse("ws://a.test/").unwrap().https);
    assert_eq!(parse("ftp://a.test/"), Err(UrlError::Scheme));
    assert_eq!(parse("a.test/x y"), Err(UrlError::Malformed));
    assert_eq!(parse("/x"), Err(UrlError::Malformed));
}

#[test]
fn path_is_matched_as_traffic_is_and_sent_on_as_it_came() {
    let routes = ["/", "/admin", "/bar", "/foo/bar"];
    let routes = routes.map(|path| route(HostMatch::Any, PathMatch::Prefix(path.into())));
    let plan = plan(routes.into());
    for (sent, matched, taken_by) in [
        ("/foo/../bar", Some("/bar"), "/bar"),
        ("/x/..%2fadmin", Some("/admin"), "/admin"),
        ("/%61dmin", Some("/admin"), "/admin"),
        ("/foo%2fbar", Some("/foo/bar"), "/foo/bar"),
        ("//admin", Some("/admin"), "/admin"),
        ("/admin", None, "/admin"),
    ] {
        let url = format!("http://a.test{sent}?x=/..");
        let query = Query::for_url(AlbKind::Public, &url, None).unwrap();
        let explained = explain(&plan, query);
        assert_eq!(explained.matched_path.as_deref(), matched, "{sent}");
        let route = explained.route.as_ref().unwrap();
        assert_eq!(route.path, PathMatch::Prefix(taken_by.into()), "{sent}");
        let text = explained.to_string();
        assert_eq!(text.contains("matched as:"), matched.is_some(), "{text}");
        let Outcome::Forward { path, .. } = explained.outcome else {
            panic!("not forwarded: {text}");
        };
        assert_eq!(path, sent);
    }
}

#[test]
fn path_that_cannot_be_read_in_one_way_is_a_400() {
    let plan = plan(vec![route(HostMatch::Any, PathMatch::Default)]);
    for path in ["/..", "/a/%2e%2e/../b", "/%", "/a%00"] {
        let explained = explain(&plan, query("a.foo.com", path));
        assert_eq!(explained.outcome, Outcome::BadRequest, "{path}");
        assert_eq!((explained.route.as_ref(), &explained.beaten[..]), (None, &[][..]));
        assert!(explained.to_string().contains("answer:      400"), "{explained}");
    }
}
