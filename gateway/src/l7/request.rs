//! From a request's head to what happens with it: the route, and the head that goes upstream.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http1::{Field, FieldId, Framing, Method, RequestHead, Scheme, TargetForm, Version};
use ipnet::IpNet;
use model::AlbKind;
use plan::l7::{Target, Verdict, path};

use super::balance::Backend;
use super::buffer::Buf;
use super::context::ListenerContext;
use super::names;
use super::response::Answer;
use super::table::Local;
use crate::metrics::{RouteMetrics, Tally};

mod head;

pub(crate) use head::OpenSpan;

/// A request whose head has been read, with all that is needed after its bytes are gone.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) hold: Hold,
    /// Its route by the table's position, none where no rule takes it.
    pub(crate) route: Option<u32>,
    pub(crate) method: Method,
    pub(crate) version: Version,
    /// Whether the client's connection may stay open.
    pub(crate) keep_alive: bool,
    pub(crate) framing: Framing,
    /// The protocol change that the client asks for may be passed on.
    pub(crate) upgrade: bool,
    /// The head as the endpoint gets it, then body bytes that came with it. Where the gateway
    /// answers itself, just the facts for the log.
    pub(crate) head: Buf,
    pub(crate) facts: Facts,
    /// What the client sent, where the endpoint gets something else.
    pub(crate) original: Option<Box<Original>>,
    /// The client: behind trusted proxies, the one that they name.
    pub(crate) client: IpAddr,
    pub(crate) started: Instant,
}

/// Where in [`Request::head`] the facts for the log stand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) method: OpenSpan,
    pub(crate) host: OpenSpan,
    pub(crate) path: OpenSpan,
    pub(crate) user_agent: OpenSpan,
    pub(crate) request_id: OpenSpan,
}

/// A rewritten request as the client sent it.
#[derive(Debug)]
pub(crate) struct Original {
    pub(crate) host: Vec<u8>,
    pub(crate) path: Vec<u8>,
}

/// What a head's bytes belong to.
pub(crate) struct Received<'a> {
    pub(crate) context: &'a ListenerContext,
    pub(crate) peer: IpAddr,
    pub(crate) buf: &'a [u8],
    pub(crate) head: &'a RequestHead,
    pub(crate) fields: &'a [Field],
}

impl Request {
    /// Whether bytes of a body follow the head.
    pub(crate) fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::Empty | Framing::Length(0))
    }

    /// Its route's counters, or those for requests that no rule takes.
    #[inline]
    pub(crate) fn tally(&self, kind: AlbKind) -> Option<&Tally> {
        match &self.hold {
            Hold::Nothing => None,
            Hold::Table(local) => local.tally(kind, self.route),
            Hold::Metrics(metrics) => Some(&metrics.tally),
        }
    }

    /// Lets go of the table, for a request that may outlive many of them.
    pub(crate) fn let_go(&mut self, kind: AlbKind) {
        let Hold::Table(local) = &self.hold else { return };
        let Some(metrics) = local.metrics(kind, self.route) else { return };
        self.hold = Hold::Metrics(Arc::clone(metrics));
    }
}

/// What a request keeps of its generation.
#[derive(Debug)]
pub(crate) enum Hold {
    /// Nothing yet.
    Nothing,
    /// All of it: the one table that answers it.
    Table(Arc<Local>),
    /// Only the counters.
    Metrics(Arc<RouteMetrics>),
}

/// Decides. Either the head for upstream is ready, or the answer.
pub(crate) fn decide(received: &Received<'_>, started: Instant) -> (Request, Option<Answer>) {
    let Received { context, peer, buf, head, fields } = received;
    let trusted = contains(&context.settings.trusted_proxies, *peer);
    let client = if trusted { client_behind(context, *peer, buf, fields) } else { *peer };
    let local = context.shared.current();
    let mut request = Request {
        hold: Hold::Nothing,
        route: None,
        method: head.method,
        version: head.version,
        keep_alive: head.keep_alive && !context.is_draining(),
        framing: head.framing,
        upgrade: false,
        head: Buf::default(),
        facts: Facts::default(),
        original: None,
        client,
        started,
    };
    let answer = match choose(received, &local, &mut request, trusted) {
        Ok(rewritten) => {
            head::write(received, &local, &mut request, trusted, rewritten.as_deref());
            None
        }
        Err(answer) => {
            head::write_facts(received, &mut request);
            Some(answer)
        }
    };
    request.hold = Hold::Table(local);
    (request, answer)
}

/// Finds the route, and the upstream's path where that differs.
fn choose(
    received: &Received<'_>,
    local: &Local,
    request: &mut Request,
    trusted: bool,
) -> Result<Option<String>, Answer> {
    let Received { context, buf, head, fields, .. } = received;
    match head.form {
        TargetForm::Authority => return Err(Answer::status(405)),
        TargetForm::Absolute(scheme) if (scheme == Scheme::Https) != context.tls.is_some() => {
            return Err(Answer::status(421));
        }
        _ if head.method == Method::Trace => return Err(Answer::status(405)),
        _ => {}
    }
    let mut host_space = [0u8; 256];
    let host = names::host_for_matching(head.host.of(buf), &mut host_space);
    let path_space;
    let raw_path = head.path.of(buf);
    let path = match path::for_matching(raw_path) {
        Ok(path) => {
            path_space = path;
            &*path_space
        }
        Err(path::BadPath) => return Err(Answer::status(400)),
    };
    let Some(alb) = local.table.alb(context.kind) else { return Err(Answer::status(404)) };
    let Some(at) = alb.router.find(host, path) else { return Err(Answer::status(404)) };
    let Some(entry) = alb.entry(at) else { return Err(Answer::status(404)) };
    let Some(policy) = alb.policy(entry) else { return Err(Answer::status(404)) };
    request.route = u32::try_from(at).ok();
    let target = alb.answer(entry);
    let unavailable = matches!(target, Some(Target::Unavailable { .. }));
    let verdict = policy
        .verdict(is_https(received, trusted), path, Some(request.client), unavailable)
        .or_else(|| target.map(Target::verdict));
    match verdict {
        Some(Verdict::RedirectToHttps) if head.host.is_empty() => return Err(Answer::status(400)),
        Some(Verdict::RedirectToHttps) => {
            return Err(Answer::redirect(308, https_location(received)));
        }
        Some(Verdict::Forbidden) => return Err(Answer::status(403)),
        Some(Verdict::Redirect { status, location }) => {
            return Err(Answer::redirect(status, location.to_owned()));
        }
        Some(Verdict::Unavailable(_)) => return Err(Answer::failed(503, "route unavailable")),
        Some(Verdict::Forward(_)) | None => {}
    }
    if local.table.backend(entry).is_none_or(Backend::is_empty) {
        return Err(Answer::failed(503, "no endpoints"));
    }
    let limit = policy.max_body.or(context.settings.body_bytes);
    if let (Framing::Length(length), Some(limit)) = (head.framing, limit)
        && length > limit
    {
        return Err(Answer::status(413));
    }
    // RFC 9110, 7.6.2: a last hop that was asked to stop here answers itself.
    let spent = |f: &&Field| f.id == FieldId::MaxForwards && f.value.of(buf) == b"0";
    if head.method == Method::Options && fields.iter().any(|f| spent(&f)) {
        return Err(Answer::status(204));
    }
    if policy.rewrite.is_some() {
        // `/a(.*)` to `/x/$1` would lead `/a../b` out of `/x`.
        return match alb.router.rewrite(at, path) {
            Some(path) if path::has_dot_segments(path.as_bytes()) => Err(Answer::status(400)),
            rewritten => Ok(rewritten),
        };
    }
    // A path that could be matched as it came has no dots.
    if raw_path.starts_with(b"/") && matches!(path_space, Cow::Borrowed(_)) {
        return Ok(None);
    }
    // An endpoint that doesn't resolve dots would see another path than the rules have seen.
    Ok(path::has_dot_segments(raw_path).then(|| path::encode(path)))
}

pub(crate) fn contains(nets: &[IpNet], ip: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&ip))
}

/// Whether the client speaks HTTPS, to us or to a trusted proxy in front of us.
fn is_https(received: &Received<'_>, trusted: bool) -> bool {
    received.context.tls.is_some()
        || trusted
            && head::last(received.fields, FieldId::XForwardedProto)
                .is_some_and(|field| field.value.of(received.buf).eq_ignore_ascii_case(b"https"))
}

fn https_location(received: &Received<'_>) -> String {
    let text = |span: http1::Span| String::from_utf8_lossy(span.of(received.buf)).into_owned();
    let mut location = format!("https://{}", text(received.head.host));
    if received.context.settings.https_port != 443 {
        location.push_str(&format!(":{}", received.context.settings.https_port));
    }
    let path = text(received.head.path_and_query);
    if !path.starts_with('/') {
        location.push('/');
    }
    location + path.as_str()
}

/// The client's address as trusted proxies tell it: the last one in X-Forwarded-For that is not
/// itself a trusted proxy.
fn client_behind(context: &ListenerContext, peer: IpAddr, buf: &[u8], fields: &[Field]) -> IpAddr {
    let mut client = peer;
    let lines = fields.iter().rev().filter(|field| field.id == FieldId::XForwardedFor);
    for line in lines {
        for member in line.value.of(buf).rsplit(|&b| b == b',') {
            let Some(ip) = names::parse_forwarded_for(member) else { return client };
            let ip = ip.to_canonical();
            client = ip;
            if !contains(&context.settings.trusted_proxies, ip) {
                return client;
            }
        }
    }
    client
}
