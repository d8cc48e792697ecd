use model::Severity;
use model::snapshot::Balance;

use super::*;

/// What the annotations mean, and how many errors and warnings they give.
fn parsed(pairs: &[(&str, &str)]) -> (Annotations, usize, usize) {
    let annotations: BTreeMap<String, String> =
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let origins = BTreeMap::new();
    let mut report = Report::new(&origins);
    let object = ObjectRef::cluster("Ingress", "web");
    let annotations = read(&object, Some(&annotations), &mut report);
    let diagnostics = report.finish();
    for diagnostic in &diagnostics {
        assert!(diagnostic.field.starts_with("metadata.annotations[\""), "{diagnostic}");
        assert!(!diagnostic.reason.is_empty() && !diagnostic.remedy.is_empty(), "{diagnostic}");
    }
    let errors = diagnostics.iter().filter(|finding| finding.severity == Severity::Error).count();
    (annotations, errors, diagnostics.len() - errors)
}

fn nginx(name: &str, value: &str) -> (Annotations, usize, usize) {
    parsed(&[(&format!("{NGINX_PREFIX}{name}"), value)])
}

#[test]
fn no_annotations_are_the_defaults() {
    assert_eq!(parsed(&[]), (Annotations::default(), 0, 0));
    assert_eq!(parsed(&[("example.com/ssl-redirect", "x")]), (Annotations::default(), 0, 0));
}

#[test]
fn protections_that_cannot_be_given_refuse_the_ingress() {
    let refusing = [
        ("auth-url", "https://auth.test"),
        ("auth-type", "basic"),
        ("auth-secret", "x"),
        ("auth-signin", "x"),
        ("auth-tls-secret", "x"),
        ("auth-tls-match-cn", "x"),
        ("auth-something-new", ""),
        ("satisfy", "any"),
        ("limit-rps", "5"),
        ("limit-rpm", "5"),
        ("limit-connections", "5"),
        ("limit-something-new", "5"),
        ("global-rate-limit", "5"),
        ("enable-global-auth", "true"),
        ("enable-modsecurity", "true"),
        ("modsecurity-snippet", "x"),
        ("modsecurity-something-new", "x"),
        ("server-snippet", "x"),
        ("configuration-snippet", "x"),
        ("backend-protocol", "HTTPS"),
        ("secure-backends", "true"),
        ("ssl-passthrough", "true"),
        ("ssl-passthrough", "perhaps"),
        ("whitelist-source-range", ""),
        ("allowlist-source-range", "10.0.0.0/99"),
        ("denylist-source-range", "x"),
        ("force-ssl-redirect", "perhaps"),
        ("canary", "perhaps"),
    ];
    for (name, value) in refusing {
        let (annotations, errors, warnings) = nginx(name, value);
        assert_eq!((errors, warnings), (1, 0), "{name}: {value}");
        let reason = annotations.refused.unwrap_or_default();
        assert!(reason.contains(name), "{name}: {value}: {reason:?}");
    }
}

#[test]
fn what_is_done_anyway_is_accepted_without_a_word() {
    let given = [
        ("backend-protocol", "HTTP"),
        ("secure-backends", "false"),
        ("ssl-passthrough", "false"),
        ("satisfy", "all"),
        ("proxy-buffering", "off"),
        ("proxy-request-buffering", "off"),
        ("proxy-http-version", "1.1"),
        ("websocket-services", "anything"),
        ("limit-rps", "0"),
        ("enable-modsecurity", "false"),
        ("configuration-snippet", "  \n"),
        ("canary", "false"),
    ];
    for (name, value) in given {
        assert_eq!(nginx(name, value), (Annotations::default(), 0, 0), "{name}: {value}");
    }
}

#[test]
fn what_only_tunes_gets_a_warning_and_serves() {
    let tuning = [
        ("affinity", "cookie"),
        ("proxy-buffering", "on"),
        ("proxy-buffer-size", "8k"),
        ("proxy-http-version", "1.0"),
        ("auth-realm", "x"),
        ("auth-keepalive-requests", "1"),
        ("limit-burst-multiplier", "2"),
        ("limit-rate", "1"),
        ("canary-weight", "5"),
        ("modsecurity-transaction-id", "x"),
        ("load-balance", "ip_hash"),
        ("proxy-body-size", "much"),
        ("app-root", "app"),
        ("ssl-redirect", "perhaps"),
        ("no-such-thing", ""),
    ];
    for (name, value) in tuning {
        assert_eq!(nginx(name, value), (Annotations::default(), 0, 1), "{name}: {value}");
    }
}

#[test]
fn what_is_missed_most_says_what_happens_instead() {
    for (name, value, consequence) in [
        ("affinity", "cookie", "any endpoint may get a client's next request"),
        ("upstream-hash-by", "$remote_addr", "any endpoint may get a client's next request"),
        ("server-alias", "b.test", "requests for these hosts don't come here"),
        ("custom-http-errors", "404", "errors reach the client as they are"),
        ("default-backend", "errors", "the answer is 503"),
        ("from-to-www-redirect", "true", "with or without www, don't come here"),
    ] {
        let annotations = BTreeMap::from([(format!("{NGINX_PREFIX}{name}"), value.to_owned())]);
        let origins = BTreeMap::new();
        let mut report = Report::new(&origins);
        read(&ObjectRef::cluster("Ingress", "web"), Some(&annotations), &mut report);
        let finding = report.finish().pop().unwrap();
        assert_eq!(finding.severity, Severity::Warning, "{finding}");
        assert!(finding.reason.contains(consequence), "{finding}");
    }
    assert_eq!(nginx("from-to-www-redirect", "false"), (Annotations::default(), 0, 0));
}

#[test]
fn own_prefix_wins_and_a_difference_is_a_warning() {
    let same = parsed(&[
        ("nginx.ingress.kubernetes.io/load-balance", "round_robin"),
        ("tidegate.io/load-balance", "round_robin"),
    ]);
    assert_eq!((same.0.policy.balance, same.1, same.2), (Balance::RoundRobin, 0, 0));
    let different = parsed(&[
        ("nginx.ingress.kubernetes.io/load-balance", "ewma"),
        ("tidegate.io/load-balance", "round_robin"),
    ]);
    assert_eq!((different.0.policy.balance, different.1, different.2), (Balance::RoundRobin, 0, 1));
}

#[test]
fn new_name_of_the_allow_list_wins_within_a_prefix_and_our_prefix_over_both() {
    let shown = |pairs: &[(&str, &str)]| {
        let (annotations, errors, warnings) = parsed(pairs);
        let nets: Vec<String> = annotations.policy.allow.iter().map(ToString::to_string).collect();
        (nets.join(","), errors, warnings)
    };
    let new = ("nginx.ingress.kubernetes.io/allowlist-source-range", "10.0.0.0/8");
    let old = ("nginx.ingress.kubernetes.io/whitelist-source-range", "11.0.0.0/8");
    let own = ("tidegate.io/whitelist-source-range", "12.0.0.0/8");
    assert_eq!(shown(&[old]), ("11.0.0.0/8".into(), 0, 0));
    assert_eq!(shown(&[new, old]), ("10.0.0.0/8".into(), 0, 1));
    assert_eq!(shown(&[new, old, own]), ("12.0.0.0/8".into(), 0, 2));
}

#[test]
fn redirects_to_https_are_forced_or_follow_the_alb() {
    let redirect = |pairs: &[(&str, &str)]| parsed(pairs).0.policy.ssl_redirect;
    assert_eq!(redirect(&[]), SslRedirect::Inherit);
    assert_eq!(redirect(&[("tidegate.io/ssl-redirect", "true")]), SslRedirect::On);
    assert_eq!(redirect(&[("tidegate.io/ssl-redirect", "false")]), SslRedirect::Off);
    assert_eq!(
        redirect(&[
            ("tidegate.io/ssl-redirect", "false"),
            ("tidegate.io/force-ssl-redirect", "true"),
        ]),
        SslRedirect::Force
    );
}

#[test]
fn redirect_has_the_usual_code_unless_another_is_given() {
    let redirect = |pairs: &[(&str, &str)]| {
        parsed(pairs).0.policy.redirect.map(|redirect| (redirect.status, redirect.location))
    };
    let permanent = ("tidegate.io/permanent-redirect", "/p");
    let temporal = ("tidegate.io/temporal-redirect", "/t");
    assert_eq!(redirect(&[permanent]), Some((301, "/p".into())));
    assert_eq!(redirect(&[temporal]), Some((302, "/t".into())));
    assert_eq!(redirect(&[permanent, temporal]), Some((302, "/t".into())));
    let code = ("tidegate.io/permanent-redirect-code", "308");
    assert_eq!(redirect(&[permanent, code]), Some((308, "/p".into())));
    assert_eq!(redirect(&[code]), None);
}

#[test]
fn long_values_are_cut_in_diagnostics() {
    let long = "ä".repeat(500);
    let shown = crate::report::shown(&long);
    assert_eq!(shown.chars().count(), 121);
}
