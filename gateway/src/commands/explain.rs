//! `gateway explain`: which rule takes a request or a connection, and why.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use ::plan::l7::{Explanation, Query, Target, explain};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use model::{AlbKind, Diagnostic, ObjectKey, ObjectRef};

use super::{Input, Loaded, Output, write_json};

mod flow;

/// The arguments of `gateway explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// What a client asks for, such as `https://shop.example.com/cart`, or the connection that it
    /// makes, such as `tcp 198.51.100.7:40000 -> 203.0.113.10:443`
    #[arg(value_name = "URL|FLOW")]
    url: String,
    #[command(flatten)]
    input: Input,
    /// At this ALB only; otherwise at each that is enabled
    #[arg(long, value_enum)]
    alb: Option<AlbName>,
    /// The client's address, for rules that depend on it
    #[arg(long, value_name = "CLIENT_IP")]
    from: Option<IpAddr>,
    /// The interface that a connection comes in by; by default one of the side that its
    /// destination faces
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// An ALB's name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlbName {
    Public,
    Private,
}

/// Writes what happens to a request at each ALB, or to a connection, and on standard error what is wrong with the
/// objects that it meets. A request that nothing takes is no failure: it is answered with 404.
///
/// # Errors
/// If the URL or flow is none, the ALB or the L4 plane isn't enabled, or the configuration or the
/// manifests' directory can't be read.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<ExitCode> {
    let loaded = Loaded::from(&args.input)?;
    if args.url.contains("->") {
        return flow::run(&loaded, args, out);
    }
    let wanted = args.alb.map(|alb| match alb {
        AlbName::Public => AlbKind::Public,
        AlbName::Private => AlbKind::Private,
    });
    let kinds = loaded.settings.albs.iter().map(|alb| alb.kind);
    let kinds: Vec<AlbKind> =
        kinds.filter(|kind| wanted.is_none_or(|wanted| wanted == *kind)).collect();
    if kinds.is_empty() {
        bail!("--alb: that ALB is not enabled; enable it in the configuration or name the other");
    }
    let explain = |kind| {
        let query = Query::for_url(kind, &args.url, args.from)?;
        Ok(explain(&loaded.plan, query))
    };
    let explanations: Result<Vec<Explanation>, ::plan::l7::UrlError> =
        kinds.into_iter().map(explain).collect();
    let explanations = explanations.with_context(|| args.url.clone())?;
    write_findings(&loaded, &explanations, &mut io::stderr().lock())?;
    match args.output {
        Output::Json => write_json(out, &explanations)?,
        Output::Table => {
            for explanation in &explanations {
                writeln!(out, "{explanation}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the findings about what the request meets, and how many others there are: one of those
/// may be why it doesn't meet what it should.
fn write_findings(
    loaded: &Loaded,
    explanations: &[Explanation],
    err: &mut impl Write,
) -> Result<()> {
    let met: BTreeSet<ObjectRef> =
        explanations.iter().flat_map(|explanation| objects_met(loaded, explanation)).collect();
    let (about, others): (Vec<&Diagnostic>, Vec<_>) =
        loaded.diagnostics.iter().partition(|finding| met.contains(&finding.object));
    for finding in about {
        writeln!(err, "{finding}")?;
    }
    if !others.is_empty() {
        writeln!(
            err,
            "findings about other objects: {}; `gateway check` prints them",
            others.len()
        )?;
    }
    Ok(())
}

/// The Ingresses of the route and of those that it beats, their Services with the EndpointSlices,
/// and the certificate's Secret.
fn objects_met(loaded: &Loaded, explanation: &Explanation) -> Vec<ObjectRef> {
    let mut met = Vec::new();
    let secret = explanation.certificate.as_ref();
    met.extend(secret.map(|secret| ObjectRef::namespaced("Secret", secret)));
    let alb = loaded.plan.albs.get(&explanation.query.alb);
    for matched in explanation.route.iter().chain(&explanation.beaten) {
        match &matched.ingress {
            Some(ingress) => met.push(ObjectRef::namespaced("Ingress", ingress)),
            // The ALB's own default backend.
            None => met.push(ObjectRef::cluster("GatewayConfig", "gateway")),
        }
        let route = alb.and_then(|alb| alb.routes.get(matched.position));
        if let Some(Target::Backend(id)) = route.map(|route| &route.target)
            && let Some(backend) = loaded.plan.backends.get(id.0 as usize)
        {
            met.push(ObjectRef::namespaced("Service", &backend.service));
            met.extend(slices_of(loaded, &backend.service));
        }
    }
    met
}

fn slices_of(loaded: &Loaded, service: &ObjectKey) -> impl Iterator<Item = ObjectRef> {
    let slices = loaded.delivery.objects.endpoint_slices.iter();
    slices.filter_map(move |(key, slice)| {
        let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
        (key.namespace == service.namespace && *name == service.name)
            .then(|| ObjectRef::namespaced("EndpointSlice", key))
    })
}

#[cfg(test)]
mod tests {
    use ::plan::l7::Outcome;

    use super::*;

    const MANIFEST: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {name: asked, annotations: {nginx.ingress.kubernetes.io/affinity: cookie}}
spec:
  ingressClassName: tidegate-public
  rules:
  - host: asked.test
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {service: {name: web, port: {number: 80}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {name: other, annotations: {nginx.ingress.kubernetes.io/affinity: cookie}}
spec:
  ingressClassName: tidegate-public
  defaultBackend: {service: {name: missing, port: {number: 80}}}
  rules:
  - host: other.test
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {service: {name: missing, port: {number: 80}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [0.0.0.0]}]
ports: [{port: 8080}]
";

    fn findings(url: &str) -> (Outcome, String) {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("a.yaml"), MANIFEST).unwrap();
        let input = Input { config: None, manifests: Some(folder.path().to_path_buf()) };
        let loaded = Loaded::from(&input).unwrap();
        let query = Query::for_url(AlbKind::Public, url, None).unwrap();
        let explanation = explain(&loaded.plan, query);
        let mut text = Vec::new();
        write_findings(&loaded, std::slice::from_ref(&explanation), &mut text).unwrap();
        (explanation.outcome, String::from_utf8(text).unwrap())
    }

    #[test]
    fn findings_are_those_about_what_the_request_meets() {
        let (_, text) = findings("http://asked.test/");
        assert!(text.contains("Ingress default/asked") && text.contains("affinity"), "{text}");
        assert!(text.contains("EndpointSlice default/web-1"), "{text}");
        // Its default backend matches too, and is beaten.
        assert!(text.contains("Ingress default/other"), "{text}");
    }

    #[test]
    fn findings_about_other_objects_are_only_counted() {
        let (outcome, text) = findings("http://other.test/");
        assert!(matches!(outcome, Outcome::Unavailable { .. }), "{outcome:?}");
        assert!(text.contains("Ingress default/other"), "{text}");
        assert!(!text.contains("default/asked") && !text.contains("EndpointSlice"), "{text}");
        assert!(text.ends_with("findings about other objects: 2; `gateway check` prints them\n"));
    }
}
