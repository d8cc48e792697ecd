//! Which route takes a request, and why.
//!
//! The answer comes from the [`Router`] and the [`Verdict`] that serve traffic, so that it can't
//! differ from what happens; only the list of beaten routes is made for the reader.

use std::fmt;
use std::net::IpAddr;

use model::{AlbKind, ObjectKey};
use serde::Serialize;

use super::{AlbPlan, Endpoints, HostMatch, L7Plan, PathMatch, Route, Router, Verdict, path};

/// A request to explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Query {
    /// The ALB that it comes to.
    pub alb: AlbKind,
    /// Whether it comes by HTTPS.
    pub https: bool,
    /// The host, lower-case, without port and trailing dot, or empty.
    pub host: String,
    /// The path without query as the client sends it: not decoded yet.
    pub path: String,
    /// The client's address, none to leave the access lists aside.
    pub client: Option<IpAddr>,
}

/// Why a URL can't be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It doesn't parse.
    #[error("not a URL; write one such as https://shop.example.com/cart")]
    Malformed,
    /// It is of another scheme.
    #[error("the scheme is none of http, https, ws and wss; write one of them")]
    Scheme,
}

impl Query {
    /// The request that a client makes for a URL. The URL's port and query make no difference;
    /// a WebSocket begins as a request by HTTP (RFC 6455, section 1.3).
    ///
    /// # Errors
    /// If the text is no absolute http, https, ws or wss URL.
    pub fn for_url(alb: AlbKind, url: &str, client: Option<IpAddr>) -> Result<Self, UrlError> {
        let uri: http::Uri = url.parse().map_err(|_| UrlError::Malformed)?;
        let https = match uri.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            Some(_) => return Err(UrlError::Scheme),
            None => return Err(UrlError::Malformed),
        };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        Ok(Self { alb, https, host, path: uri.path().to_owned(), client })
    }
}

/// What happens to a request, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The request.
    pub query: Query,
    /// The path that rules were compared with ([`path::for_matching`]), where it isn't the one
    /// that was sent.
    pub matched_path: Option<String>,
    /// The route that takes it; none for a 404.
    pub route: Option<Matched>,
    /// Routes that match too but are beaten, best first.
    pub beaten: Vec<Matched>,
    /// What the client or the upstream gets.
    pub outcome: Outcome,
    /// For HTTPS, the Secret of the certificate; none for the self-made one.
    pub certificate: Option<ObjectKey>,
}

/// A route that matches the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matched {
    /// Its position in the ALB's routes.
    pub position: usize,
    /// Its host.
    pub host: HostMatch,
    /// Its path.
    pub path: PathMatch,
    /// The Ingress it came from; none for the ALB's own default backend.
    pub ingress: Option<ObjectKey>,
    /// The field in that Ingress.
    pub field: String,
    /// Why it takes the request, or what beats it.
    pub why: String,
}

/// What happens in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// 308 to the same URL under HTTPS.
    RedirectToHttps,
    /// 403: the client's address may not come.
    Forbidden,
    /// A redirect.
    Redirect {
        /// The status code.
        status: u16,
        /// The Location header's value.
        location: String,
    },
    /// 503, for this reason.
    Unavailable {
        /// Why.
        reason: String,
    },
    /// 400: the path can't be read in one way only.
    BadRequest,
    /// 404: there is no route and no default backend.
    NotFound,
    /// To one of the endpoints.
    Forward {
        /// The Service.
        service: ObjectKey,
        /// Its port.
        port: String,
        /// What serves it.
        endpoints: Endpoints,
        /// The path that the upstream sees.
        path: String,
        /// The Host that the upstream sees.
        host: String,
    },
}

/// Explains what the plan does with a request.
pub fn explain(plan: &L7Plan, query: Query) -> Explanation {
    let empty = AlbPlan::default();
    let alb = plan.albs.get(&query.alb).map_or(&empty, |alb| &**alb);
    let certificate = (query.https)
        .then(|| alb.certificates.find(Some(&query.host)))
        .flatten()
        .and_then(|index| alb.certificates.pairs.get(index))
        .map(|pair| pair.secret.clone());
    let Ok(path) = path::for_matching(query.path.as_bytes()) else {
        return Explanation {
            query,
            matched_path: None,
            route: None,
            beaten: Vec::new(),
            outcome: Outcome::BadRequest,
            certificate,
        };
    };
    let router = Router::new(&alb.routes);
    let winner = router.find(&query.host, &path);
    let found = winner.and_then(|position| Some((position, alb.routes.get(position)?)));

    let outcome = found.map_or(Outcome::NotFound, |(position, route)| {
        outcome(plan, &query, &path, &router, position, route)
    });
    let route = found.map(|(position, route)| matched(position, route, why(route)));
    let beaten = beaten(alb, &query.host, &path, found);
    let matched_path = (path != query.path).then(|| path.into_owned());
    Explanation { query, matched_path, route, beaten, outcome, certificate }
}

fn outcome(
    plan: &L7Plan,
    query: &Query,
    path: &str,
    router: &Router,
    position: usize,
    route: &Route,
) -> Outcome {
    let backend = match route.verdict(query.https, path, query.client) {
        Verdict::RedirectToHttps => return Outcome::RedirectToHttps,
        Verdict::Forbidden => return Outcome::Forbidden,
        Verdict::Redirect { status, location } => {
            return Outcome::Redirect { status, location: location.to_owned() };
        }
        Verdict::Unavailable(reason) => return Outcome::Unavailable { reason: reason.to_owned() },
        Verdict::Forward(id) => plan.backends.get(id.0 as usize),
    };
    let Some(backend) = backend else {
        return Outcome::Unavailable { reason: "the plan has no such backend".to_owned() };
    };
    if matches!(&backend.endpoints, Endpoints::Static(endpoints) if endpoints.is_empty()) {
        let reason = format!("Service {} has no endpoints", backend.service);
        return Outcome::Unavailable { reason };
    }
    Outcome::Forward {
        service: backend.service.clone(),
        port: backend.port.clone(),
        endpoints: backend.endpoints.clone(),
        // Without a rewrite the upstream sees the path as it was sent.
        path: router.rewrite(position, path).unwrap_or_else(|| query.path.clone()),
        host: route.policy.upstream_host.clone().unwrap_or_else(|| query.host.clone()),
    }
}

fn why(route: &Route) -> String {
    let host = match &route.host {
        HostMatch::Exact(_) => "the host is named",
        HostMatch::Wildcard(_) => "no rule for the exact host takes the path, the wildcard does",
        HostMatch::Any => "no rule for this host takes the path, one for any host does",
    };
    match &route.path {
        PathMatch::Exact(_) => format!("{host}; the path is equal"),
        PathMatch::Prefix(_) => format!("{host}; the longest match for the path"),
        PathMatch::Regex(_) => {
            format!("{host}; the longest regular expression that matches the path")
        }
        PathMatch::Default => {
            format!("no rule takes the path; the default backend of host {}", route.host)
        }
    }
}

fn matched(position: usize, route: &Route, why: String) -> Matched {
    Matched {
        position,
        host: route.host.clone(),
        path: route.path.clone(),
        ingress: route.ingress.clone(),
        field: route.field.clone(),
        why,
    }
}

/// The other routes that match, best first.
fn beaten(alb: &AlbPlan, host: &str, path: &str, winner: Option<(usize, &Route)>) -> Vec<Matched> {
    let Some((winner, best)) = winner else { return Vec::new() };
    let mut others: Vec<(Rank, usize, &Route)> = alb
        .routes
        .iter()
        .enumerate()
        .filter(|(position, _)| *position != winner)
        .filter_map(|(position, route)| Some((rank(route, host, path)?, position, route)))
        .collect();
    others.sort_by_key(|&(rank, position, _)| (rank, position));
    others
        .into_iter()
        .map(|(_, position, route)| {
            let why = match (&best.path, &route.path) {
                (_, PathMatch::Default) => "a default backend only takes what no other rule takes",
                _ if best.host != route.host => "a more specific host takes the path",
                (PathMatch::Exact(_), _) => "an Exact path beats it",
                _ => "a longer path beats it",
            };
            matched(position, route, why.to_owned())
        })
        .collect()
}

/// A route's place among all that match a request; the least wins.
type Rank = (bool, u8, bool, std::cmp::Reverse<usize>, bool);

/// The router's rules, written down route by route; none where the route doesn't match. Far too
/// slow for traffic, which makes it the router's check in the tests.
fn rank(route: &Route, host: &str, path: &str) -> Option<Rank> {
    let parent = host.split_once('.').filter(|(label, _)| !label.is_empty());
    let host = match &route.host {
        HostMatch::Exact(own) => (own == host).then_some(0),
        HostMatch::Wildcard(suffix) => {
            parent.is_some_and(|(_, parent)| parent == suffix).then_some(1)
        }
        HostMatch::Any => Some(2),
    }?;
    let rooted = path.starts_with('/');
    let (matches, length) = match &route.path {
        PathMatch::Exact(own) => (rooted && own == path, own.len()),
        PathMatch::Prefix(own) => {
            let own = own.trim_end_matches('/');
            let rest = path.strip_prefix(own);
            let whole = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            (rooted && whole, own.len().max(1))
        }
        PathMatch::Regex(own) => {
            let regex = super::router::compile(own);
            (rooted && regex.is_ok_and(|regex| regex.is_match(path)), own.len())
        }
        PathMatch::Default => (true, 0),
    };
    let default = matches!(route.path, PathMatch::Default);
    let exact = matches!(route.path, PathMatch::Exact(_));
    let regex = matches!(route.path, PathMatch::Regex(_));
    matches.then_some((default, host, !exact, std::cmp::Reverse(length), regex))
}

impl fmt::Display for Matched {
    /// `Prefix /a on host a.example.com (Ingress shop/web, spec.rules[0].http.paths[0])`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on host {}", self.path, self.host)?;
        match &self.ingress {
            Some(ingress) => write!(f, " (Ingress {ingress}, {})", self.field),
            None => write!(f, " ({})", self.field),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Query { alb, https, host, path, client } = &self.query;
        let scheme = if *https { "https" } else { "http" };
        write!(f, "{scheme}://{host}{path} at the {alb} ALB")?;
        if let Some(client) = client {
            write!(f, " from {client}")?;
        }
        writeln!(f)?;
        if let Some(path) = &self.matched_path {
            writeln!(f, "  matched as:  {path}")?;
        }
        if *https {
            match &self.certificate {
                Some(secret) => writeln!(f, "  certificate: Secret {secret}")?,
                None => writeln!(f, "  certificate: the self-made default")?,
            }
        }
        match &self.route {
            Some(route) => {
                writeln!(f, "  route:       {route}")?;
                writeln!(f, "  because:     {}", route.why)?;
            }
            None if self.outcome == Outcome::BadRequest => {
                writeln!(f, "  route:       none is looked for")?;
            }
            None => writeln!(f, "  route:       none matches, and there is no default backend")?,
        }
        for route in &self.beaten {
            writeln!(f, "  beaten:      {route}: {}", route.why)?;
        }
        writeln!(f, "  answer:      {}", self.outcome)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RedirectToHttps => f.write_str("308 to the same URL under https"),
            Self::Forbidden => f.write_str("403, the client's address may not come"),
            Self::Redirect { status, location } => write!(f, "{status} to {location}"),
            Self::Unavailable { reason } => write!(f, "503, {reason}"),
            Self::BadRequest => f.write_str(
                "400, the path has a broken escape, or climbs above the root, or holds NUL",
            ),
            Self::NotFound => f.write_str("404"),
            Self::Forward { service, port, endpoints, path, host } => {
                write!(f, "from Service {service} port {port}, asked for {path}")?;
                if !host.is_empty() {
                    write!(f, " of host {host}")?;
                }
                match endpoints {
                    Endpoints::Dns { host, port } => {
                        write!(f, "\n  endpoints:   {host}:{port}, by DNS")
                    }
                    Endpoints::Static(endpoints) => {
                        f.write_str("\n  endpoints:  ")?;
                        for endpoint in endpoints {
                            write!(f, " {}", endpoint.address)?;
                            if endpoint.weight != 1 {
                                write!(f, " (weight {})", endpoint.weight)?;
                            }
                            if endpoint.terminating {
                                f.write_str(" (terminating)")?;
                            }
                        }
                        Ok(())
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
