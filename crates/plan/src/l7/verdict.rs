//! What a matched route does with a request: one answer, for traffic and for `explain`.

use std::net::IpAddr;

use super::{BackendId, Route, RoutePolicy, Target};

/// What a route does with a request, in this order: redirect to HTTPS, admission of the client,
/// the application's root, then the route's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// 308 to the same URL under HTTPS.
    RedirectToHttps,
    /// 403: the client may not come.
    Forbidden,
    /// A redirect to this absolute URL or path.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The Location header's value.
        location: &'a str,
    },
    /// 503, for this reason.
    Unavailable(&'a str),
    /// To a Service's endpoints.
    Forward(BackendId),
}

impl Route {
    /// What to do with a request that the router gave to this route. `path` is the target's path
    /// without query; `client` is the address that the access lists are about, none to assume
    /// one that may come.
    #[inline]
    pub fn verdict(&self, https: bool, path: &str, client: Option<IpAddr>) -> Verdict<'_> {
        let unavailable = matches!(self.target, Target::Unavailable { .. });
        self.policy
            .verdict(https, path, client, unavailable)
            .unwrap_or_else(|| self.target.verdict())
    }
}

impl Target {
    /// What it does with a request that the policy lets through.
    #[inline]
    pub fn verdict(&self) -> Verdict<'_> {
        match self {
            Self::Backend(backend) => Verdict::Forward(*backend),
            Self::Redirect { status, location } => Verdict::Redirect { status: *status, location },
            Self::Unavailable { reason } => Verdict::Unavailable(reason),
        }
    }
}

impl RoutePolicy {
    /// What the policy does with a request, whatever the target; none where it lets it through.
    /// Arguments as for [`Route::verdict`]; `unavailable` tells whether the target is that.
    #[inline]
    pub fn verdict(
        &self,
        https: bool,
        path: &str,
        client: Option<IpAddr>,
        unavailable: bool,
    ) -> Option<Verdict<'_>> {
        if self.ssl_redirect && !https {
            return Some(Verdict::RedirectToHttps);
        }
        if client.is_some_and(|client| !self.admits(client)) {
            return Some(Verdict::Forbidden);
        }
        match &self.app_root {
            Some(location) if path == "/" && !unavailable => {
                Some(Verdict::Redirect { status: 302, location })
            }
            _ => None,
        }
    }

    /// Whether the client may come: not on the deny list, and on the allow list if there is one.
    /// An IPv4 address mapped into IPv6 counts as IPv4.
    #[inline]
    pub fn admits(&self, client: IpAddr) -> bool {
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        let client = client.to_canonical();
        !self.deny.iter().any(|net| net.contains(&client))
            && (self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&client)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l7::{HostMatch, PathMatch};

    fn route(policy: RoutePolicy) -> Route {
        Route {
            host: HostMatch::Any,
            path: PathMatch::Prefix("/".into()),
            ingress: None,
            field: String::new(),
            target: Target::Backend(BackendId(0)),
            policy,
        }
    }

    fn client(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn redirect_to_https_comes_before_everything_else() {
        let route = route(RoutePolicy {
            ssl_redirect: true,
            app_root: Some("/app".into()),
            deny: vec!["0.0.0.0/0".parse().unwrap()],
            ..RoutePolicy::default()
        });
        assert_eq!(route.verdict(false, "/", client("192.0.2.1")), Verdict::RedirectToHttps);
        assert_eq!(route.verdict(true, "/", client("192.0.2.1")), Verdict::Forbidden);
        assert_eq!(
            route.verdict(true, "/", None),
            Verdict::Redirect { status: 302, location: "/app" }
        );
        assert_eq!(route.verdict(true, "/app", None), Verdict::Forward(BackendId(0)));
    }

    #[test]
    fn deny_list_beats_allow_list_and_mapped_addresses_count_as_ipv4() {
        let policy = RoutePolicy {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.1.0.0/16".parse().unwrap()],
            ..RoutePolicy::default()
        };
        let admits = |address: &str| policy.admits(address.parse().unwrap());
        assert!(admits("10.2.0.1"));
        assert!(admits("::ffff:10.2.0.1"));
        assert!(!admits("10.1.0.1"));
        assert!(!admits("::ffff:10.1.0.1"));
        assert!(!admits("192.0.2.1"));
        assert!(!admits("2001:db8::1"));
    }

    #[test]
    fn refused_route_answers_503_also_at_its_root() {
        let mut route =
            route(RoutePolicy { app_root: Some("/app".into()), ..RoutePolicy::default() });
        route.target = Target::Unavailable { reason: "because".into() };
        assert_eq!(route.verdict(true, "/", None), Verdict::Unavailable("because"));
    }
}
