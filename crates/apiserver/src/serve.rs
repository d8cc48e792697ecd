//! One request: who asks, what for, faults, and the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT, WARNING};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::access::{Access, Wish};
use crate::body::Answer;
use crate::control;
use crate::discovery;
use crate::events;
use crate::faults::{Caller, Effect, Faults};
use crate::form::Form;
use crate::kinds::{Kind, View};
use crate::list;
use crate::manifest;
use crate::protobuf;
use crate::refusal::Refusal;
use crate::request::{Parameters, Target};
use crate::selector::Selection;
use crate::store::Store;
use crate::watch::Watch;
use crate::write::{Ask, Done, Patch, Preconditions};

/// As etcd and the API server have it, about.
const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) access: Access,
    pub(crate) bookmark_every: Duration,
}

/// The connection is to break instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection breaks, as was asked for")]
pub(crate) struct Broken;

/// A request taken apart.
struct Asked {
    method: Method,
    path: String,
    parameters: Parameters,
    headers: HeaderMap,
    body: Bytes,
    user: String,
}

impl Asked {
    fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Result<Value, Refusal> {
        if let Some(decoded) = protobuf::decode(&self.body) {
            return decoded;
        }
        manifest::one(&self.body)
            .map_err(|error| Refusal::bad_request(format!("error decoding the body: {error}")))
    }
}

type Reply = Response<Answer>;

impl Shared {
    /// Answers a request, or breaks the connection where a fault wants that.
    pub(crate) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Reply, Broken> {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, LARGEST_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                let message = format!("limit is {LARGEST_BODY} bytes");
                return Ok(refused(&Refusal::new(413, "RequestEntityTooLarge", message)));
            }
        };
        let asked = Asked {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            parameters: Parameters::parse(parts.uri.query().unwrap_or_default()),
            headers: parts.headers,
            body,
            user: String::new(),
        };
        if let Some(rest) = asked.path.strip_prefix("/_double/") {
            return Ok(control::handle(&self, &asked.method, rest, &asked.parameters, &asked.body));
        }
        let mut caller = Caller {
            user_agent: asked.header(USER_AGENT).to_owned(),
            address: Some(peer.ip()),
            verb: "other".to_owned(),
            ..Caller::default()
        };
        let user = match self
            .access
            .user(asked.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()))
        {
            Ok(user) => user,
            Err(refusal) => {
                self.faults.count(&caller, refusal.code);
                return Ok(refused(&refusal));
            }
        };
        caller.user.clone_from(&user);
        let asked = Asked { user, ..asked };
        let target = self.target(&asked);
        if let Some(target) = &target {
            let watch = asked.parameters.is_true("watch");
            target.verb(&asked.method, watch).clone_into(&mut caller.verb);
            caller.resource = match &target.subresource {
                Some(sub) => format!("{}/{sub}", target.kind.plural),
                None => target.kind.plural.clone(),
            };
        }

        let mut lose_answer = false;
        for effect in self.faults.effects(&caller) {
            match effect {
                Effect::Delay { milliseconds } => {
                    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                }
                Effect::Status { code, retry_after } => {
                    self.faults.count(&caller, code);
                    return Ok(refused(&of_code(code, retry_after)));
                }
                Effect::LoseRequest => {
                    self.faults.count(&caller, 0);
                    return Err(Broken);
                }
                Effect::LoseAnswer => lose_answer = true,
                Effect::Hang => self.faults.connected(&caller).await,
            }
        }
        let reply =
            self.answer(&asked, target, &caller).unwrap_or_else(|refusal| refused(&refusal));
        // The answer too comes only through when the partition is over.
        self.faults.connected(&caller).await;
        self.faults.count(&caller, if lose_answer { 0 } else { reply.status().as_u16() });
        if lose_answer { Err(Broken) } else { Ok(reply) }
    }

    fn target(&self, asked: &Asked) -> Option<Target> {
        let parts: Vec<&str> = asked.path.split('/').filter(|part| !part.is_empty()).collect();
        let kinds = self.store.lock().kinds.clone();
        match parts.as_slice() {
            ["api", version, rest @ ..] => Target::parse(&kinds, "", version, rest),
            ["apis", group, version, rest @ ..] => Target::parse(&kinds, group, version, rest),
            _ => None,
        }
    }

    fn answer(
        &self,
        asked: &Asked,
        target: Option<Target>,
        caller: &Caller,
    ) -> Result<Reply, Refusal> {
        match target {
            Some(target) => self.objects(asked, &target, caller),
            None => self.other(asked),
        }
    }

    /// What isn't about objects.
    fn other(&self, asked: &Asked) -> Result<Reply, Refusal> {
        let kinds = self.store.lock().kinds.clone();
        let parts: Vec<&str> = asked.path.split('/').filter(|part| !part.is_empty()).collect();
        if let ["apis", "authorization.k8s.io", "v1", review] = parts.as_slice()
            && asked.method == Method::POST
        {
            let body = asked.json()?;
            let answer = match *review {
                "selfsubjectaccessreviews" => self.access.review(&asked.user, body),
                "selfsubjectrulesreviews" => self.access.rules(&asked.user, body, &kinds),
                _ => return Err(Refusal::no_such_path()),
            };
            return Ok(json(StatusCode::CREATED, &answer));
        }
        if asked.method != Method::GET {
            return Err(Refusal::no_such_path());
        }
        let found = match parts.as_slice() {
            ["version"] => Some(discovery::version()),
            ["healthz" | "readyz" | "livez", ..] => {
                let reply = Response::builder().header(CONTENT_TYPE, "text/plain");
                return Ok(finish(reply.body(Answer::whole("ok"))));
            }
            ["api"] => Some(discovery::core()),
            ["api", version] => discovery::resources(&kinds, "", version),
            ["apis"] => Some(discovery::groups(&kinds)),
            ["apis", group] => discovery::one_group(&kinds, group),
            ["apis", group, version] => discovery::resources(&kinds, group, version),
            ["openapi", "v3"] => Some(discovery::openapi(&kinds)),
            ["openapi", "v3", "api", version] => discovery::openapi_of(&kinds, "", version),
            ["openapi", "v3", "apis", group, version] => {
                discovery::openapi_of(&kinds, group, version)
            }
            _ => None,
        };
        found.map(|value| json(StatusCode::OK, &value)).ok_or_else(Refusal::no_such_path)
    }

    fn objects(&self, asked: &Asked, target: &Target, caller: &Caller) -> Result<Reply, Refusal> {
        let kind = &target.kind;
        let watch = asked.parameters.is_true("watch") || target.watch;
        let verb = target.verb(&asked.method, watch);
        self.access.check(&Wish {
            user: asked.user.clone(),
            verb: verb.to_owned(),
            group: kind.group.clone(),
            resource: kind.plural.clone(),
            subresource: target.subresource.clone().unwrap_or_default(),
            namespace: target.namespace.clone().unwrap_or_default(),
            // A list of one object by its name counts as that object's.
            name: target.name.clone().or_else(|| named(&asked.parameters)).unwrap_or_default(),
        })?;
        let status = match target.subresource.as_deref() {
            None => false,
            Some("status") if kind.status => true,
            Some("finalize") if kind.kind == "Namespace" => false,
            Some(_) => return Err(Refusal::no_such_path()),
        };
        if verb == "other" {
            let message = "the server does not allow this method on the requested resource";
            return Err(Refusal::new(405, "MethodNotAllowed", message));
        }
        let form = Form::wanted(asked.header(ACCEPT), asked.parameters.get("includeObject"));
        match verb {
            "get" => self.get(target, form),
            "list" => self.list(asked, target, form),
            "watch" => self.watch(asked, target, form, caller),
            "deletecollection" => self.delete_all(asked, target),
            _ => self.write(asked, target, verb, status, form),
        }
    }

    fn get(&self, target: &Target, form: Form) -> Result<Reply, Refusal> {
        let name = target.name.clone().unwrap_or_default();
        let key = crate::object::key(target.namespace.as_deref().unwrap_or_default(), &name);
        let object = self.store.lock().get(&target.kind, &key).cloned();
        let object = object.ok_or_else(|| Refusal::not_found(&target.kind, &name))?;
        if form == Form::Whole && target.kind.view == View::Plain {
            return Ok(bytes(StatusCode::OK, object.json.clone()));
        }
        Ok(bytes(StatusCode::OK, form.one(&target.kind, &object)))
    }

    fn selection(&self, asked: &Asked, target: &Target) -> Result<Selection, Refusal> {
        let parameter = |name: &str| asked.parameters.get(name);
        let mut selection = Selection::parse(
            &target.kind,
            target.namespace.as_deref(),
            parameter("labelSelector"),
            parameter("fieldSelector"),
        )?;
        selection.name.clone_from(&target.name);
        Ok(selection)
    }

    fn list(&self, asked: &Asked, target: &Target, form: Form) -> Result<Reply, Refusal> {
        let selection = self.selection(asked, target)?;
        let page = {
            let contents = self.store.lock();
            list::list(&contents, &target.kind, &selection, &asked.parameters)?
        };
        Ok(bytes(StatusCode::OK, form.list(&target.kind, &page.objects, page.meta)))
    }

    fn watch(
        &self,
        asked: &Asked,
        target: &Target,
        form: Form,
        caller: &Caller,
    ) -> Result<Reply, Refusal> {
        let selection = self.selection(asked, target)?;
        let watch = Watch::parse(
            &self.store,
            target.kind.clone(),
            selection,
            form,
            &asked.parameters,
            self.bookmark_every,
        )?;
        let (sender, receiver) = mpsc::channel(4);
        // It ends with its client: the channel closes.
        tokio::spawn(watch.run(self.store.clone(), self.faults.clone(), caller.clone(), sender));
        let reply = Response::builder().header(CONTENT_TYPE, "application/json");
        Ok(finish(reply.body(Answer::Stream(receiver))))
    }

    fn ask(&self, asked: &Asked, target: &Target, status: bool) -> Result<Ask, Refusal> {
        let stored = match target.kind.view {
            View::Plain => target.kind.clone(),
            View::Events => {
                let kinds = self.store.lock().kinds.clone();
                kinds.at("", "v1", "events").cloned().ok_or_else(Refusal::no_such_path)?
            }
        };
        let agent = asked.header(USER_AGENT);
        let manager = asked.parameters.get("fieldManager").unwrap_or_else(|| {
            let name = agent.split('/').next().unwrap_or_default();
            if name.is_empty() { "unknown" } else { name }
        });
        if manager.len() > 128 {
            return Err(Refusal::new(
                422,
                "Invalid",
                "fieldManager: Too long: may not be more than 128 bytes",
            ));
        }
        let dry_run = match asked.parameters.get("dryRun") {
            None => false,
            Some("All") => true,
            Some(other) => {
                let message = format!("dryRun: Unsupported value: {other:?}");
                return Err(Refusal::new(422, "Invalid", message));
            }
        };
        Ok(Ask {
            kind: stored,
            namespace: target.namespace.clone().unwrap_or_default(),
            name: target.name.clone().unwrap_or_default(),
            status,
            manager: manager.to_owned(),
            dry_run,
            strict: asked.parameters.get("fieldValidation") == Some("Strict"),
        })
    }

    fn write(
        &self,
        asked: &Asked,
        target: &Target,
        verb: &str,
        status: bool,
        form: Form,
    ) -> Result<Reply, Refusal> {
        let kind = &target.kind;
        let ask = self.ask(asked, target, status)?;
        if verb == "delete" {
            return self.delete(asked, kind, &ask, form);
        }
        if kind.namespaced && ask.namespace.is_empty() {
            return Err(Refusal::bad_request("an empty namespace may not be set during creation"));
        }
        let mut body = asked.json()?;
        if kind.view == View::Events {
            events::into_core(&mut body);
        }
        let done = match verb {
            "create" if target.name.is_some() => {
                let message = "the server does not allow this method on the requested resource";
                return Err(Refusal::new(405, "MethodNotAllowed", message));
            }
            "create" => self.store.lock().create(&ask, body)?,
            "update" => self.store.lock().update(&ask, body)?,
            _ => {
                let patch = patch(asked, body)?;
                self.store.lock().patch(&ask, patch)?
            }
        };
        let code = if done.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(written(asked, code, kind, &done, form))
    }

    fn delete(&self, asked: &Asked, kind: &Kind, ask: &Ask, form: Form) -> Result<Reply, Refusal> {
        let options = if asked.body.is_empty() { Value::Null } else { asked.json()? };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let preconditions = Preconditions {
            uid: text(&options["preconditions"]["uid"]),
            version: text(&options["preconditions"]["resourceVersion"]),
        };
        let dry_run = ask.dry_run
            || options["dryRun"].as_array().is_some_and(|list| list.iter().any(|one| one == "All"));
        let ask = Ask { dry_run, ..ask.clone() };
        let done = self.store.lock().delete(&ask, &preconditions)?;
        let there = self.store.lock().get(&ask.kind, &done.object.key()).is_some();
        if there {
            return Ok(written(asked, StatusCode::OK, kind, &done, form));
        }
        let details = json!({
            "name": done.object.name,
            "group": kind.group,
            "kind": kind.plural,
            "uid": done.object.uid,
        });
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        });
        Ok(json(StatusCode::OK, &status))
    }

    fn delete_all(&self, asked: &Asked, target: &Target) -> Result<Reply, Refusal> {
        let ask = self.ask(asked, target, false)?;
        let selection = self.selection(asked, target)?;
        let mut contents = self.store.lock();
        let objects = contents.delete_all(&ask, &selection)?;
        let meta = json!({"resourceVersion": contents.version().to_string()});
        drop(contents);
        Ok(bytes(StatusCode::OK, Form::Whole.list(&target.kind, &objects, meta)))
    }
}

/// The name that a field selector asks for.
fn named(parameters: &Parameters) -> Option<String> {
    let fields = parameters.get("fieldSelector")?.split(',');
    fields.into_iter().find_map(|field| Some(field.strip_prefix("metadata.name=")?.to_owned()))
}

/// A patch by its media type.
fn patch(asked: &Asked, body: Value) -> Result<Patch, Refusal> {
    let media = asked.header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let force = asked.parameters.is_true("force");
    match media {
        "application/merge-patch+json" => Ok(Patch::Merge(body)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(body)),
        "application/json-patch+json" => Ok(Patch::Operations(body)),
        "application/apply-patch+yaml" | "application/apply-patch+json" => {
            if asked.parameters.get("fieldManager").is_none() {
                let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required \
                               value: is required for apply patch";
                return Err(Refusal::new(422, "Invalid", message));
            }
            Ok(Patch::Apply { config: body, force })
        }
        other => Err(Refusal::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format: {other:?}"),
        )),
    }
}

fn written(asked: &Asked, code: StatusCode, kind: &Kind, done: &Done, form: Form) -> Reply {
    let mut reply = bytes(code, form.one(kind, &done.object));
    if asked.parameters.get("fieldValidation") != Some("Ignore") {
        for field in &done.unknown {
            let text = format!("299 - \"unknown field \\\"{field}\\\"\"");
            if let Ok(value) = text.parse() {
                reply.headers_mut().append(WARNING, value);
            }
        }
    }
    reply
}

fn of_code(code: u16, retry_after: Option<u32>) -> Refusal {
    let (reason, message) = match code {
        429 => ("TooManyRequests", "Too many requests, please try again later."),
        500 => ("InternalError", "Internal error occurred: asked for"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => ("Timeout", "the server was unable to return a response in the time allotted"),
        _ => ("Unknown", "asked for"),
    };
    let mut refusal = Refusal::new(code, reason, message);
    refusal.retry_after = retry_after;
    if let Some(seconds) = retry_after {
        refusal.details = json!({"retryAfterSeconds": seconds});
    }
    refusal
}

/// The answer to what is refused.
pub(crate) fn refused(refusal: &Refusal) -> Reply {
    let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = json(code, &refusal.status());
    if let Some(seconds) = refusal.retry_after {
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    reply
}

/// An answer in JSON.
pub(crate) fn json(code: StatusCode, value: &Value) -> Reply {
    bytes(code, value.to_string().into_bytes())
}

fn bytes(code: StatusCode, body: impl Into<Bytes>) -> Reply {
    let reply = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    finish(reply.body(Answer::whole(body)))
}

fn finish(reply: Result<Reply, http::Error>) -> Reply {
    reply.expect("invariant: its headers are constants")
}
