//! What is done with each annotation, by name.
//!
//! The names are those of ingress-nginx's "Annotations" page. Those that only tune nginx, or add
//! something that nobody's safety hangs on, get a warning; those that restrict who may come, or
//! change who answers, refuse the Ingress.

use super::{Draft, Value, values};

/// What becomes of an annotation that isn't honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// A warning; the Ingress serves without it.
    Warn,
    /// An error; the Ingress doesn't serve.
    Refuse,
}

use Otherwise::{Refuse, Warn};

/// How an annotation is treated.
#[derive(Clone, Copy)]
pub(super) enum Action {
    /// It is parsed and put to use.
    Read(fn(&mut Draft, Value<'_>) -> Result<(), String>, Otherwise),
    /// Nothing needs to be done if its value passes: it asks for what is done anyway.
    Given(fn(&str) -> bool, Otherwise),
    /// It is not honoured, whatever its value.
    Unknown(Otherwise),
}

/// One line of the table.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    /// The name without prefix; a `*` at the end stands for any rest.
    name: &'static str,
    pub(super) action: Action,
    /// What comes of it that it isn't honoured, where the name alone doesn't say so; else empty.
    pub(super) consequence: &'static str,
    /// What to write instead.
    pub(super) remedy: &'static str,
}

const fn read(
    name: &'static str,
    read: fn(&mut Draft, Value<'_>) -> Result<(), String>,
    otherwise: Otherwise,
    remedy: &'static str,
) -> Rule {
    Rule { name, action: Action::Read(read, otherwise), consequence: "", remedy }
}

const fn given(
    name: &'static str,
    given: fn(&str) -> bool,
    otherwise: Otherwise,
    remedy: &'static str,
) -> Rule {
    Rule { name, action: Action::Given(given, otherwise), consequence: "", remedy }
}

const fn unknown(name: &'static str, otherwise: Otherwise, remedy: &'static str) -> Rule {
    Rule { name, action: Action::Unknown(otherwise), consequence: "", remedy }
}

impl Rule {
    const fn so(mut self, consequence: &'static str) -> Self {
        self.consequence = consequence;
        self
    }
}

const BOOLEAN: &str = "write \"true\" or \"false\"";
const SECONDS: &str = "write a number of seconds, such as \"60\"; \
                       under tidegate.io/ also \"500ms\", \"30s\" or \"5m\"";
const URL: &str =
    "write an absolute URL or a path, percent-encoded, without variables such as $request_uri";
const CODE: &str = "write 301, 302, 303, 307 or 308";
const NETWORKS: &str = "write networks or addresses, such as \"10.0.0.0/8, 192.0.2.7\"";
const REMOVE: &str = "remove the annotation";
const NO_SNIPPETS: &str = "remove the snippet; there is no nginx to run it";
const NO_AUTH: &str =
    "put the authentication into the application, or a proxy for it behind this Ingress";
const NO_LIMITS: &str = "remove the annotation, or put the limit into the application";
const NO_WAF: &str = "remove the annotation, or put the firewall behind this Ingress";
const NO_CANARY: &str =
    "only canary \"true\" has a meaning, and isn't served; remove the annotation";
const SESSIONS: &str = "keep sessions where every endpoint finds them, then remove the annotation";
const ANY_ENDPOINT: &str = "any endpoint may get a client's next request";
const WWW: &str = "add an Ingress for the other name, with permanent-redirect to this one";
const HTTP_ONLY: &str = "write \"HTTP\", and let the Service speak it";

/// Sorted into what is put to use, what is given, and what isn't honoured. The first line whose
/// name fits counts.
const RULES: &[Rule] = &[
    // Put to use.
    read(
        "ssl-redirect",
        |draft, value| {
            draft.ssl_redirect = Some(values::boolean(value.text)?);
            Ok(())
        },
        Warn,
        BOOLEAN,
    ),
    read(
        "force-ssl-redirect",
        |draft, value| {
            draft.force_ssl_redirect = values::boolean(value.text)?;
            Ok(())
        },
        Refuse,
        BOOLEAN,
    ),
    read(
        "use-regex",
        |draft, value| {
            draft.use_regex = values::boolean(value.text)?;
            Ok(())
        },
        Refuse,
        BOOLEAN,
    ),
    read(
        "rewrite-target",
        |draft, value| {
            draft.policy.rewrite = Some(values::rewrite(value.text)?);
            Ok(())
        },
        Refuse,
        "write a path, with $1 to $9 for the groups of the rule's regular expression",
    ),
    read(
        "app-root",
        |draft, value| {
            draft.policy.app_root = Some(values::local_path(value.text)?);
            Ok(())
        },
        Warn,
        "write a path, such as \"/app\"",
    ),
    read(
        "permanent-redirect",
        |draft, value| {
            draft.permanent = Some(values::location(value.text)?);
            Ok(())
        },
        Refuse,
        URL,
    ),
    read(
        "permanent-redirect-code",
        |draft, value| {
            draft.permanent_code = Some(values::redirect_code(value.text)?);
            Ok(())
        },
        Warn,
        CODE,
    ),
    read(
        "temporal-redirect",
        |draft, value| {
            draft.temporal = Some(values::location(value.text)?);
            Ok(())
        },
        Refuse,
        URL,
    ),
    read(
        "temporal-redirect-code",
        |draft, value| {
            draft.temporal_code = Some(values::redirect_code(value.text)?);
            Ok(())
        },
        Warn,
        CODE,
    ),
    read(
        "proxy-connect-timeout",
        |draft, value| {
            draft.policy.timeouts.connect = Some(values::timeout(value)?);
            Ok(())
        },
        Warn,
        SECONDS,
    ),
    read(
        "proxy-send-timeout",
        |draft, value| {
            draft.policy.timeouts.send = Some(values::timeout(value)?);
            Ok(())
        },
        Warn,
        SECONDS,
    ),
    read(
        "proxy-read-timeout",
        |draft, value| {
            draft.policy.timeouts.read = Some(values::timeout(value)?);
            Ok(())
        },
        Warn,
        SECONDS,
    ),
    read(
        "proxy-body-size",
        |draft, value| {
            draft.policy.max_body = Some(values::size(value.text)?);
            Ok(())
        },
        Warn,
        "write a size such as \"8m\", or \"0\" for no limit",
    ),
    read(
        "load-balance",
        |draft, value| {
            draft.policy.balance = values::balance(value.text)?;
            Ok(())
        },
        Warn,
        "write \"least_requests\" or \"round_robin\"",
    ),
    read(
        "upstream-vhost",
        |draft, value| {
            draft.policy.upstream_host = Some(values::authority(value.text)?);
            Ok(())
        },
        Refuse,
        "write a host name, and a port if need be",
    ),
    read(
        "allowlist-source-range",
        |draft, value| {
            draft.policy.allow = values::networks(value.text)?;
            Ok(())
        },
        Refuse,
        NETWORKS,
    ),
    read(
        "denylist-source-range",
        |draft, value| {
            draft.policy.deny = values::networks(value.text)?;
            Ok(())
        },
        Refuse,
        NETWORKS,
    ),
    read(
        "canary",
        |draft, value| {
            draft.canary = values::boolean(value.text)?;
            Ok(())
        },
        Refuse,
        BOOLEAN,
    ),
    // Done anyway.
    given("backend-protocol", is_http, Refuse, HTTP_ONLY),
    given("secure-backends", is_false, Refuse, HTTP_ONLY),
    given("grpc-backend", is_false, Refuse, HTTP_ONLY),
    given("ssl-passthrough", is_false, Refuse, "remove the annotation; TLS ends at the ALB"),
    given("satisfy", |text| text == "all", Refuse, "remove the annotation; all conditions count"),
    given("proxy-buffering", is_off, Warn, "write \"off\"; bodies are streamed"),
    given("proxy-request-buffering", is_off, Warn, "write \"off\"; bodies are streamed"),
    given("proxy-http-version", |text| text == "1.1", Warn, "write \"1.1\""),
    given("proxy-max-temp-file-size", |_| true, Warn, REMOVE),
    given("websocket-services", |_| true, Warn, REMOVE),
    given("service-upstream", is_false, Warn, "remove the annotation; endpoints are used"),
    given("use-port-in-redirects", is_false, Warn, REMOVE),
    given("enable-cors", is_false, Warn, "let the application send the CORS headers"),
    given("enable-global-auth", is_false, Refuse, NO_AUTH),
    given("enable-modsecurity", is_false, Refuse, NO_WAF),
    given("enable-owasp-core-rules", is_false, Refuse, NO_WAF),
    given("enable-owasp-modsecurity-crs", is_false, Refuse, NO_WAF),
    given("limit-rps", is_zero, Refuse, NO_LIMITS),
    given("limit-rpm", is_zero, Refuse, NO_LIMITS),
    given("limit-connections", is_zero, Refuse, NO_LIMITS),
    given("limit-rate", is_zero, Warn, NO_LIMITS),
    given("limit-rate-after", is_zero, Warn, NO_LIMITS),
    given("global-rate-limit", is_zero, Refuse, NO_LIMITS),
    given("server-snippet", str::is_empty, Refuse, NO_SNIPPETS),
    given("configuration-snippet", str::is_empty, Refuse, NO_SNIPPETS),
    given("stream-snippet", str::is_empty, Refuse, NO_SNIPPETS),
    given("auth-snippet", str::is_empty, Refuse, NO_SNIPPETS),
    given("modsecurity-snippet", str::is_empty, Refuse, NO_SNIPPETS),
    given("from-to-www-redirect", is_false, Warn, WWW)
        .so("requests for the host's other name, with or without www, don't come here"),
    // Features that aren't there, where it matters what happens instead.
    unknown("affinity", Warn, SESSIONS).so(ANY_ENDPOINT),
    unknown("affinity-*", Warn, REMOVE),
    unknown("session-cookie-*", Warn, REMOVE),
    unknown("upstream-hash-by", Warn, SESSIONS).so(ANY_ENDPOINT),
    unknown("upstream-hash-by-*", Warn, REMOVE),
    unknown("server-alias", Warn, "write a rule, and a name in spec.tls, for each of these hosts")
        .so("requests for these hosts don't come here"),
    unknown("custom-http-errors", Warn, "let the application write its error pages")
        .so("an endpoint's errors reach the client as they are"),
    unknown(
        "default-backend",
        Warn,
        "write spec.defaultBackend for requests that no path takes; see to ready endpoints",
    )
    .so("without a ready endpoint the answer is 503"),
    // Of families that refuse, those that mean nothing by themselves.
    unknown("auth-realm", Warn, REMOVE),
    unknown("auth-always-set-cookie", Warn, REMOVE),
    unknown("auth-cache-key", Warn, REMOVE),
    unknown("auth-cache-duration", Warn, REMOVE),
    unknown("auth-keepalive*", Warn, REMOVE),
    unknown("auth-tls-verify-depth", Warn, REMOVE),
    unknown("auth-tls-error-page", Warn, REMOVE),
    unknown("limit-burst-multiplier", Warn, REMOVE),
    unknown("limit-whitelist", Warn, REMOVE),
    unknown("limit-allowlist", Warn, REMOVE),
    unknown("limit-req-status-code", Warn, REMOVE),
    unknown("limit-conn-status-code", Warn, REMOVE),
    unknown("modsecurity-transaction-id", Warn, REMOVE),
    unknown("canary-*", Warn, NO_CANARY),
    // Protections that aren't given.
    unknown("auth-*", Refuse, NO_AUTH),
    unknown("limit-*", Refuse, NO_LIMITS),
    unknown("modsecurity*", Refuse, NO_WAF),
    // Whatever else there is: it tunes nginx, or adds something that isn't done here.
    unknown("*", Warn, REMOVE),
];

/// How the annotation of this name is treated.
pub(super) fn rule(name: &str) -> Rule {
    let fits = |rule: &&Rule| match rule.name.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == rule.name,
    };
    RULES.iter().find(fits).copied().unwrap_or(unknown("*", Warn, REMOVE))
}

/// The name that another one stands for.
pub(super) fn alias(name: &str) -> Option<&'static str> {
    match name {
        "whitelist-source-range" => Some("allowlist-source-range"),
        _ => None,
    }
}

fn is_http(text: &str) -> bool {
    text.eq_ignore_ascii_case("HTTP")
}

fn is_off(text: &str) -> bool {
    text == "off"
}

fn is_false(text: &str) -> bool {
    values::boolean(text) == Ok(false)
}

fn is_zero(text: &str) -> bool {
    text == "0"
}
