use super::*;

fn options(kubeconfig: &Path, context: Option<&str>) -> Options {
    Options {
        kubeconfig: Some(kubeconfig.to_owned()),
        context: context.map(str::to_owned),
        namespace: None,
        agent: "tidegate-test/0".to_owned(),
        field: "source.kubernetes".to_owned(),
    }
}

const GOOD: &str = "\
apiVersion: v1
kind: Config
current-context: one
contexts:
- {name: one, context: {cluster: here, user: me}}
- {name: other, context: {cluster: nowhere, user: me}}
clusters:
- {name: here, cluster: {server: 'http://127.0.0.1:1'}}
users:
- {name: me, user: {token: secret-token}}
";

async fn attempt(text: &str, context: Option<&str>) -> Result<Cluster, ConnectError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    connect(&options(&path, context)).await
}

#[track_caller]
fn refused(result: Result<Cluster, ConnectError>, field: &str, words: &[&str]) {
    let error = result.map(|cluster| cluster.server).unwrap_err();
    assert_eq!(error.field, field, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} lacks {word:?}");
    }
}

#[tokio::test]
async fn a_kubeconfig_is_enough_and_the_namespace_has_a_default() {
    let cluster = attempt(GOOD, None).await.unwrap();
    assert_eq!(
        (cluster.namespace.as_str(), cluster.server.as_str()),
        (NAMESPACE, "http://127.0.0.1:1/")
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_named_with_its_key_and_a_remedy() {
    let kubeconfig = "source.kubernetes.kubeconfig";
    let missing = connect(&options(Path::new("/nonexistent/kubeconfig"), None)).await;
    refused(missing, kubeconfig, &["/nonexistent/kubeconfig", "may read"]);
    refused(attempt("{", None).await, kubeconfig, &["kubectl config view"]);
    let other = attempt(GOOD, Some("third")).await;
    refused(other, "source.kubernetes.context", &["third", "one of its contexts: one, other"]);
    refused(attempt(GOOD, Some("other")).await, kubeconfig, &["clusters", "nowhere"]);
    let server = GOOD.replace("server: 'http://127.0.0.1:1'", "insecure-skip-tls-verify: true");
    refused(attempt(&server, None).await, kubeconfig, &["clusters[].cluster.server", "https://"]);
    let authority = GOOD.replace("server:", "certificate-authority: /nonexistent/ca.crt, server:");
    refused(
        attempt(&authority, None).await,
        kubeconfig,
        &["certificate-authority", "/nonexistent"],
    );
}
