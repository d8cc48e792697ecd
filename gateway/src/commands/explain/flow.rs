//! The half of `gateway explain` that answers for connections.

use std::io::{self, Write};
use std::process::ExitCode;

use ::plan::l4::explain::{Explanation, Flow, explain};
use anyhow::{Context, Result, bail};
use model::{Diagnostic, ObjectRef};

use super::super::{Loaded, Output, write_json};
use super::{ExplainArgs, slices_of};

/// Writes what happens to a connection, and on standard error what is wrong with the Service that
/// it meets. WIRE: the policies' judgement as `explain`'s last argument.
pub(super) fn run(loaded: &Loaded, args: &ExplainArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (Some(plan), Some(settings)) = (&loaded.l4, &loaded.settings.l4) else {
        bail!("the L4 plane is not enabled; write `l4: {{enabled: true}}` in the configuration");
    };
    if args.alb.is_some() || args.from.is_some() {
        bail!("--alb and --from are for URLs; a flow has the client's address in it");
    }
    let flow: Flow = args.url.parse().with_context(|| args.url.clone())?;
    let explanation = explain(plan, settings, flow, None);
    write_findings(loaded, &explanation, &mut io::stderr().lock())?;
    match args.output {
        Output::Json => write_json(out, &explanation)?,
        Output::Table => write!(out, "{explanation}")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_findings(loaded: &Loaded, explanation: &Explanation, err: &mut impl Write) -> Result<()> {
    let mut met: Vec<ObjectRef> = Vec::new();
    if let Some((service, _)) = &explanation.service {
        met.push(ObjectRef::namespaced("Service", service));
        met.extend(slices_of(loaded, service));
    }
    let (about, others): (Vec<&Diagnostic>, Vec<_>) =
        loaded.diagnostics.iter().partition(|finding| met.contains(&finding.object));
    for finding in about {
        writeln!(err, "{finding}")?;
    }
    if !others.is_empty() {
        let others = others.len();
        writeln!(err, "findings about other objects: {others}; `gateway check` prints them")?;
    }
    Ok(())
}
