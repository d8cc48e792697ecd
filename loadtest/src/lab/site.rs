//! What every product has to serve: hosts and paths, all on one backend.

/// Hosts, and the same paths below each.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    hosts: Vec<String>,
    paths: Vec<String>,
}

/// One host and path of a site.
#[derive(Clone, Debug)]
pub(crate) struct Route<'a> {
    /// The host.
    pub(crate) host: &'a str,
    /// A path prefix.
    pub(crate) path: String,
}

impl Site {
    /// 100 hosts, everything below each on the backend.
    pub(crate) fn hundred_hosts() -> Self {
        Self { hosts: (0..100).map(host).collect(), paths: vec!["/".to_owned()] }
    }

    /// As many routes as asked for, ten a host, so that what differs is the table's size alone.
    pub(crate) fn with_routes(routes: usize) -> Self {
        Self {
            hosts: (0..routes.div_ceil(10)).map(host).collect(),
            paths: (0..routes.min(10)).map(|path| format!("/service-{path}")).collect(),
        }
    }

    /// The hosts.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The path prefixes below each host.
    pub(crate) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Every host with every path.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Route<'_>> {
        self.hosts
            .iter()
            .flat_map(|host| self.paths.iter().map(move |path| Route { host, path: path.clone() }))
    }
}

/// A host's name; all lie below one wildcard certificate.
fn host(number: usize) -> String {
    format!("host-{number:04}.{}", super::certificate::DOMAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_exactly_the_routes_asked_for() {
        for routes in [10, 1_000, 10_000] {
            assert_eq!(Site::with_routes(routes).routes().count(), routes);
        }
        assert_eq!(Site::hundred_hosts().routes().count(), 100);
    }
}
