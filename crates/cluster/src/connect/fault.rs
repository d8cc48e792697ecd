//! Why the API can't be used, in words that say what to do.

use std::error::Error;
use std::io;

use kube::client::AuthError;

/// What is the matter with the way to the API. Whoever asks gets the same for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// 401.
    #[error(
        "it doesn't take the credentials (401 Unauthorized): {place}; put valid ones there, they \
         are read anew"
    )]
    Unauthorized {
        /// Where the credentials stand.
        place: String,
    },
    /// The credentials can't be read or made.
    #[error("there are no credentials: {place}: {reason}; correct that, it is read anew")]
    Credentials {
        /// Where they ought to stand.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// Nobody listens.
    #[error(
        "the connection is refused; see that the API server runs, and that {server} is where it is"
    )]
    Refused {
        /// Its URL.
        server: String,
    },
    /// The name is unknown.
    #[error("its name isn't found by DNS: {reason}; correct {server}, or see to the resolver")]
    Name {
        /// Its URL.
        server: String,
        /// What the resolver says.
        reason: String,
    },
    /// Packets go nowhere.
    #[error(
        "there is no connection to {server} in time; see that it is reachable from here, and its \
         name known"
    )]
    Silent {
        /// Its URL.
        server: String,
    },
    /// Another one answers, or the kubeconfig has another CA.
    #[error("its certificate isn't trusted: {reason}; {place} has to have the CA of {server}")]
    Certificate {
        /// Where the CA stands.
        place: String,
        /// Its URL.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Whatever else.
    #[error("{0}")]
    Other(String),
}

/// Where things stand, for people.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// The API's URL.
    pub(super) server: String,
    /// Who asks, and by which file.
    pub(super) credentials: String,
    /// Where the CA is.
    pub(super) authority: String,
}

impl Places {
    /// What an error of the connection means.
    pub(super) fn fault(&self, error: &(dyn Error + 'static)) -> Fault {
        let server = || self.server.clone();
        let mut said = None;
        for cause in causes(error) {
            if cause.is::<AuthError>() {
                let place = self.credentials.clone();
                return Fault::Credentials { place, reason: super::chain(cause) };
            }
            if let Some(error) = cause.downcast_ref::<rustls::Error>() {
                return self.of_tls(error);
            }
            let text = cause.to_string();
            if text.starts_with("dns error") {
                let reason = cause.source().map_or(text, ToString::to_string);
                return Fault::Name { server: server(), reason };
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                match error.kind() {
                    io::ErrorKind::ConnectionRefused => {
                        said = Some(Fault::Refused { server: server() })
                    }
                    io::ErrorKind::TimedOut
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable => {
                        said = Some(Fault::Silent { server: server() });
                    }
                    _ => {}
                }
            }
        }
        said.unwrap_or_else(|| Fault::Other(super::chain(error)))
    }

    fn of_tls(&self, error: &rustls::Error) -> Fault {
        match error {
            rustls::Error::InvalidCertificate(_) => Fault::Certificate {
                place: self.authority.clone(),
                server: self.server.clone(),
                reason: error.to_string(),
            },
            rustls::Error::AlertReceived(_) => Fault::Credentials {
                place: self.credentials.clone(),
                reason: format!("the client's certificate isn't taken: {error}"),
            },
            rustls::Error::InvalidMessage(_) => Fault::Other(format!(
                "what answers at {} doesn't speak TLS; correct the URL",
                self.server
            )),
            other => Fault::Other(format!("TLS: {other}")),
        }
    }
}

/// The fault that an error comes of, if it is one of these.
pub(super) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Fault> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// An error and its causes, also those that an I/O error carries.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| {
        let cause = *cause;
        let carried = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match carried {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}
