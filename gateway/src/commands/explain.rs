//! `gateway explain`: which rule takes a request, and why.

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use ::plan::l7::{Explanation, Query, explain};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use model::AlbKind;

use super::{Input, Loaded, Output, write_json};

/// The arguments of `gateway explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// What a client asks for, such as `https://shop.example.com/cart`
    url: String,
    #[command(flatten)]
    input: Input,
    /// At this ALB only; otherwise at each that is enabled
    #[arg(long, value_enum)]
    alb: Option<AlbName>,
    /// The client's address, for rules that depend on it
    #[arg(long, value_name = "CLIENT_IP")]
    from: Option<IpAddr>,
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

/// Writes what happens to a request at each ALB, and on standard error what is wrong with the
/// objects. A request that nothing takes is no failure: it is answered with 404.
///
/// # Errors
/// If the URL is none, the ALB isn't enabled, or the configuration or the manifests' directory
/// can't be read.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<ExitCode> {
    let loaded = Loaded::from(&args.input)?;
    loaded.warn()?;
    let wanted = args.alb.map(|alb| match alb {
        AlbName::Public => AlbKind::Public,
        AlbName::Private => AlbKind::Private,
    });
    let kinds = loaded.settings.iter().map(|alb| alb.kind);
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
