//! Tidegate's load generator and side-by-side benchmarks.
//!
//! `loadtest compare` is the lab: it starts the gateway and its peers, configured alike, puts the
//! same load on each in turn and prints what each costs. `loadtest run` puts load on any address,
//! as a URL or a scenario's file says, and `loadtest diff` tells what got better or worse. It is no
//! test suite: figures are for people, and nothing here decides whether the gateway is correct.

mod backend;
mod cli;
mod compare;
mod diff;
mod faults;
mod lab;
mod load;
mod report;
mod run;
mod scenario;
mod system;

use std::process::ExitCode;

use clap::Parser;
use system::interrupt;

fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        cli::Command::Compare(arguments) => compare::compare(&arguments),
        cli::Command::Diff(arguments) => diff::diff(&arguments),
        cli::Command::Report(arguments) => report::report(&arguments),
        cli::Command::Run(arguments) => run::run(&arguments),
        cli::Command::Peers(arguments) => {
            lab::peers::fetch_named(&arguments.folder, &arguments.only).map(|()| true)
        }
        cli::Command::Backend(arguments) => backend::serve(&arguments).map(|()| true),
        cli::Command::Wireguard(arguments) => lab::vpn::wireguard::run(&arguments).map(|()| true),
        cli::Command::Overlay(arguments) => lab::vpn::overlay::run(&arguments).map(|()| true),
        cli::Command::Exec(arguments) => {
            let cli::Exec { core, parent, program, arguments } = arguments;
            system::child::exec(core, parent, &program, &arguments).map(|()| true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) if interrupt::is_asked() => ExitCode::from(interrupt::STATUS),
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            match error.is::<interrupt::Interrupted>() {
                true => ExitCode::from(interrupt::STATUS),
                false => ExitCode::FAILURE,
            }
        }
    }
}
